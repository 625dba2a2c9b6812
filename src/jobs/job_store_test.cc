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
      {kQueued, kStarting},   {kStarting, kRunning}, {kStarting, kQueued},   {kStarting, kStopping},
      {kRunning, kPausing},   {kPausing, kPaused},   {kPausing, kRunning},   {kPaused, kRunning},
      {kRunning, kStopping},  {kPausing, kStopping}, {kPaused, kStopping},   {kRunning, kQueued},
      {kPausing, kQueued},    {kPaused, kQueued},    {kStopping, kQueued},   {kRunning, kSucceeded},
      {kPausing, kSucceeded}, {kPaused, kSucceeded}, {kStopping, kSucceeded}};
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
