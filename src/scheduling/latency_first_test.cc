#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "scheduling/test_snapshots.h"

namespace tandem::scheduling {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int64_t kRoundMs = 100;

ModelLoad Load(double slo_ms, double p99_ms, int64_t requests, int waiting = 0) {
  return {"fashion", slo_ms, p99_ms, static_cast<double>(requests), requests, waiting};
}

// Rounds of 100 ms in which the memory is handed on.
class LatencyFirstTest : public testing::Test {
 protected:
  LatencyFirstTest() {
    snapshot_ = OneMachine({{.id = 1, .phase = JobPhase::kActive}});
    snapshot_.cpus = 16;
    snapshot_.training_threads = 16;
    sharing_.min_training = 0.05;
    snapshot_.sharing = &sharing_;
  }
  // Runs for `ms` under `models`; the decisions it took.
  std::vector<Decision> Run(int64_t ms, std::vector<ModelLoad> models) {
    std::vector<Decision> decisions;
    snapshot_.models = std::move(models);
    for (int64_t at = 0; at < ms; at += kRoundMs) {
      snapshot_.now_ms += kRoundMs;
      Actions actions = DecideBy("latency_first", snapshot_);
      snapshot_.memory = actions.memory;
      threads_ = actions.grant.training_threads;
      for (Decision& decision : actions.decisions) {
        EXPECT_FALSE(decision.reason.empty());
        decisions.push_back(std::move(decision));
      }
    }
    return decisions;
  }
  double share() const { return snapshot_.memory.training_share; }

  Sharing sharing_;
  Snapshot snapshot_;
  int threads_ = 0;
};

TEST_F(LatencyFirstTest, DecidesBySnapshotsAsTheTableSays) {
  struct Row {
    const char* what;
    ModelLoad load;
    double share_before, share_after;
  };
  const Row rows[] = {
      {"target missed", Load(5, 5.1, 20), 1, 0.5},
      {"missed, but by too few requests", Load(5, 50, 19), 1, 1},
      {"between margin and target", Load(5, 4.5, 500), 0.5, 0.5},
      {"met, but not yet for long", Load(5, 1, 500), 0.5, 0.5},
      {"no target", Load(0, 500, 500), 1, 1},
      {"nearly at the floor", Load(5, 9, 100), 0.08, 0.05},
      {"at the floor", Load(5, 9, 100), 0.05, 0.05},
      {"far over the target", Load(5, 500, 100), 0.8, 0.4},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.what);
    snapshot_.memory = {.training_share = row.share_before};
    std::vector<Decision> decisions = Run(kRoundMs, {row.load});
    EXPECT_DOUBLE_EQ(share(), row.share_after);
    EXPECT_EQ(decisions.size(), row.share_before == row.share_after ? 0u : 1u);
    EXPECT_EQ(threads_, std::max(1, static_cast<int>(std::ceil(row.share_after * 16 - 1e-9))));
  }
}

TEST_F(LatencyFirstTest, SaysTheNumbersThatMadeItDecide) {
  std::vector<Decision> decisions = Run(kRoundMs, {{"slow", 100, 90, 1, 300, 0}, Load(5, 7.21, 812)});
  ASSERT_THAT(decisions, SizeIs(1));
  EXPECT_EQ(decisions[0].what, "training_share");
  EXPECT_EQ(decisions[0].reason, "p99 of 'fashion' 7.2 ms > target 5 ms over 812 requests");
}

TEST_F(LatencyFirstTest, HalvesAtMostTwiceASecondDownToTheFloor) {
  EXPECT_THAT(Run(500, {Load(5, 9, 100)}), SizeIs(1));
  EXPECT_THAT(Run(500, {Load(5, 9, 100)}), SizeIs(1));
  EXPECT_DOUBLE_EQ(share(), 0.25);
  std::vector<Decision> decisions = Run(10'000, {Load(5, 9, 100)});
  EXPECT_DOUBLE_EQ(share(), 0.05);
  EXPECT_THAT(decisions, SizeIs(3));
  EXPECT_THAT(decisions.back().reason, HasSubstr("this is training's least"));
  EXPECT_EQ(threads_, 1);
}

TEST_F(LatencyFirstTest, NeverGoesBelowWhatTheSplitGuarantees) {
  sharing_.split = {.serving = {.cpu = 0.7}, .training = {.cpu = 0.3}};
  Run(10'000, {Load(5, 9, 100)});
  EXPECT_DOUBLE_EQ(share(), 0.3);
  sharing_.split.training.cpu = 0.6;
  std::vector<Decision> decisions = Run(kRoundMs, {Load(5, 9, 100)});
  EXPECT_DOUBLE_EQ(share(), 0.6);
  EXPECT_THAT(decisions[0].reason, HasSubstr("the split guarantees training 60 %"));
}

TEST_F(LatencyFirstTest, RisesByATenthASecondAfterThreeCalmSecondsAndTheCoolDown) {
  Run(1000, {Load(5, 9, 100)});
  ASSERT_DOUBLE_EQ(share(), 0.25);  // lowered 0.4 s ago
  EXPECT_THAT(Run(4500, {Load(5, 1, 100)}), IsEmpty());
  std::vector<Decision> decisions = Run(200, {Load(5, 1, 100)});
  ASSERT_THAT(decisions, SizeIs(1));
  EXPECT_DOUBLE_EQ(share(), 0.35);
  EXPECT_EQ(decisions[0].reason,
            "p99 of 'fashion' 1 ms < target 5 ms over 100 requests, all have had a margin for 3 s");
  EXPECT_THAT(Run(3000, {Load(5, 1, 100)}), SizeIs(3));
  EXPECT_NEAR(share(), 0.65, 1e-9);
  Run(10'000, {Load(5, 1, 100)});
  EXPECT_DOUBLE_EQ(share(), 1);
}

TEST_F(LatencyFirstTest, TakesAMomentWithoutMarginAsTheEndOfCalm) {
  snapshot_.memory.training_share = 0.5;
  EXPECT_THAT(Run(2900, {Load(5, 1, 100)}), IsEmpty());
  EXPECT_THAT(Run(100, {Load(5, 4.5, 100)}), IsEmpty());
  EXPECT_THAT(Run(2900, {Load(5, 1, 100)}), IsEmpty());
}

TEST_F(LatencyFirstTest, DoesNotFlapOnAP99ThatHoversAtTheTarget) {
  int raised = 0, lowered = 0;
  for (int second = 0; second < 600; ++second) {
    const double p99 = 5 * (1 + 0.15 * ((second * 7919) % 13 - 6) / 6.0);  // 0.85 to 1.15 of the target
    for (const Decision& decision : Run(1000, {Load(5, p99, 100)})) ++(decision.to > decision.from ? raised : lowered);
  }
  EXPECT_EQ(raised, 0);
  EXPECT_EQ(lowered, 5);  // 1, 0.5, 0.25, 0.125, 0.0625, 0.05
}

TEST_F(LatencyFirstTest, GivesTrainingAllAtOnceWhenNobodyAsks) {
  Run(1000, {Load(5, 9, 100)});
  // The last second's count is 0 for the first time: the last request was up to a second ago.
  EXPECT_THAT(Run(1000, {Load(5, 0, 0)}), IsEmpty());
  std::vector<Decision> decisions = Run(100, {Load(5, 0, 0)});
  ASSERT_THAT(decisions, SizeIs(1));
  EXPECT_EQ(decisions[0].reason, "no requests for 2 s");
  EXPECT_DOUBLE_EQ(share(), 1);
}

TEST_F(LatencyFirstTest, ARequestThatWaitsWhileNoneEndsIsNoQuiet) {
  snapshot_.memory.training_share = 0.5;
  EXPECT_THAT(Run(20'000, {Load(5, 0, 0, /*waiting=*/3)}), IsEmpty());
}

TEST_F(LatencyFirstTest, LeavesTheShareWhereAPersonPutIt) {
  snapshot_.automatic = false;
  snapshot_.memory.training_share = 0.4;
  EXPECT_THAT(Run(5000, {Load(5, 50, 100)}), IsEmpty());
  EXPECT_THAT(Run(5000, {Load(5, 0, 0)}), IsEmpty());
  EXPECT_DOUBLE_EQ(share(), 0.4);
  EXPECT_EQ(threads_, 7);
}

TEST_F(LatencyFirstTest, ActsOnWhenTheClockIsSetBack) {
  Run(1000, {Load(5, 9, 100)});
  snapshot_.now_ms -= 3'600'000;
  EXPECT_THAT(Run(100, {Load(5, 9, 100)}), SizeIs(1));
  snapshot_.now_ms -= 3'600'000;
  EXPECT_THAT(Run(8000, {Load(5, 1, 100)}), testing::Not(IsEmpty()));
  snapshot_.now_ms -= 3'600'000;
  EXPECT_THAT(Run(1200, {Load(5, 0, 0)}), SizeIs(1));
}

TEST_F(LatencyFirstTest, TheWorstModelDecides) {
  std::vector<Decision> decisions =
      Run(100, {{"a", 5, 6, 1, 100, 0}, {"b", 50, 200, 1, 100, 0}, {"c", 5, 1, 1, 100, 0}});
  ASSERT_THAT(decisions, SizeIs(1));
  EXPECT_THAT(decisions[0].reason, HasSubstr("'b'"));
}

}  // namespace
}  // namespace tandem::scheduling
