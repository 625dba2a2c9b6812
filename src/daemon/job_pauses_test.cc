// Pauses with a trainer that does what a test says: no kernel fails to freeze or to thaw when it is asked to. The store
// of the records is the real one, and the clock lies.
#include "daemon/job_pauses.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <latch>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/files.h"
#include "base/status.h"
#include "storage/store.h"
#include "telemetry/log.h"

namespace tandem::daemon {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Control = wire::Control;
using Standing = JobPauses::Standing;
using State = jobs::State;

class FakeTrainer : public PausableTrainer {
 public:
  absl::Status Freeze() override {
    ++freezes;
    frozen_by = std::this_thread::get_id();
    if (on_freeze) on_freeze();
    frozen = !absl::IsUnimplemented(freeze);  // one that is given up may still come to pass
    return freeze;
  }
  absl::Status Thaw() override {
    ++thaws;
    if (thaw.ok()) frozen = false;
    return thaw;
  }
  void Send(Control::Verb verb) override { told.push_back(verb); }
  isolation::Usage ReadUsage() const override {
    isolation::Usage usage;
    usage.cpu_seconds = cpu_seconds;
    return usage;
  }
  void Kill() override {
    killed = true;
    frozen_when_killed = frozen;
  }

  // What it does...
  absl::Status freeze, thaw;
  std::function<void()> on_freeze;
  double cpu_seconds = 0;
  // ...and what was done to it.
  bool frozen = false, killed = false, frozen_when_killed = false;
  int freezes = 0, thaws = 0;
  std::thread::id frozen_by;
  std::vector<Control::Verb> told;
};

class JobPausesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) / StrCat("tandem_pauses_", getpid());
    fs::remove_all(folder_);
    store_ = *storage::Store::Open(folder_ / "tandem.db", jobs::Migrations());
    std::vector<std::string> recovered;
    jobs_ = *jobs::JobStore::Open(store_.get(), &clock_, &recovered);
    pauses_ = std::make_unique<JobPauses>(
        JobPausesParts{.clock = &clock_, .jobs = jobs_.get(), .hold = [this](int32_t job, bool hold) {
                         std::lock_guard lock(mutex_);
                         held_[job] = hold;
                       }});
    job_ = RunJob(&trainer_);
  }
  void TearDown() override {
    pauses_.reset();
    jobs_.reset();
    store_.reset();
    fs::remove_all(folder_);
  }

  int32_t StartJob(PausableTrainer* trainer) {
    jobs::JobRecord record;
    record.name = "a";
    record.kind = "train";
    record.spec = "batch: 1\n";
    const int32_t job = jobs_->Submit(record).value().id;
    EXPECT_TRUE(jobs_->Starting(job).ok());
    pauses_->Add(job, trainer);
    return job;
  }
  int32_t RunJob(PausableTrainer* trainer) {
    const int32_t job = StartJob(trainer);
    EXPECT_TRUE(jobs_->Move(job, State::kRunning, "").ok());
    return job;
  }
  bool Held(int32_t job) {
    std::lock_guard lock(mutex_);
    return held_[job];
  }
  State StateNow() { return jobs_->Get(job_).value().state; }
  void Say(const std::string& phase) {
    wire::Progress progress;
    progress.set_phase(phase);
    jobs_->SetProgress(job_, progress);
  }

  // What a person asks for.
  absl::Status Ask(int32_t job, bool paused) {
    return pauses_->Anticipate(job, paused, [&] { return jobs_->RequestPause(job, paused); });
  }
  // A store that takes nothing.
  absl::Status AskInVain(bool paused) {
    return pauses_->Anticipate(job_, paused, [] { return Unavailable("another process holds the file open"); });
  }
  // What the control loop does about it.
  void LoopPauses() {
    const Standing standing = pauses_->Pause(job_);
    ASSERT_NE(standing, Standing::kRefused);
    const State to = standing == Standing::kFrozen ? State::kPaused : State::kPausing;
    ASSERT_TRUE(jobs_->Move(job_, to, "").ok());
    pauses_->TellToRest(job_);
  }
  void LoopResumes() {
    ASSERT_TRUE(pauses_->Resume(job_));
    ASSERT_TRUE(jobs_->Move(job_, State::kRunning, "").ok());
  }
  void BePaused() {
    ASSERT_TRUE(Ask(job_, true).ok());
    LoopPauses();
    ASSERT_EQ(StateNow(), State::kPaused);
  }
  // It uses so much for 2 s, after which a paused trainer is looked at.
  JobPauses::Round Use(double cpus) {
    clock_.AdvanceMillis(2000);
    trainer_.cpu_seconds += cpus * 2;
    return pauses_->Settle();
  }

  fs::path folder_;
  FakeClock clock_;
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<jobs::JobStore> jobs_;
  std::mutex mutex_;
  std::map<int32_t, bool> held_;  // guarded by mutex_
  FakeTrainer trainer_;
  std::unique_ptr<JobPauses> pauses_;
  int32_t job_ = 0;  // runs, of trainer_
};

TEST_F(JobPausesTest, APauseFreezesOnItsCallersThreadBeforeItIsWritten) {
  bool wrote = false;
  absl::Status kept = pauses_->Anticipate(job_, true, [&] {
    wrote = true;
    EXPECT_TRUE(trainer_.frozen);
    EXPECT_TRUE(Held(job_));
    EXPECT_EQ(trainer_.frozen_by, std::this_thread::get_id());
    return jobs_->RequestPause(job_, true);
  });
  EXPECT_TRUE(kept.ok() && wrote);
  EXPECT_TRUE(trainer_.frozen);
}

TEST_F(JobPausesTest, AResumeGoesOnBeforeItIsWritten) {
  BePaused();
  bool wrote = false;
  absl::Status kept = pauses_->Anticipate(job_, false, [&] {
    wrote = true;
    EXPECT_FALSE(trainer_.frozen);
    EXPECT_FALSE(Held(job_));
    EXPECT_THAT(trainer_.told, ElementsAre(Control::PAUSE, Control::RESUME));
    return jobs_->RequestPause(job_, false);
  });
  EXPECT_TRUE(kept.ok() && wrote);
  LoopResumes();
  EXPECT_THAT(trainer_.told, ElementsAre(Control::PAUSE, Control::RESUME));
}

TEST_F(JobPausesTest, ATrainerIsToldToRestOnceAndNotBeforeItsRecordSaysSo) {
  ASSERT_TRUE(Ask(job_, true).ok());
  EXPECT_EQ(pauses_->Pause(job_), Standing::kFrozen);
  EXPECT_THAT(trainer_.told, IsEmpty());
  ASSERT_TRUE(jobs_->Move(job_, State::kPaused, "").ok());
  pauses_->TellToRest(job_);
  pauses_->TellToRest(job_);
  EXPECT_TRUE(Ask(job_, true).ok());
  EXPECT_THAT(trainer_.told, ElementsAre(Control::PAUSE));
  EXPECT_EQ(trainer_.freezes, 1);
}

TEST_F(JobPausesTest, APauseStaysFrozenFor200Milliseconds) {
  BePaused();
  clock_.AdvanceMillis(199);
  pauses_->Settle();
  EXPECT_TRUE(trainer_.frozen);
  clock_.AdvanceMillis(1);
  pauses_->Settle();
  pauses_->Settle();
  EXPECT_FALSE(trainer_.frozen);
  EXPECT_EQ(trainer_.thaws, 1);
  EXPECT_TRUE(Held(job_)) << "it rests";
}

TEST_F(JobPausesTest, AFreezeThatTimesOutIsThawedAtOnce) {
  trainer_.freeze = DeadlineExceeded("does not stand still after 1 s");
  EXPECT_EQ(pauses_->Pause(job_), Standing::kEnding);
  EXPECT_FALSE(trainer_.frozen);
  EXPECT_TRUE(Held(job_)) << "its threads end their micro-batches and begin no other";
  clock_.AdvanceMillis(200);
  pauses_->Settle();
  EXPECT_EQ(trainer_.thaws, 1);
  LoopPauses();
  EXPECT_EQ(StateNow(), State::kPausing);
  EXPECT_EQ(trainer_.freezes, 1);
}

TEST_F(JobPausesTest, AFreezeThatTimesOutAndAThawThatFailsLeaveNoJobFrozen) {
  trainer_.freeze = DeadlineExceeded("does not stand still after 1 s");
  trainer_.thaw = Internal("write: I/O error");
  EXPECT_EQ(pauses_->Pause(job_), Standing::kEnding);
  pauses_->Settle();
  EXPECT_TRUE(trainer_.frozen);
  trainer_.thaw = absl::OkStatus();
  pauses_->Settle();
  EXPECT_FALSE(trainer_.frozen);
}

TEST_F(JobPausesTest, WhereTheKernelCannotFreezeNothingIsThawed) {
  trainer_.freeze = trainer_.thaw = Unimplemented("this machine has no freezer that tandem may write");
  ASSERT_TRUE(Ask(job_, true).ok());
  LoopPauses();
  EXPECT_EQ(StateNow(), State::kPausing);
  pauses_->Settle();
  ASSERT_TRUE(Ask(job_, false).ok());
  pauses_->Settle();
  EXPECT_EQ(trainer_.thaws, 0);
  EXPECT_FALSE(Held(job_));
  EXPECT_THAT(trainer_.told, ElementsAre(Control::PAUSE, Control::RESUME));
}

TEST_F(JobPausesTest, AThawThatFailsIsTriedAgainUntilItWorksAndLoggedOnce) {
  LogSettings settings;
  settings.file = (folder_ / "log").string();
  ASSERT_TRUE(ConfigureLog(settings).ok());
  BePaused();
  trainer_.thaw = Internal("write: I/O error");
  ASSERT_TRUE(Ask(job_, false).ok());
  LoopResumes();
  for (int round = 0; round < 3; ++round) pauses_->Settle();
  EXPECT_TRUE(trainer_.frozen);
  EXPECT_EQ(trainer_.thaws, 4);
  trainer_.thaw = absl::OkStatus();
  pauses_->Settle();
  pauses_->Settle();
  EXPECT_FALSE(trainer_.frozen);
  EXPECT_EQ(trainer_.thaws, 5);

  Log(LogLevel::kInfo, "the last line");
  std::string text;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (text.find("the last line") == std::string::npos && std::chrono::steady_clock::now() < end) {
    FlushLog();
    std::this_thread::yield();
    text = ReadFile(settings.file).value_or("");
  }
  EXPECT_TRUE(ConfigureLog({}).ok());
  const size_t said = text.find("could not be thawed");
  ASSERT_NE(said, std::string::npos) << text;
  EXPECT_EQ(text.find("could not be thawed", said + 1), std::string::npos) << text;
}

TEST_F(JobPausesTest, APauseThatCannotBeThawedAfterItsTimeIsThawedLater) {
  BePaused();
  trainer_.thaw = Internal("write: I/O error");
  clock_.AdvanceMillis(200);
  pauses_->Settle();
  EXPECT_TRUE(trainer_.frozen);
  trainer_.thaw = absl::OkStatus();
  pauses_->Settle();
  EXPECT_FALSE(trainer_.frozen);
}

TEST_F(JobPausesTest, AThawThatFailsIsNotTriedAfterTheJobsEnd) {
  BePaused();
  trainer_.thaw = Internal("write: I/O error");
  ASSERT_TRUE(Ask(job_, false).ok());
  pauses_->Remove(job_);
  pauses_->Settle();
  EXPECT_EQ(trainer_.thaws, 1);
}

TEST_F(JobPausesTest, APausedTrainerThatComputesOnIsFrozenAndKilled) {
  BePaused();
  EXPECT_THAT(Use(1).ended, IsEmpty()) << "it had 2 s to come to rest";
  EXPECT_THAT(Use(1).ended, IsEmpty());
  EXPECT_FALSE(trainer_.killed);
  EXPECT_THAT(Use(1).ended, ElementsAre(job_));
  EXPECT_TRUE(trainer_.killed && trainer_.frozen_when_killed);
  // It has to be able to die, and nothing else is done to it.
  EXPECT_THAT(Use(1).ended, IsEmpty());
  EXPECT_FALSE(trainer_.frozen);
  EXPECT_EQ(pauses_->Pause(job_), Standing::kRefused);
  EXPECT_FALSE(pauses_->Resume(job_));
  EXPECT_TRUE(Ask(job_, false).ok());
  EXPECT_THAT(trainer_.told, ElementsAre(Control::PAUSE));
}

TEST_F(JobPausesTest, APausedTrainerThatRestsIsNotEnded) {
  BePaused();
  for (int round = 0; round < 5; ++round) {
    EXPECT_THAT(Use(0.1).ended, IsEmpty());
    EXPECT_THAT(Use(1).ended, IsEmpty()) << "once in a while is allowed";
  }
  EXPECT_FALSE(trainer_.killed);
}

TEST_F(JobPausesTest, ATrainerIsNotEndedBeforeItWasToldToPause) {
  absl::Status kept = pauses_->Anticipate(job_, true, [&] {
    for (int round = 0; round < 10; ++round) EXPECT_THAT(Use(1).ended, IsEmpty()) << "the disk is slow";
    return jobs_->RequestPause(job_, true);
  });
  EXPECT_TRUE(kept.ok());
  EXPECT_FALSE(trainer_.killed);
  LoopPauses();
  for (int round = 0; round < 2; ++round) EXPECT_THAT(Use(1).ended, IsEmpty());
  EXPECT_THAT(Use(1).ended, ElementsAre(job_));
}

TEST_F(JobPausesTest, APausedTrainerIsNotEndedWhileItLoadsItsData) {
  Say("loading");
  BePaused();
  for (int round = 0; round < 10; ++round) EXPECT_THAT(Use(1).ended, IsEmpty());
  EXPECT_FALSE(trainer_.killed);
  Say("training");
  for (int round = 0; round < 2; ++round) EXPECT_THAT(Use(1).ended, IsEmpty());
  EXPECT_THAT(Use(1).ended, ElementsAre(job_));
}

TEST_F(JobPausesTest, AStopThawsAPausedTrainerAndDoesNotEndItWhileItWritesItsCheckpoint) {
  BePaused();
  pauses_->LeaveAll();
  EXPECT_FALSE(trainer_.frozen);
  EXPECT_THAT(trainer_.told, ElementsAre(Control::PAUSE, Control::STOP));
  for (int round = 0; round < 10; ++round) EXPECT_THAT(Use(1).ended, IsEmpty());
  EXPECT_FALSE(trainer_.killed);
}

TEST_F(JobPausesTest, AJobThatMustLeaveIsNotFrozen) {
  BePaused();
  pauses_->Leave(job_);
  EXPECT_FALSE(trainer_.frozen);
  EXPECT_THAT(trainer_.told, ElementsAre(Control::PAUSE, Control::STOP));
  EXPECT_EQ(pauses_->Pause(job_), Standing::kRefused);
  EXPECT_FALSE(pauses_->Resume(job_));
  EXPECT_TRUE(Ask(job_, false).ok());
  EXPECT_TRUE(Ask(job_, true).ok());
  pauses_->TellToRest(job_);
  EXPECT_FALSE(trainer_.frozen);
  EXPECT_THAT(trainer_.told, ElementsAre(Control::PAUSE, Control::STOP));
}

TEST_F(JobPausesTest, AJobThatIsToLeaveIsThawedUntilThatWorks) {
  BePaused();
  trainer_.thaw = Internal("write: I/O error");
  pauses_->Leave(job_);
  pauses_->Settle();
  EXPECT_TRUE(trainer_.frozen);
  trainer_.thaw = absl::OkStatus();
  pauses_->Settle();
  EXPECT_FALSE(trainer_.frozen);
}

TEST_F(JobPausesTest, AJobThatBeginsDuringAStopIsNotFrozen) {
  pauses_->LeaveAll();
  FakeTrainer late;
  const int32_t job = RunJob(&late);
  EXPECT_EQ(pauses_->Pause(job), Standing::kRefused);
  EXPECT_TRUE(Ask(job, true).ok());
  EXPECT_EQ(late.freezes, 0);
}

TEST_F(JobPausesTest, AResumeOvertakesThePauseThatTheLoopIsWriting) {
  ASSERT_TRUE(Ask(job_, true).ok());
  ASSERT_EQ(pauses_->Pause(job_), Standing::kFrozen);
  ASSERT_TRUE(Ask(job_, false).ok());  // the loop waits for the disk
  EXPECT_FALSE(trainer_.frozen);
  ASSERT_TRUE(jobs_->Move(job_, State::kPaused, "").ok());
  pauses_->TellToRest(job_);
  EXPECT_THAT(trainer_.told, ElementsAre(Control::RESUME)) << "told to pause, it would rest for ever";
  LoopResumes();
  EXPECT_FALSE(trainer_.frozen);
  EXPECT_FALSE(Held(job_));
}

TEST_F(JobPausesTest, APauseOvertakesTheResumeThatTheLoopHasNotSeenYet) {
  BePaused();
  ASSERT_TRUE(Ask(job_, false).ok());
  absl::Status kept = pauses_->Anticipate(job_, true, [&] {
    EXPECT_FALSE(pauses_->Resume(job_)) << "decided from the record of before";
    EXPECT_TRUE(trainer_.frozen);
    return jobs_->RequestPause(job_, true);
  });
  EXPECT_TRUE(kept.ok());
  EXPECT_TRUE(trainer_.frozen && Held(job_));
  // Its record has said "paused" all along: nobody moves it, nobody else tells.
  EXPECT_THAT(trainer_.told, ElementsAre(Control::PAUSE, Control::RESUME, Control::PAUSE));
}

TEST_F(JobPausesTest, TheLoopDoesNotPauseWhileAResumeIsWritten) {
  ASSERT_TRUE(jobs_->RequestPause(job_, true).ok());
  absl::Status kept = pauses_->Anticipate(job_, false, [&] {
    EXPECT_EQ(pauses_->Pause(job_), Standing::kRefused);
    return jobs_->RequestPause(job_, false);
  });
  EXPECT_TRUE(kept.ok());
  EXPECT_EQ(trainer_.freezes, 0);
}

TEST_F(JobPausesTest, APauseThatCannotBeWrittenLeavesNoJobFrozen) {
  EXPECT_EQ(AskInVain(true).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(trainer_.freezes, 1);
  EXPECT_FALSE(trainer_.frozen);
  EXPECT_FALSE(Held(job_));
}

TEST_F(JobPausesTest, AResumeThatCannotBeWrittenIsToldToPauseAgain) {
  BePaused();
  EXPECT_EQ(AskInVain(false).code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(trainer_.frozen && Held(job_));
  EXPECT_THAT(trainer_.told, ElementsAre(Control::PAUSE, Control::RESUME, Control::PAUSE));
}

TEST_F(JobPausesTest, OfTwoAtOnceTheOneThatIsWrittenLastCounts) {
  absl::Status kept = pauses_->Anticipate(job_, true, [&] {
    EXPECT_TRUE(Ask(job_, false).ok());
    EXPECT_FALSE(trainer_.frozen);
    return jobs_->RequestPause(job_, true);
  });
  EXPECT_TRUE(kept.ok());
  EXPECT_TRUE(trainer_.frozen && Held(job_));
  kept = pauses_->Anticipate(job_, true, [&] {
    absl::Status written = jobs_->RequestPause(job_, true);
    EXPECT_TRUE(Ask(job_, false).ok());
    return written;
  });
  EXPECT_TRUE(kept.ok());
  EXPECT_FALSE(trainer_.frozen || Held(job_));
  EXPECT_EQ(trainer_.freezes, 2);
}

TEST_F(JobPausesTest, APauseOfAJobWhoseTrainerIsGoneIsOnlyWritten) {
  pauses_->Remove(job_);
  EXPECT_TRUE(Ask(job_, true).ok());
  EXPECT_TRUE(jobs_->Get(job_).value().pause_requested);
  EXPECT_EQ(pauses_->Pause(job_), Standing::kRefused);
  EXPECT_FALSE(pauses_->Resume(job_));
  pauses_->TellToRest(job_);
  pauses_->Leave(job_);
  pauses_->LeaveAll();
  pauses_->Settle();
  pauses_->Remove(job_);
  EXPECT_EQ(trainer_.freezes + trainer_.thaws, 0);
  EXPECT_THAT(trainer_.told, IsEmpty());
}

TEST_F(JobPausesTest, ATrainerThatGoesWhileItsPauseIsWrittenIsLeftAlone) {
  absl::Status kept = pauses_->Anticipate(job_, true, [&] {
    pauses_->Remove(job_);
    return Unavailable("another process holds the file open");
  });
  EXPECT_FALSE(kept.ok());
  EXPECT_EQ(trainer_.thaws, 0);
  EXPECT_THAT(trainer_.told, IsEmpty());
}

TEST_F(JobPausesTest, AJobThatStartsIsNotFrozenBeforeItsRecordSaysThatItRuns) {
  FakeTrainer starting;
  const int32_t job = StartJob(&starting);
  EXPECT_TRUE(Ask(job, true).ok());
  EXPECT_EQ(starting.freezes, 0);
  ASSERT_TRUE(jobs_->Move(job, State::kRunning, "").ok());
  EXPECT_EQ(pauses_->Pause(job), Standing::kFrozen);
}

TEST_F(JobPausesTest, ATrainerThatSaidThatItRestsIsFoundUntilItsRecordSaysSo) {
  trainer_.freeze = DeadlineExceeded("does not stand still after 1 s");
  ASSERT_TRUE(Ask(job_, true).ok());
  LoopPauses();
  EXPECT_THAT(pauses_->Settle().resting, IsEmpty());
  Say("paused");
  EXPECT_THAT(pauses_->Settle().resting, ElementsAre(job_));
  EXPECT_THAT(pauses_->Settle().resting, ElementsAre(job_));
  ASSERT_TRUE(jobs_->Move(job_, State::kPaused, "").ok());
  EXPECT_THAT(pauses_->Settle().resting, IsEmpty());
}

TEST_F(JobPausesTest, APauseDoesNotWaitForTheFreezeOfAnotherJob) {
  FakeTrainer other;
  const int32_t slow = RunJob(&other);
  std::latch begun(1), may_end(1);
  other.on_freeze = [&] {
    begun.count_down();
    may_end.wait();
  };
  std::thread freezing([&] { EXPECT_EQ(pauses_->Pause(slow), Standing::kFrozen); });
  begun.wait();
  EXPECT_EQ(pauses_->Pause(job_), Standing::kFrozen);
  may_end.count_down();
  freezing.join();
}

}  // namespace
}  // namespace tandem::daemon
