// The plan of jobs, which all policies share.
#include "scheduling/jobs_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <random>

#include "scheduling/test_snapshots.h"

namespace tandem::scheduling {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int64_t kHourMs = 3'600'000;

class JobsPlanTest : public testing::TestWithParam<std::string> {
 protected:
  Actions Decide(const Snapshot& snapshot) const { return DecideBy(GetParam(), snapshot); }
  std::string ReasonOfTheOnlyOne(JobDemand job, const Sharing* sharing = &DefaultSharing()) const {
    Actions actions = Decide(OneMachine({std::move(job)}, sharing));
    EXPECT_THAT(actions.start, IsEmpty());
    return actions.waiting.size() == 1 ? actions.waiting[0].reason : "";
  }
};

std::vector<int32_t> Ids(const std::vector<JobReason>& reasons) {
  std::vector<int32_t> ids;
  for (const JobReason& reason : reasons) ids.push_back(reason.id);
  return ids;
}
std::vector<int32_t> Ids(const std::vector<StartJob>& starts) {
  std::vector<int32_t> ids;
  for (const StartJob& start : starts) ids.push_back(start.id);
  return ids;
}

INSTANTIATE_TEST_SUITE_P(Policies, JobsPlanTest, testing::ValuesIn(PolicyNames()),
                         [](const auto& info) { return info.param; });

TEST_P(JobsPlanTest, StartsTheHighestPriorityThenTheLongestWaiting) {
  Actions actions = Decide(OneMachine(
      {{.id = 1, .waiting_ms = 900}, {.id = 2, .priority = 5, .waiting_ms = 1}, {.id = 3, .waiting_ms = 950}}));
  EXPECT_THAT(Ids(actions.start), ElementsAre(2));
  EXPECT_THAT(Ids(actions.waiting), ElementsAre(3, 1));
  EXPECT_THAT(actions.waiting[0].reason, HasSubstr("running job to end (1 at a time: training.max_jobs)"));
  EXPECT_THAT(actions.waiting[1].reason, HasSubstr("1 ahead of it"));
}

TEST_P(JobsPlanTest, RaisesPriorityByOneForEachHourOfWaiting) {
  auto first = [&](int64_t waiting_ms) {
    return Decide(OneMachine({{.id = 1, .priority = 3}, {.id = 2, .waiting_ms = waiting_ms}})).start[0].id;
  };
  EXPECT_EQ(first(3 * kHourMs - 1), 1);
  EXPECT_EQ(first(3 * kHourMs), 2);  // equal, and waits longer
}

TEST_P(JobsPlanTest, LetsSmallerJobsPassOneThatDoesNotFit) {
  Actions actions =
      Decide(OneMachine({{.id = 1, .priority = 9, .memory_bytes = 2'000'000'000}, {.id = 2, .memory_bytes = 10}}));
  EXPECT_THAT(Ids(actions.start), ElementsAre(2));
  EXPECT_THAT(actions.waiting[0].reason, HasSubstr("2.0 GB of memory, training has 1.0 GB"));
}

TEST_P(JobsPlanTest, PacksASecondJobAtALowWeightWithAllThreads) {
  Snapshot snapshot = OneMachine({{.id = 1, .threads = 0}, {.id = 2, .threads = 2}, {.id = 3}});
  snapshot.max_running_jobs = 2;
  Actions actions = Decide(snapshot);
  ASSERT_THAT(Ids(actions.start), ElementsAre(1, 2));
  EXPECT_EQ(actions.start[0].weight, 1000);
  EXPECT_EQ(actions.start[1].weight, 50);
  EXPECT_EQ(actions.start[0].threads, 2);
  EXPECT_EQ(actions.start[1].threads, 2);
  // Beside one that runs already, the next one fills the gaps too.
  snapshot.jobs[0].phase = JobPhase::kActive;
  actions = Decide(snapshot);
  ASSERT_THAT(Ids(actions.start), ElementsAre(2));
  EXPECT_EQ(actions.start[0].weight, 50);
}

TEST_P(JobsPlanTest, WaitsForMemoryThatARunningJobHas) {
  Snapshot snapshot = OneMachine({{.id = 1, .phase = JobPhase::kActive, .memory_bytes = 700'000'000},
                                  {.id = 2, .memory_bytes = 400'000'000},
                                  {.id = 3, .memory_bytes = 300'000'000}});
  snapshot.max_running_jobs = 2;
  Actions actions = Decide(snapshot);
  EXPECT_THAT(actions.waiting[0].reason, HasSubstr("waits for 400 MB of memory, 300 MB of training's is free"));
  EXPECT_THAT(Ids(actions.start), ElementsAre(3));
}

TEST_P(JobsPlanTest, SaysWhatAQueuedJobWaitsFor) {
  EXPECT_THAT(ReasonOfTheOnlyOne({.id = 1, .pause_requested = true}), HasSubstr("resume it to start"));
  EXPECT_THAT(ReasonOfTheOnlyOne({.id = 1, .threads = 3}), HasSubstr("asks for 3 threads, training has 2"));
  EXPECT_THAT(ReasonOfTheOnlyOne({.id = 1, .window = "nihgt"}), HasSubstr("window 'nihgt', which does not exist"));
  EXPECT_THAT(ReasonOfTheOnlyOne({.id = 1, .window = "night"}, &NightSharing()),
              HasSubstr("waits for window 'night', which opens at 2026-11-21 22:00 CET"));
}

TEST_P(JobsPlanTest, StartsNothingWhileStopping) {
  Snapshot snapshot = OneMachine({{.id = 1}, {.id = 2, .phase = JobPhase::kActive, .pause_requested = true}});
  snapshot.stopping = true;
  Actions actions = Decide(snapshot);
  EXPECT_THAT(actions.start, IsEmpty());
  EXPECT_THAT(actions.pause, IsEmpty());
  EXPECT_THAT(actions.waiting[0].reason, HasSubstr("stopping"));
}

TEST_P(JobsPlanTest, LeavesARetryAloneUntilItsTime) {
  JobDemand retry{.id = 1, .not_before_ms = OneMachine().now_ms + 1};
  Actions actions = Decide(OneMachine({retry}));
  EXPECT_THAT(actions.start, IsEmpty());
  EXPECT_THAT(actions.waiting, IsEmpty());
  retry.not_before_ms = OneMachine().now_ms;
  EXPECT_THAT(Decide(OneMachine({retry})).start, SizeIs(1));
}

TEST_P(JobsPlanTest, ARetryDoesNotWaitUntilAClockThatWasSetBackHasCaughtUp) {
  JobDemand retry{.id = 1, .not_before_ms = OneMachine().now_ms + kHourMs};
  EXPECT_THAT(Decide(OneMachine({retry})).start, SizeIs(1));
}

TEST_P(JobsPlanTest, PausesAndResumesOnRequestAndKeepsTheSeatOfAPausedJob) {
  Snapshot snapshot = OneMachine({{.id = 1, .phase = JobPhase::kActive, .pause_requested = true}, {.id = 2}});
  Actions actions = Decide(snapshot);
  EXPECT_THAT(Ids(actions.pause), ElementsAre(1));
  EXPECT_THAT(actions.start, IsEmpty());
  snapshot.jobs[0].phase = JobPhase::kPaused;
  EXPECT_THAT(Decide(snapshot).resume, IsEmpty());
  snapshot.jobs[0].pause_requested = false;
  EXPECT_THAT(Ids(Decide(snapshot).resume), ElementsAre(1));
}

TEST_P(JobsPlanTest, EndsWhatIsOutOfTime) {
  Actions actions = Decide(OneMachine({{.id = 1, .phase = JobPhase::kActive, .time_limit_ms = 60'000, .ran_ms = 60'000},
                                       {.id = 2, .time_limit_ms = 60'000, .ran_ms = 61'000},
                                       {.id = 3, .time_limit_ms = 60'000, .ran_ms = 59'999}}));
  EXPECT_THAT(Ids(actions.expire), ElementsAre(1, 2));
  EXPECT_THAT(actions.expire[0].reason, HasSubstr("time limit"));
  EXPECT_THAT(Ids(actions.waiting), ElementsAre(3));  // the seat is free when job 1 has stopped
  EXPECT_THAT(actions.waiting[0].reason, HasSubstr("a job that is stopping"));
}

TEST_P(JobsPlanTest, PreemptsTheCheapestJobOfMuchLowerPriority) {
  Snapshot snapshot = OneMachine({{.id = 1, .phase = JobPhase::kActive, .priority = 3, .checkpoint_ms = 200},
                                  {.id = 2, .phase = JobPhase::kActive, .priority = 0, .checkpoint_ms = 900},
                                  {.id = 3, .phase = JobPhase::kActive, .priority = 4, .checkpoint_ms = 100},
                                  {.id = 4, .priority = 13}});
  snapshot.max_running_jobs = 3;
  Actions actions = Decide(snapshot);
  EXPECT_THAT(Ids(actions.release), ElementsAre(1));
  EXPECT_THAT(actions.release[0].reason, HasSubstr("makes room for job 4, whose priority is 13 (this one's is 3)"));
  EXPECT_THAT(actions.waiting[0].reason, HasSubstr("waits for job 1 to stop"));
  // While it stops nobody else is asked to, and its seat is kept for job 4.
  snapshot.jobs[0].phase = JobPhase::kStopping;
  snapshot.jobs.push_back({.id = 5, .priority = 12});
  actions = Decide(snapshot);
  EXPECT_THAT(actions.release, IsEmpty());
  EXPECT_THAT(actions.start, IsEmpty());
  EXPECT_THAT(Ids(actions.waiting), ElementsAre(4, 5));
}

TEST_P(JobsPlanTest, PreemptsNobodyInVain) {
  // 9 higher is not enough.
  EXPECT_THAT(Decide(OneMachine({{.id = 1, .phase = JobPhase::kActive}, {.id = 2, .priority = 9}})).release, IsEmpty());
  // The memory that stopping would free is not enough.
  Snapshot snapshot = OneMachine({{.id = 1, .phase = JobPhase::kActive, .memory_bytes = 100'000'000},
                                  {.id = 2, .phase = JobPhase::kActive, .priority = 20, .memory_bytes = 700'000'000},
                                  {.id = 3, .priority = 20, .memory_bytes = 400'000'000}});
  snapshot.max_running_jobs = 3;
  EXPECT_THAT(Decide(snapshot).release, IsEmpty());
  // There is room without it.
  snapshot.jobs[2].memory_bytes = 200'000'000;
  EXPECT_THAT(Decide(snapshot).release, IsEmpty());
  EXPECT_THAT(Ids(Decide(snapshot).start), ElementsAre(3));
  // Its window is closed.
  snapshot = OneMachine({{.id = 1, .phase = JobPhase::kActive}, {.id = 2, .priority = 50, .window = "none"}});
  EXPECT_THAT(Decide(snapshot).release, IsEmpty());
}

TEST_P(JobsPlanTest, PreemptsSeveralWhenOneIsNotEnough) {
  Snapshot snapshot =
      OneMachine({{.id = 1, .phase = JobPhase::kActive, .memory_bytes = 400'000'000, .checkpoint_ms = 300},
                  {.id = 2, .phase = JobPhase::kActive, .memory_bytes = 400'000'000, .checkpoint_ms = 200},
                  {.id = 3, .phase = JobPhase::kPaused, .memory_bytes = 100'000'000, .checkpoint_ms = 900},
                  {.id = 4, .priority = 30, .memory_bytes = 900'000'000}});
  snapshot.max_running_jobs = 4;
  EXPECT_THAT(Ids(Decide(snapshot).release), ElementsAre(2, 1));
}

TEST_P(JobsPlanTest, DoesNotPreemptForAJobBehindOneThatWaitsForRoom) {
  // Job 2 has waited so long that it is first; the seat would be its, not job 3's.
  Snapshot snapshot = OneMachine({{.id = 1, .phase = JobPhase::kActive, .priority = 5},
                                  {.id = 2, .priority = 0, .waiting_ms = 40 * kHourMs},
                                  {.id = 3, .priority = 20}});
  EXPECT_THAT(Decide(snapshot).release, IsEmpty());
}

TEST_P(JobsPlanTest, ReleasesAJobInTimeForTheEdgeOfItsWindow) {
  auto released = [&](std::string_view now, int64_t checkpoint_ms) {
    Snapshot snapshot = OneMachine(
        {{.id = 1, .phase = JobPhase::kActive, .window = "night", .checkpoint_ms = checkpoint_ms}}, &NightSharing());
    // What the test is about is the job's window, not the shares: those let training run.
    Sharing sharing = NightSharing();
    sharing.split.lend = true;
    snapshot.sharing = &sharing;
    snapshot.now_ms = At(now);
    Actions actions = Decide(snapshot);
    return actions.release.empty() ? "" : actions.release[0].reason;
  };
  EXPECT_EQ(released("2026-11-22T04:59:56Z", 0), "");
  EXPECT_THAT(released("2026-11-22T04:59:57Z", 0),
              HasSubstr("window 'night' closes at 2026-11-22 06:00 CET; goes on at 2026-11-22 22:00 CET"));
  EXPECT_EQ(released("2026-11-22T04:59:45Z", 10'000), "");
  EXPECT_NE(released("2026-11-22T04:59:49Z", 10'000), "");
  EXPECT_THAT(released("2026-11-22T05:00:01Z", 0), HasSubstr("opens at 2026-11-22 22:00 CET"));  // missed: at once
}

TEST_P(JobsPlanTest, DoesNotStartAJobRightBeforeItsWindowCloses) {
  Sharing sharing = NightSharing();
  sharing.split.lend = true;
  Snapshot snapshot = OneMachine({{.id = 1, .window = "night"}}, &sharing);
  snapshot.now_ms = At("2026-11-22T04:59:46Z");
  EXPECT_THAT(Decide(snapshot).start, SizeIs(1));
  snapshot.now_ms = At("2026-11-22T04:59:48Z");
  Actions actions = Decide(snapshot);
  EXPECT_THAT(actions.start, IsEmpty());
  EXPECT_THAT(actions.waiting[0].reason, HasSubstr("goes on at 2026-11-22 22:00 CET"));
}

TEST_P(JobsPlanTest, AJobPausedByItsOwnerStaysOutsideItsWindowAndOneResumedThereIsReleased) {
  Snapshot snapshot =
      OneMachine({{.id = 1, .phase = JobPhase::kPaused, .pause_requested = true, .window = "night"}}, &NightSharing());
  EXPECT_THAT(Decide(snapshot).release, IsEmpty());
  snapshot.jobs[0].pause_requested = false;
  EXPECT_THAT(Ids(Decide(snapshot).release), ElementsAre(1));
  EXPECT_THAT(Decide(snapshot).resume, IsEmpty());
}

TEST(JobsPlanByShares, ReleasesAllBeforeTrainingLosesItsShareAndStartsThemWhenItIsBack) {
  for (std::string_view policy : {"windows", "latency_first"}) {
    Snapshot snapshot = OneMachine({{.id = 1, .phase = JobPhase::kActive}, {.id = 2}}, &NightSharing());
    snapshot.max_running_jobs = 2;
    snapshot.now_ms = At("2026-11-22T04:59:30Z");
    EXPECT_THAT(DecideBy(policy, snapshot).release, IsEmpty());
    EXPECT_THAT(Ids(DecideBy(policy, snapshot).start), ElementsAre(2));
    snapshot.now_ms = At("2026-11-22T04:59:58Z");
    Actions actions = DecideBy(policy, snapshot);
    ASSERT_THAT(Ids(actions.release), ElementsAre(1));
    EXPECT_THAT(actions.release[0].reason,
                HasSubstr("no share of the machine from 2026-11-22 06:00 CET on; goes on at 2026-11-22 22:00 CET"));
    EXPECT_THAT(actions.start, IsEmpty());
    snapshot.jobs[0].phase = JobPhase::kQueued;
    snapshot.now_ms = At("2026-11-22T12:00:00Z");
    actions = DecideBy(policy, snapshot);
    EXPECT_THAT(actions.start, IsEmpty());
    EXPECT_THAT(actions.waiting[0].reason, HasSubstr("no share of the machine now; goes on at 2026-11-22 22:00 CET"));
    snapshot.now_ms = At("2026-11-22T21:00:00Z");
    EXPECT_THAT(DecideBy(policy, snapshot).start, SizeIs(2));
  }
}

TEST(JobsPlanByShares, ATimeRatioHoldsStartsButReleasesNobody) {
  Sharing sharing{.split = {.ratio_every_ms = 10'000, .ratio_training = 0.7}};
  for (const std::string& policy : PolicyNames()) {
    Snapshot snapshot = OneMachine({{.id = 1, .phase = JobPhase::kActive}, {.id = 2}}, &sharing);
    snapshot.max_running_jobs = 2;
    snapshot.now_ms = At("2026-11-22T12:00:06Z");
    EXPECT_THAT(DecideBy(policy, snapshot).start, SizeIs(1));
    snapshot.now_ms = At("2026-11-22T12:00:07Z");
    Actions actions = DecideBy(policy, snapshot);
    EXPECT_THAT(actions.release, IsEmpty());
    EXPECT_THAT(actions.start, IsEmpty());
    EXPECT_THAT(actions.waiting[0].reason, HasSubstr("the first 70 % of every 10 s"));
  }
}

TEST(JobsPlanByShares, SaysWhatToDoWhenTrainingNeverHasAShare) {
  Sharing sharing{.split = {.lend = false}};
  Actions actions = DecideBy("static_split", OneMachine({{.id = 1}}, &sharing));
  EXPECT_THAT(actions.waiting[0].reason, HasSubstr("training.cpu above 0, or lend: true"));
}

// Whatever the snapshot: reasons are said, no job is told two things, seats and memory are kept, and the same snapshot
// gives the same actions.
TEST_P(JobsPlanTest, KeepsItsRulesOnThousandsOfSnapshots) {
  std::mt19937 random(7);
  auto upto = [&](int n) { return static_cast<int>(random() % (n + 1)); };
  for (int round = 0; round < 3000; ++round) {
    Snapshot snapshot = OneMachine({}, upto(1) != 0 ? &NightSharing() : &DefaultSharing());
    snapshot.now_ms += int64_t{upto(48)} * kHourMs / 2 - int64_t{upto(4)} * 1000;
    snapshot.max_running_jobs = 1 + upto(2);
    for (int id = 1; id <= 1 + upto(7); ++id) {
      snapshot.jobs.push_back({.id = id,
                               .phase = static_cast<JobPhase>(id <= snapshot.max_running_jobs ? upto(3) : 0),
                               .priority = upto(3) * 6,
                               .waiting_ms = int64_t{upto(20)} * kHourMs,
                               .threads = upto(3),
                               .memory_bytes = int64_t{upto(4)} * 250'000'000,
                               .pause_requested = upto(4) == 0,
                               .window = upto(3) == 0 ? "night" : "",
                               .checkpoint_ms = int64_t{upto(2)} * 500,
                               .time_limit_ms = upto(5) == 0 ? 1000 : 0,
                               .ran_ms = upto(2000)});
    }
    const Actions actions = Decide(snapshot);
    std::map<int32_t, int> told;
    auto each = [&](const auto& list) {
      for (const auto& item : list) {
        EXPECT_FALSE(item.reason.empty());
        ++told[item.id];
      }
    };
    each(actions.start), each(actions.waiting), each(actions.pause), each(actions.resume), each(actions.release),
        each(actions.expire);
    int seats = snapshot.max_running_jobs;
    int64_t memory = 0;
    for (const JobDemand& job : snapshot.jobs) {
      EXPECT_LE(told[job.id], 1);
      if (job.phase == JobPhase::kQueued) {
        EXPECT_EQ(told[job.id], 1);
      } else {
        --seats;
        memory += job.memory_bytes;
      }
    }
    for (const StartJob& start : actions.start) memory += snapshot.jobs[start.id - 1].memory_bytes;
    if (!actions.start.empty()) {
      EXPECT_LE(static_cast<int>(actions.start.size()), seats);
      EXPECT_LE(memory, snapshot.training_memory_bytes);
    }
    const Actions again = Decide(snapshot);
    EXPECT_EQ(Ids(again.start), Ids(actions.start));
    EXPECT_EQ(again.grant, actions.grant);
  }
}

// Measured, not asserted: the goal is 1 % of a core for the whole control loop at 10 Hz, 1 ms a round.
TEST_P(JobsPlanTest, PrintsWhatARoundOfAHundredJobsAndTwentyModelsCosts) {
  Snapshot snapshot = OneMachine({}, &NightSharing());
  for (int id = 1; id <= 100; ++id) snapshot.jobs.push_back({.id = id, .window = id % 2 == 0 ? "night" : ""});
  for (int i = 0; i < 20; ++i) snapshot.models.push_back({StrCat("model", i), 5, 3, 100, 100, 0});
  const auto begin = std::chrono::steady_clock::now();
  constexpr int kRounds = 300;
  for (int i = 0; i < kRounds; ++i) ASSERT_THAT(Decide(snapshot).waiting, testing::Not(IsEmpty()));
  const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - begin;
  printf("%s: %.0f us a round of 100 jobs and 20 models\n", GetParam().c_str(), took.count() / kRounds);
}

TEST(MakePolicy, NamesWhatItKnows) {
  EXPECT_THAT(std::string(MakePolicy("static_splt").status().message()), HasSubstr("did you mean 'static_split'"));
  EXPECT_THAT(std::string(MakePolicy("latency").status().message()), HasSubstr("write latency_first, windows"));
  for (const std::string& name : PolicyNames()) EXPECT_EQ((*MakePolicy(name))->name(), name);
}

}  // namespace
}  // namespace tandem::scheduling
