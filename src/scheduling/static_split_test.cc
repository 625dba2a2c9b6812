#include <gmock/gmock.h>

#include "scheduling/policy.h"

namespace tandem::scheduling {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

Snapshot OneMachine(std::vector<JobDemand> jobs) {
  Snapshot snapshot;
  snapshot.now_ms = 1000;
  snapshot.cpus = 2;
  snapshot.training_threads = 2;
  snapshot.training_memory_bytes = 1'000'000'000;
  snapshot.jobs = std::move(jobs);
  return snapshot;
}

Actions Decide(const Snapshot& snapshot) { return (*MakePolicy("static_split"))->Decide(snapshot); }

TEST(StaticSplit, StartsTheHighestPriorityThenTheLongestWaiting) {
  Actions actions = Decide(OneMachine(
      {{.id = 1, .waiting_ms = 900}, {.id = 2, .priority = 5, .waiting_ms = 1}, {.id = 3, .waiting_ms = 950}}));
  ASSERT_THAT(actions.start, SizeIs(1));
  EXPECT_EQ(actions.start[0].id, 2);
  ASSERT_THAT(actions.waiting, SizeIs(2));
  EXPECT_EQ(actions.waiting[0].id, 3);
  EXPECT_THAT(actions.waiting[0].reason, HasSubstr("running job to end"));
}

TEST(StaticSplit, LetsSmallerJobsPassOneThatDoesNotFit) {
  Actions actions =
      Decide(OneMachine({{.id = 1, .priority = 9, .memory_bytes = 2'000'000'000}, {.id = 2, .memory_bytes = 10}}));
  ASSERT_THAT(actions.start, SizeIs(1));
  EXPECT_EQ(actions.start[0].id, 2);
  EXPECT_THAT(actions.waiting[0].reason, HasSubstr("2.0 GB of memory, training has 1.0 GB"));
}

TEST(StaticSplit, GivesAllTrainingThreadsToAJobThatNamesNone) {
  EXPECT_EQ(Decide(OneMachine({{.id = 1, .threads = 0}})).start[0].threads, 2);
}

TEST(StaticSplit, StartsNothingWhileStopping) {
  Snapshot snapshot = OneMachine({{.id = 1}});
  snapshot.stopping = true;
  Actions actions = Decide(snapshot);
  EXPECT_THAT(actions.start, IsEmpty());
  EXPECT_THAT(actions.waiting[0].reason, HasSubstr("stopping"));
}

TEST(StaticSplit, WaitsForTheTimeOfARetry) {
  Actions actions = Decide(OneMachine({{.id = 1, .not_before_ms = 6000}}));
  EXPECT_THAT(actions.start, IsEmpty());
  EXPECT_THAT(actions.waiting, IsEmpty());
}

TEST(StaticSplit, PausesAndResumesOnRequestAndKeepsTheSeatOfAPausedJob) {
  Snapshot snapshot = OneMachine({{.id = 1, .phase = JobPhase::kActive, .pause_requested = true}, {.id = 2}});
  Actions actions = Decide(snapshot);
  ASSERT_THAT(actions.pause, SizeIs(1));
  EXPECT_THAT(actions.start, IsEmpty());
  snapshot.jobs[0].phase = JobPhase::kPaused;
  EXPECT_THAT(Decide(snapshot).resume, IsEmpty());
  snapshot.jobs[0].pause_requested = false;
  EXPECT_THAT(Decide(snapshot).resume, SizeIs(1));
}

TEST(StaticSplit, IsTheSameForTheSameSnapshot) {
  Snapshot snapshot = OneMachine({{.id = 4}, {.id = 3}});
  EXPECT_EQ(Decide(snapshot).start[0].id, 3);
  EXPECT_EQ(Decide(snapshot).start[0].id, 3);
}

TEST(MakePolicy, NamesWhatItKnows) {
  EXPECT_THAT(std::string(MakePolicy("static_splt").status().message()), HasSubstr("did you mean 'static_split'"));
}

}  // namespace
}  // namespace tandem::scheduling
