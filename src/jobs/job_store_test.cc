#include "jobs/job_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <set>
#include <thread>

#include "base/status.h"

namespace tandem::jobs {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::FieldsAre;
using ::testing::HasSubstr;
using Code = absl::StatusCode;

class JobStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / StrCat("tandem_jobs_", getpid());
    fs::remove_all(folder_);
    Reopen();
  }
  void TearDown() override {
    Close();
    fs::remove_all(folder_);
  }
  void Close() {
    jobs_.reset();
    store_.reset();
  }
  // What a new daemon does.
  void Reopen() {
    Close();
    store_ = *storage::Store::Open(folder_ / "tandem.db", Migrations());
    recovered_.clear();
    jobs_ = *JobStore::Open(store_.get(), &clock_, &recovered_);
  }

  static JobRecord Job(std::string_view name, std::string_view key = "") {
    JobRecord record;
    record.name = name;
    record.kind = "train";
    record.spec = "batch: 1\n";
    record.idempotency_key = key;
    record.submitted_by = "me";
    return record;
  }
  int32_t Submit(std::string_view name = "a", std::string_view key = "") {
    return jobs_->Submit(Job(name, key)).value().id;
  }
  JobRecord Get(int32_t id) { return jobs_->Get(id).value(); }
  int32_t Running() {
    int32_t id = Submit();
    EXPECT_TRUE(jobs_->Starting(id).ok());
    EXPECT_TRUE(jobs_->Move(id, State::kRunning, "").ok());
    return id;
  }
  // A job in any state, by the shortest way.
  int32_t In(State state) {
    int32_t id = Submit();
    if (state == State::kQueued) return id;
    EXPECT_TRUE(jobs_->Starting(id).ok());
    if (state == State::kStarting) return id;
    EXPECT_TRUE(jobs_->Move(id, State::kRunning, "").ok());
    if (state == State::kRunning) return id;
    if (state == State::kPaused) {
      EXPECT_TRUE(jobs_->Move(id, State::kPausing, "").ok());
    }
    EXPECT_TRUE(jobs_->Move(id, state, "").ok());
    return id;
  }
  absl::Status Finish(int32_t id, int32_t attempt) {
    return store_->Write([&](storage::Store::Transaction& transaction) {
      return jobs_->FinishInTransaction(transaction, id, attempt, "fashion", 2, R"({"accuracy":0.9})");
    });
  }

  fs::path folder_;
  FakeClock clock_;
  std::vector<std::string> recovered_;
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<JobStore> jobs_;
};

constexpr State kAll[] = {State::kQueued,   State::kStarting,  State::kRunning, State::kPausing,   State::kPaused,
                          State::kStopping, State::kSucceeded, State::kFailed,  State::kCancelled, State::kTimedOut};

TEST(States, HaveNamesThatReadBack) {
  for (State state : kAll) EXPECT_EQ(*ParseState(StateName(state)), state);
  EXPECT_THAT(MessageOf(ParseState("runing").status()), HasSubstr("did you mean 'running'?"));
}

TEST(States, EndsAreNeverLeft) {
  for (State from : kAll) {
    if (!IsEnd(from)) continue;
    for (State to : kAll) EXPECT_FALSE(CanMove(from, to));
  }
}

TEST(States, HaveExactlyTheArrowsOfTheDiagram) {
  using enum State;
  std::set<std::pair<State, State>> arrows = {
      {kQueued, kStarting},   {kStarting, kRunning},  {kStarting, kQueued},  {kStarting, kStopping},
      {kRunning, kPausing},   {kRunning, kPaused},    {kPausing, kPaused},   {kPausing, kRunning},
      {kPaused, kRunning},    {kRunning, kStopping},  {kPausing, kStopping}, {kPaused, kStopping},
      {kRunning, kQueued},    {kPausing, kQueued},    {kPaused, kQueued},    {kStopping, kQueued},
      {kRunning, kSucceeded}, {kPausing, kSucceeded}, {kPaused, kSucceeded}, {kStopping, kSucceeded}};
  for (State from : {kQueued, kStarting, kRunning, kPausing, kPaused, kStopping}) {
    for (State to : {kFailed, kCancelled, kTimedOut}) arrows.insert({from, to});
  }
  for (State from : kAll) {
    for (State to : kAll) EXPECT_EQ(CanMove(from, to), arrows.contains({from, to})) << StateName(from) << StateName(to);
  }
}

TEST_F(JobStoreTest, MovesAlongEveryArrowAndRefusesAllOthers) {
  for (State from : kAll) {
    int32_t probe = In(from);
    for (State to : kAll) {
      if (from == to) continue;
      if (!CanMove(from, to)) {
        absl::Status refused = jobs_->Move(probe, to, "");
        EXPECT_EQ(refused.code(), Code::kFailedPrecondition);
        EXPECT_THAT(MessageOf(refused),
                    HasSubstr(StrCat("is ", StateName(from), " and cannot become ", StateName(to))));
        EXPECT_EQ(Get(probe).state, from);
      } else {
        int32_t id = In(from);
        EXPECT_TRUE(jobs_->Move(id, to, "why").ok()) << StateName(from) << " " << StateName(to);
        EXPECT_EQ(Get(id).state, to);
        EXPECT_EQ(Get(id).reason, "why");
      }
    }
  }
}

TEST_F(JobStoreTest, TheSameKeyGivesTheSameJob) {
  int32_t first = Submit("a", "key");
  EXPECT_EQ(Submit("b", "key"), first);
  EXPECT_NE(Submit("a"), Submit("a"));
  Reopen();
  EXPECT_EQ(Submit("c", "key"), first);
  EXPECT_EQ(Get(first).name, "a");
}

TEST_F(JobStoreTest, ListsNewestFirstAndKeepsEveryFieldOverARestart) {
  JobRecord record = Job("näme", "k");
  record.priority = -3;
  record.threads = 2;
  record.memory_bytes = int64_t{5} << 40;
  record.window = "night";
  record.recurring = 4;
  record.time_limit_ms = 9000;
  int32_t first = jobs_->Submit(record)->id, second = Submit("b");
  ASSERT_TRUE(jobs_->SetMetrics(first, R"({"a":1})").ok());
  Reopen();
  EXPECT_TRUE(recovered_.empty());
  std::vector<JobRecord> all = jobs_->List();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].id, second);
  EXPECT_EQ(all[1].name, "näme");
  EXPECT_EQ(all[1].spec, "batch: 1\n");
  EXPECT_EQ(all[1].priority, -3);
  EXPECT_EQ(all[1].threads, 2);
  EXPECT_EQ(all[1].memory_bytes, int64_t{5} << 40);
  EXPECT_EQ(all[1].window, "night");
  EXPECT_EQ(all[1].recurring, 4);
  EXPECT_EQ(all[1].time_limit_ms, 9000);
  EXPECT_EQ(all[1].metrics_json, R"({"a":1})");
  EXPECT_EQ(all[1].submitted_by, "me");
  EXPECT_EQ(all[1].created_ms, clock_.UnixMillis());
}

TEST_F(JobStoreTest, CountsAttemptsAndFailuresApart) {
  int32_t id = Running();
  int64_t started = Get(id).started_ms;
  jobs_->SetPid(id, 77);
  ASSERT_TRUE(jobs_->Retry(id, "out of memory", 2000).ok());
  JobRecord record = Get(id);
  EXPECT_EQ(record.state, State::kQueued);
  EXPECT_EQ(record.failures, 1);
  EXPECT_EQ(record.pid, 0);
  EXPECT_EQ(record.not_before_ms, clock_.UnixMillis() + 2000);
  clock_.AdvanceMillis(5000);
  ASSERT_TRUE(jobs_->Starting(id).ok());
  EXPECT_EQ(Get(id).attempt, 2);
  EXPECT_EQ(Get(id).started_ms, started);
  Reopen();
  EXPECT_EQ(Get(id).failures, 1);
  EXPECT_EQ(Get(id).not_before_ms, 0);
}

TEST_F(JobStoreTest, ActiveJobsOfADeadDaemonAreQueuedAgain) {
  int32_t running = Running(), queued = Submit("waits"), paused = In(State::kPaused), stopping = In(State::kStopping);
  ASSERT_TRUE(jobs_->RequestPause(paused, true).ok());
  wire::Progress progress;
  progress.set_step(40);
  progress.set_phase("checkpointing");
  jobs_->SetProgress(running, progress);
  progress.set_step(55);
  progress.set_phase("training");
  jobs_->SetProgress(running, progress);
  EXPECT_EQ(Get(running).progress.step(), 55);
  Reopen();
  EXPECT_EQ(recovered_.size(), 3u);
  EXPECT_THAT(recovered_[0], HasSubstr("was running, is now queued: the server restarted; goes on from its last "
                                       "checkpoint (step 40)"));
  for (int32_t id : {running, queued, paused, stopping}) EXPECT_EQ(Get(id).state, State::kQueued);
  EXPECT_TRUE(Get(paused).pause_requested);
  EXPECT_EQ(Get(running).failures, 0);
  EXPECT_EQ(Get(running).attempt, 1);
  Reopen();
  EXPECT_TRUE(recovered_.empty());
}

TEST_F(JobStoreTest, AJobThatWasToBeCancelledIsCancelledAtTheNextStart) {
  int32_t running = Running(), queued = Submit();
  ASSERT_TRUE(jobs_->RequestCancel(running).ok());
  ASSERT_TRUE(jobs_->RequestCancel(queued).ok());
  EXPECT_EQ(jobs_->Starting(queued).code(), Code::kFailedPrecondition);
  Reopen();
  EXPECT_EQ(Get(running).state, State::kCancelled);
  EXPECT_EQ(Get(queued).state, State::kCancelled);
  EXPECT_EQ(Get(queued).finished_ms, clock_.UnixMillis());
  EXPECT_EQ(jobs_->RequestCancel(queued).code(), Code::kFailedPrecondition);
  EXPECT_EQ(jobs_->RequestPause(queued, true).code(), Code::kFailedPrecondition);
}

TEST_F(JobStoreTest, FinishesOnceForEachAttempt) {
  int32_t id = Running();
  EXPECT_EQ(Finish(id, 2).code(), Code::kFailedPrecondition);
  ASSERT_TRUE(Finish(id, 1).ok());
  EXPECT_EQ(Get(id).state, State::kRunning);
  ASSERT_TRUE(jobs_->Reload(id).ok());
  EXPECT_EQ(Get(id).state, State::kSucceeded);
  EXPECT_EQ(Get(id).model, "fashion");
  EXPECT_EQ(Get(id).version, 2);
  EXPECT_EQ(Finish(id, 1).code(), Code::kAlreadyExists);
  EXPECT_EQ(Finish(id, 2).code(), Code::kFailedPrecondition);
  EXPECT_EQ(Finish(99, 1).code(), Code::kNotFound);
}

TEST_F(JobStoreTest, AFinishThatIsRolledBackLeavesTheJobRunning) {
  int32_t id = Running();
  EXPECT_FALSE(store_
                   ->Write([&](storage::Store::Transaction& t) {
                     EXPECT_TRUE(jobs_->FinishInTransaction(t, id, 1, "m", 1, "{}").ok());
                     return Aborted("the version could not be made");
                   })
                   .ok());
  ASSERT_TRUE(jobs_->Reload(id).ok());
  EXPECT_EQ(Get(id).state, State::kRunning);
  EXPECT_TRUE(Finish(id, 1).ok());
}

// Between the commit of a finish and Reload the memory is behind; the store decides.
TEST_F(JobStoreTest, AMoveAfterAFinishIsRefusedAlsoBeforeTheReload) {
  int32_t id = Running();
  ASSERT_TRUE(Finish(id, 1).ok());
  EXPECT_EQ(jobs_->Move(id, State::kFailed, "late").code(), Code::kFailedPrecondition);
  EXPECT_EQ(jobs_->Retry(id, "late", 0).code(), Code::kFailedPrecondition);
  Reopen();
  EXPECT_EQ(Get(id).state, State::kSucceeded);
}

TEST_F(JobStoreTest, ANewReasonForTheSameStateIsKeptInMemory) {
  int32_t id = Submit();
  EXPECT_TRUE(jobs_->Move(id, State::kQueued, "waits for 2 threads").ok());
  EXPECT_EQ(Get(id).reason, "waits for 2 threads");
  EXPECT_EQ(Get(id).state, State::kQueued);
}

TEST_F(JobStoreTest, DeletesEndedJobsOnlyAndNeverReusesAnId) {
  int32_t id = Running();
  EXPECT_THAT(MessageOf(jobs_->Delete(id)), HasSubstr("cancel it first"));
  ASSERT_TRUE(jobs_->Move(id, State::kFailed, "NaN").ok());
  ASSERT_TRUE(jobs_->Delete(id).ok());
  EXPECT_THAT(MessageOf(jobs_->Get(id).status()), HasSubstr(StrCat("there is no job ", id, "; 'tandem jobs list'")));
  EXPECT_EQ(jobs_->Delete(id).code(), Code::kNotFound);
  EXPECT_EQ(jobs_->Move(id, State::kQueued, "").code(), Code::kNotFound);
  Reopen();
  EXPECT_GT(Submit(), id);
}

TEST_F(JobStoreTest, ListsActiveJobsWithoutWhatIsLong) {
  int32_t running = Running(), ended = Running(), queued = Submit();
  ASSERT_TRUE(jobs_->SetMetrics(running, "{}").ok());
  ASSERT_TRUE(jobs_->Move(ended, State::kFailed, "NaN").ok());
  jobs_->SetPid(running, 7);
  for (int round = 0; round < 2; ++round) {
    std::vector<JobRecord> active = jobs_->Active();
    ASSERT_EQ(active.size(), 2u);
    EXPECT_EQ(active[0].id, running);
    EXPECT_EQ(active[0].name, "a");
    EXPECT_EQ(active[0].pid, round == 0 ? 7 : 0);
    EXPECT_EQ(active[0].spec, "");
    EXPECT_EQ(active[0].metrics_json, "");
    EXPECT_EQ(active[1].id, queued);
    EXPECT_EQ(Get(running).spec, "batch: 1\n");
    EXPECT_EQ(Get(running).metrics_json, "{}");
    Reopen();
  }
  ASSERT_TRUE(jobs_->Delete(ended).ok());
  EXPECT_EQ(jobs_->Active().size(), 2u);
}

TEST_F(JobStoreTest, KeepsEveryArrowWithItsTimeAndReason) {
  int32_t id = Submit(), other = Submit();
  int64_t begin = clock_.UnixMillis();
  clock_.AdvanceMillis(10);
  ASSERT_TRUE(jobs_->Move(id, State::kQueued, "waits for 2 threads").ok());  // no arrow
  ASSERT_TRUE(jobs_->Starting(id).ok());
  ASSERT_TRUE(jobs_->Move(id, State::kRunning, "").ok());
  EXPECT_FALSE(jobs_->Move(id, State::kStarting, "refused").ok());
  ASSERT_TRUE(jobs_->RequestPause(id, true).ok());
  clock_.AdvanceMillis(10);
  ASSERT_TRUE(jobs_->Retry(id, "out of memory", 100).ok());
  Reopen();
  ASSERT_TRUE(jobs_->Starting(id).ok());
  ASSERT_TRUE(jobs_->Move(id, State::kRunning, "goes on").ok());
  ASSERT_TRUE(Finish(id, 2).ok());
  ASSERT_TRUE(jobs_->Reload(id).ok());
  EXPECT_THAT(
      *jobs_->Events(id),
      ElementsAre(FieldsAre(begin + 20, State::kSucceeded, ""), FieldsAre(begin + 20, State::kRunning, "goes on"),
                  FieldsAre(begin + 20, State::kStarting, ""), FieldsAre(begin + 20, State::kQueued, "out of memory"),
                  FieldsAre(begin + 10, State::kRunning, ""), FieldsAre(begin + 10, State::kStarting, ""),
                  FieldsAre(begin, State::kQueued, "")));
  EXPECT_EQ(jobs_->Events(other)->size(), 1u);
  EXPECT_EQ(jobs_->Events(99).status().code(), Code::kNotFound);
}

TEST_F(JobStoreTest, ARestartAndACancelAreEventsToo) {
  int32_t running = Running();
  Reopen();
  EXPECT_THAT(jobs_->Events(running)->at(0).reason, HasSubstr("the server restarted"));
  ASSERT_TRUE(jobs_->RequestCancel(running).ok());
  Reopen();
  EXPECT_EQ(jobs_->Events(running)->at(0).state, State::kCancelled);
}

TEST_F(JobStoreTest, KeepsTheNewestHundredEventsOfEachJobAndNoneOfADeletedOne) {
  int32_t id = Submit(), other = Submit();
  for (int i = 0; i < 40; ++i) {
    ASSERT_TRUE(jobs_->Starting(id).ok());
    ASSERT_TRUE(jobs_->Move(id, State::kRunning, "").ok());
    ASSERT_TRUE(jobs_->Move(id, State::kQueued, StrCat("round ", i)).ok());
  }
  std::vector<JobEvent> events = *jobs_->Events(id);
  ASSERT_EQ(events.size(), 100u);
  EXPECT_EQ(events[0].reason, "round 39");
  EXPECT_EQ(events[99].reason, "round 6");
  EXPECT_EQ(jobs_->Events(other)->size(), 1u);
  ASSERT_TRUE(jobs_->Move(id, State::kFailed, "").ok());
  ASSERT_TRUE(jobs_->Delete(id).ok());
  int64_t left = -1;
  ASSERT_TRUE(store_
                  ->Read([&](storage::Store::Transaction& t) {
                    return t.Query("SELECT count(*) FROM job_events", {},
                                   [&](const storage::Row& row) { left = row.Int(0); });
                  })
                  .ok());
  EXPECT_EQ(left, 1);
}

TEST_F(JobStoreTest, AFinishThatIsRolledBackLeavesNoEvent) {
  int32_t id = Running();
  EXPECT_FALSE(store_
                   ->Write([&](storage::Store::Transaction& t) {
                     EXPECT_TRUE(jobs_->FinishInTransaction(t, id, 1, "m", 1, "{}").ok());
                     return Aborted("no");
                   })
                   .ok());
  EXPECT_EQ(jobs_->Events(id)->at(0).state, State::kRunning);
}

TEST_F(JobStoreTest, AReleasedJobStopsAndGoesBackToTheQueue) {
  int32_t id = Running();
  jobs_->SetPid(id, 5);
  ASSERT_TRUE(jobs_->Release(id, "window 'night' closes").ok());
  EXPECT_EQ(Get(id).state, State::kStopping);
  EXPECT_TRUE(Get(id).release_requested);
  EXPECT_EQ(Get(id).pid, 5);
  EXPECT_EQ(Get(id).reason, "window 'night' closes");
  EXPECT_TRUE(jobs_->Release(id, "again").ok());
  EXPECT_EQ(Get(id).reason, "window 'night' closes");
  ASSERT_TRUE(jobs_->Move(id, State::kQueued, "goes on when 'night' opens").ok());
  EXPECT_FALSE(Get(id).release_requested);
  EXPECT_EQ(Get(id).failures, 0);
  EXPECT_THAT(*jobs_->Events(id), testing::Contains(FieldsAre(testing::_, State::kStopping, "window 'night' closes")));
  EXPECT_THAT(MessageOf(jobs_->Release(id, "")), HasSubstr("is queued and holds nothing"));
}

TEST_F(JobStoreTest, ReleasesWhatHoldsSomethingOnly) {
  for (State state : {State::kStarting, State::kRunning, State::kPaused}) {
    EXPECT_TRUE(jobs_->Release(In(state), "").ok()) << StateName(state);
  }
  EXPECT_EQ(jobs_->Release(In(State::kStopping), "").code(),
            Code::kFailedPrecondition);  // it leaves for another reason
  EXPECT_EQ(jobs_->Release(In(State::kSucceeded), "").code(), Code::kFailedPrecondition);
  EXPECT_EQ(jobs_->Release(99, "").code(), Code::kNotFound);
}

TEST_F(JobStoreTest, AReleaseThatADeadDaemonLeftIsOverAtTheNextStart) {
  int32_t id = Running(), done = Running();
  ASSERT_TRUE(jobs_->Release(id, "why").ok());
  ASSERT_TRUE(jobs_->Release(done, "why").ok());
  ASSERT_TRUE(Finish(done, 1).ok());
  ASSERT_TRUE(jobs_->Reload(done).ok());
  EXPECT_FALSE(Get(done).release_requested);
  Reopen();
  EXPECT_EQ(Get(id).state, State::kQueued);
  EXPECT_FALSE(Get(id).release_requested);
}

TEST_F(JobStoreTest, AddsUpTheRunningTimeOfAllAttemptsWithoutPauses) {
  int32_t id = Submit();
  clock_.AdvanceMillis(1000);
  EXPECT_EQ(Get(id).ran_ms, 0);
  ASSERT_TRUE(jobs_->Starting(id).ok());
  clock_.AdvanceMillis(100);
  ASSERT_TRUE(jobs_->Move(id, State::kRunning, "").ok());
  clock_.AdvanceMillis(200);
  EXPECT_EQ(Get(id).ran_ms, 300);
  EXPECT_EQ(jobs_->Active().at(0).ran_ms, 300);
  ASSERT_TRUE(jobs_->Move(id, State::kPausing, "").ok());
  ASSERT_TRUE(jobs_->Move(id, State::kPaused, "").ok());
  clock_.AdvanceMillis(10'000);
  EXPECT_EQ(Get(id).ran_ms, 300);
  ASSERT_TRUE(jobs_->Move(id, State::kRunning, "").ok());
  clock_.AdvanceMillis(50);
  clock_.SetUnixMillis(5);  // a clock that jumps changes nothing
  ASSERT_TRUE(jobs_->Retry(id, "", 0).ok());
  clock_.AdvanceMillis(10'000);
  EXPECT_EQ(Get(id).ran_ms, 350);
  ASSERT_TRUE(jobs_->Starting(id).ok());
  ASSERT_TRUE(jobs_->Move(id, State::kRunning, "").ok());
  clock_.AdvanceMillis(7);
  ASSERT_TRUE(Finish(id, 2).ok());
  ASSERT_TRUE(jobs_->Reload(id).ok());
  clock_.AdvanceMillis(10'000);
  EXPECT_EQ(Get(id).ran_ms, 357);
  Reopen();
  EXPECT_EQ(Get(id).ran_ms, 357);
}

TEST_F(JobStoreTest, RunningTimeSurvivesAKillUpToTheLastCheckpoint) {
  int32_t id = Running();
  clock_.AdvanceMillis(500);
  wire::Progress progress;
  progress.set_phase("checkpointing");
  jobs_->SetProgress(id, progress);
  clock_.AdvanceMillis(70);
  EXPECT_EQ(Get(id).ran_ms, 570);
  Reopen();
  EXPECT_EQ(Get(id).ran_ms, 500);
}

TEST_F(JobStoreTest, APeriodicCheckpointKeepsRunningTimeAndStep) {
  int32_t id = Running();
  clock_.AdvanceMillis(500);
  wire::Progress progress;
  progress.set_step(7);
  jobs_->SetProgress(id, progress);
  ASSERT_TRUE(jobs_->KeepProgress(id).ok());
  clock_.AdvanceMillis(70);
  Reopen();
  EXPECT_EQ(Get(id).ran_ms, 500);
  EXPECT_THAT(Get(id).reason, HasSubstr("step 7"));
}

TEST_F(JobStoreTest, AStartThatIsPostponedIsNoFailure) {
  int32_t id = In(State::kStarting);
  ASSERT_TRUE(jobs_->Postpone(id, "the disk is full", 5000).ok());
  EXPECT_EQ(Get(id).state, State::kQueued);
  EXPECT_EQ(Get(id).reason, "the disk is full");
  EXPECT_EQ(Get(id).failures, 0);
  EXPECT_EQ(Get(id).not_before_ms, clock_.UnixMillis() + 5000);
}

TEST_F(JobStoreTest, ReadsADatabaseOfTheFirstVersion) {
  Close();
  fs::remove_all(folder_);
  std::vector<storage::Migration> first = {Migrations()[0]};
  ASSERT_EQ(first[0].id, 100);
  store_ = *storage::Store::Open(folder_ / "tandem.db", first);
  ASSERT_TRUE(
      store_
          ->Write([](storage::Store::Transaction& t) {
            return t.Execute(
                "INSERT INTO jobs VALUES (3, 'old', 'train', 'batch: 1', NULL, 'me', 'running', '', 1, 0, 2, 0, "
                "0, 10, 20, 0, 0, '{}', '', 0, '', 2, 5)");
          })
          .ok());
  Reopen();
  EXPECT_EQ(Get(3).name, "old");
  EXPECT_EQ(Get(3).state, State::kQueued);
  EXPECT_EQ(Get(3).window, "");
  EXPECT_EQ(Get(3).ran_ms, 0);
  EXPECT_EQ(jobs_->Events(3)->size(), 1u);
}

TEST_F(JobStoreTest, IsSafeForManyThreads) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 4; ++i) {
        int32_t id = jobs_->Submit(Job("x", StrCat("shared ", i)))->id;
        // One of the threads wins each arrow.
        if (jobs_->Starting(id).ok()) {
          jobs_->SetPid(id, 1000 + t);
          wire::Progress progress;
          progress.set_step(i);
          jobs_->SetProgress(id, progress);
          EXPECT_TRUE(jobs_->Move(id, State::kRunning, "").ok());
          EXPECT_EQ(Get(id).pid, 1000 + t);
          EXPECT_TRUE(Finish(id, 1).ok());
          EXPECT_TRUE(jobs_->Reload(id).ok());
        }
        (void)jobs_->List();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<JobRecord> all = jobs_->List();
  ASSERT_EQ(all.size(), 4u);
  for (const JobRecord& record : all) {
    EXPECT_EQ(record.state, State::kSucceeded);
    EXPECT_EQ(record.attempt, 1);
  }
}

// The child is killed in the middle of its work; what it was told to be done must be there.
TEST_F(JobStoreTest, EverySubmittedJobSurvivesAKill) {
  Close();
  int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    Reopen();
    while (true) {
      int32_t id = Submit();
      if (!jobs_->Starting(id).ok() || write(fds[1], &id, sizeof id) != sizeof id) _exit(1);
    }
  }
  close(fds[1]);
  int32_t id = 0;
  std::vector<int32_t> told;
  while (told.size() < 6 && read(fds[0], &id, sizeof id) == sizeof id) told.push_back(id);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  while (read(fds[0], &id, sizeof id) == sizeof id) told.push_back(id);
  close(fds[0]);
  Reopen();
  EXPECT_GE(told.size(), 6u);
  for (int32_t known : told) {
    EXPECT_EQ(Get(known).state, State::kQueued);
    EXPECT_EQ(Get(known).attempt, 1);
  }
}

}  // namespace
}  // namespace tandem::jobs
