#include "scheduling/grant.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scheduling/test_snapshots.h"

namespace tandem::scheduling {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

Split MakeSplit(double serving, double training, bool lend) {
  return {.serving = {.cpu = serving}, .training = {.cpu = training}, .lend = lend};
}

TEST(Grant, TurnsSharesIntoCapsByTheirRules) {
  struct Row {
    double serving, training;
    bool lend, active;
    double training_cpus, serving_cpus;
    bool open;
    int threads, instances;
  };
  const Row rows[] = {
      // The default: training gets all that serving leaves.
      {1, 0, true, false, 0, 0, true, 4, 0},
      {1, 0, true, true, 0, 0, true, 4, 0},
      // Lent: no cap, but what training is guaranteed is kept from serving while training is there to use it.
      {0.7, 0.3, true, false, 0, 0, true, 4, 0},
      {0.7, 0.3, true, true, 0, 2.8, true, 4, 0},
      {0, 1, true, true, 0, 0.01, true, 4, 0},
      // Walls, also while the other side idles.
      {0.7, 0.3, false, false, 1.2, 2.8, true, 2, 3},
      {0.7, 0.3, false, true, 1.2, 2.8, true, 2, 3},
      {0.75, 0.25, false, true, 1, 3, true, 1, 3},
      {0.5, 0.05, false, true, 0.2, 2, true, 1, 2},
      {0.5, 0, false, true, 0, 2, false, 0, 2},
      {0.2, 0.8, false, true, 3.2, 0.8, true, 4, 1},
      {0, 1, false, true, 4, 0.01, true, 4, 1},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(StrCat(row.serving, " ", row.training, " lend ", row.lend, " active ", row.active));
    Sharing sharing{.split = MakeSplit(row.serving, row.training, row.lend)};
    Snapshot snapshot =
        OneMachine({{.id = 1, .phase = row.active ? JobPhase::kActive : JobPhase::kQueued, .threads = 0}}, &sharing);
    snapshot.cpus = 4;
    snapshot.training_threads = 4;
    for (const std::string& policy : PolicyNames()) {
      Grant grant = DecideBy(policy, snapshot).grant;
      EXPECT_NEAR(grant.training_cpus, row.training_cpus, 1e-9) << policy;
      EXPECT_NEAR(grant.serving_cpus, row.serving_cpus, 1e-9) << policy;
      EXPECT_EQ(grant.training_open, row.open) << policy;
      EXPECT_EQ(grant.training_threads, row.threads) << policy;
      EXPECT_EQ(grant.serving_instances, row.instances) << policy;
    }
  }
}

TEST(Grant, LeavesToServingWhatTrainingCannotUse) {
  Sharing sharing{.split = MakeSplit(0.5, 0.5, true)};
  Snapshot snapshot = OneMachine({{.id = 1, .phase = JobPhase::kActive, .threads = 1}}, &sharing);
  snapshot.cpus = snapshot.training_threads = 4;
  EXPECT_NEAR(DecideBy("static_split", snapshot).grant.serving_cpus, 3, 1e-9);
  snapshot.jobs.push_back({.id = 2, .phase = JobPhase::kActive, .threads = 3});
  EXPECT_NEAR(DecideBy("static_split", snapshot).grant.serving_cpus, 2, 1e-9);
  for (JobDemand& job : snapshot.jobs) job.phase = JobPhase::kPaused;
  EXPECT_EQ(DecideBy("static_split", snapshot).grant.serving_cpus, 0) << "no limit";
  for (JobDemand& job : snapshot.jobs) job.phase = JobPhase::kActive;
  sharing.split.ratio_every_ms = 1000;
  sharing.split.ratio_training = 0.25;
  snapshot.now_ms += 500 - snapshot.now_ms % 1000;
  EXPECT_EQ(DecideBy("static_split", snapshot).grant.serving_cpus, 0) << "it is serving's part of the second";
}

TEST(Grant, TurnsMemorySharesIntoLimits) {
  struct Row {
    double serving, training;
    bool lend;
    int64_t max, high, serving_max;
  };
  const Row rows[] = {
      {0, 0, true, 600, 600, 0},        {0.6, 0.4, true, 600, 400, 0},  {0.6, 0.4, false, 400, 400, 600},
      {0, 0.4, false, 400, 400, 0},     {0.6, 0, false, 400, 400, 600}, {0.6, 0, true, 600, 400, 0},
      {0.2, 0.8, false, 600, 600, 200},
  };
  for (const Row& row : rows) {
    Sharing sharing{.split = {.serving = {.cpu = 0.5, .memory = row.serving},
                              .training = {.cpu = 0.5, .memory = row.training},
                              .lend = row.lend}};
    Snapshot snapshot = OneMachine({}, &sharing);
    snapshot.memory_bytes = 1000;
    snapshot.training_memory_bytes = 600;
    Grant grant = DecideBy("static_split", snapshot).grant;
    EXPECT_EQ(grant.training_memory_bytes, row.max);
    EXPECT_EQ(grant.training_memory_high_bytes, row.high);
    EXPECT_EQ(grant.serving_memory_bytes, row.serving_max);
  }
}

TEST(Grant, AWallOfMemoryHoldsJobsThatDoNotFitBehindIt) {
  Sharing sharing{.split = {.training = {.cpu = 0.5, .memory = 0.3}, .lend = false}};
  Actions actions = DecideBy("static_split", OneMachine({{.id = 1, .memory_bytes = 400'000'000}}, &sharing));
  EXPECT_THAT(actions.start, IsEmpty());
  EXPECT_THAT(actions.waiting[0].reason, HasSubstr("training has 300 MB"));
}

TEST(Grant, CarriesTheDiskLimitsOfBothSides) {
  Sharing sharing{.split = {.serving = {.cpu = 0.7, .disk_read_bytes_per_s = 5},
                            .training = {.cpu = 0.3, .memory = 0.1, .disk_write_bytes_per_s = 7, .disk_iops = 9}}};
  Grant grant = DecideBy("static_split", OneMachine({}, &sharing)).grant;
  EXPECT_EQ(grant.training_disk, (SideShare{.disk_write_bytes_per_s = 7, .disk_iops = 9}));
  EXPECT_EQ(grant.serving_disk, (SideShare{.disk_read_bytes_per_s = 5}));
}

TEST(Grant, OpensTrainingForItsPartOfATimeRatio) {
  Sharing sharing{.split = {.ratio_every_ms = 10'000, .ratio_training = 0.7}};
  Snapshot snapshot = OneMachine({{.id = 1, .phase = JobPhase::kActive}}, &sharing);
  const int64_t begin = snapshot.now_ms - snapshot.now_ms % 10'000;
  for (auto [after_ms, open] : {std::pair{0, true}, {6'999, true}, {7'000, false}, {9'999, false}, {10'000, true}}) {
    snapshot.now_ms = begin + after_ms;
    for (const std::string& policy : PolicyNames()) {
      Grant grant = DecideBy(policy, snapshot).grant;
      EXPECT_EQ(grant.training_open, open) << policy << " " << after_ms;
      EXPECT_EQ(grant.training_threads, open ? 2 : 0) << policy << " " << after_ms;
    }
  }
}

TEST(Grant, FollowsWindowsAndSaysWhenTheyChange) {
  Snapshot snapshot = OneMachine({}, &NightSharing());
  for (std::string_view policy : {"windows", "latency_first"}) {
    snapshot.now_ms = At("2026-11-21T20:59:59Z");
    Grant day = DecideBy(policy, snapshot).grant;
    EXPECT_EQ(day.window, "");
    EXPECT_FALSE(day.training_open);
    EXPECT_EQ(day.next_edge_ms, At("2026-11-21T21:00:00Z"));
    snapshot.now_ms = At("2026-11-21T21:00:00Z");
    Grant night = DecideBy(policy, snapshot).grant;
    EXPECT_EQ(night.window, "night");
    EXPECT_TRUE(night.training_open);
    EXPECT_EQ(night.next_edge_ms, At("2026-11-22T05:00:00Z"));
  }
  Grant fixed = DecideBy("static_split", snapshot).grant;
  EXPECT_EQ(fixed.window, "");
  EXPECT_FALSE(fixed.training_open);
  EXPECT_EQ(fixed.next_edge_ms, 0);
}

TEST(Grant, TheFirstOpenWindowCounts) {
  Sharing sharing{
      .windows = {MakeWindow("a", {.from = "12:00", .to = "13:00", .time_zone = "UTC"}, MakeSplit(1, 0, true)),
                  MakeWindow("b", {.from = "11:00", .to = "14:00", .time_zone = "UTC"}, MakeSplit(1, 0, true))}};
  Snapshot snapshot = OneMachine({}, &sharing);
  EXPECT_EQ(DecideBy("windows", snapshot).grant.window, "a");
  snapshot.now_ms = At("2026-11-21T13:00:00Z");
  EXPECT_EQ(DecideBy("windows", snapshot).grant.window, "b");
}

TEST(Grant, AChangeOfWindowIsADecisionOnce) {
  Snapshot snapshot = OneMachine({}, &NightSharing());
  snapshot.now_ms = At("2026-11-21T22:00:00Z");
  Actions actions = DecideBy("windows", snapshot);
  ASSERT_THAT(actions.decisions, SizeIs(1));
  EXPECT_EQ(actions.decisions[0].what, "window");
  EXPECT_EQ(actions.decisions[0].from, 0);
  EXPECT_EQ(actions.decisions[0].to, 0.9);
  EXPECT_EQ(actions.decisions[0].reason,
            "window 'night' opened: guaranteed are 90 % of the CPUs for training, 10 % for serving, until 2026-11-22 "
            "06:00 CET");
  snapshot.memory = actions.memory;
  EXPECT_THAT(DecideBy("windows", snapshot).decisions, IsEmpty());
  snapshot.now_ms = At("2026-11-22T05:00:00Z");
  actions = DecideBy("windows", snapshot);
  ASSERT_THAT(actions.decisions, SizeIs(1));
  EXPECT_THAT(
      actions.decisions[0].reason,
      HasSubstr("window 'night' closed: guaranteed are 0 % of the CPUs for training, 100 % for serving, as walls"));
}

TEST(Timetable, FindsTrainingsNextShareBehindWindowsThatGiveNone) {
  const Split none = MakeSplit(1, 0, false);
  Sharing sharing{
      .split = none,
      .windows = {MakeWindow("holiday", {.days = {"holidays"}, .time_zone = "UTC", .holidays = {"2026-11-28"}}, none),
                  MakeWindow("saturday", {.days = {"sat", "holidays"}, .time_zone = "UTC", .holidays = {"2026-11-28"}},
                             MakeSplit(0.5, 0.5, false))}};
  const Timetable timetable(&sharing, true);
  // Saturday the 28th is a holiday, whose window comes first.
  EXPECT_EQ(timetable.NextTraining(At("2026-11-22T12:00:00Z")), At("2026-12-05T00:00:00Z"));
  sharing.windows[1].split = none;
  EXPECT_EQ(timetable.NextTraining(At("2026-11-22T12:00:00Z")), std::nullopt);
}

}  // namespace
}  // namespace tandem::scheduling
