#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "scheduling/policy.h"

namespace tandem::scheduling {
namespace {

constexpr int64_t kRoundMs = 20;

// What the requests do at a time.
struct Traffic {
  int busy = 0, waiting = 0;
  double serving_cpus = 0, ratio = 0;
  int64_t requests = 0;
};

// Rounds of 20 ms that hand on what the gate must remember.
struct Rounds {
  GateSnapshot snapshot;
  std::vector<int> allowed;
  std::vector<int64_t> at_ms;

  Rounds(Strength strength, int granted, int cpus = 2) {
    snapshot = {
        .strength = strength, .granted_threads = granted, .now_ms = 1'000'000, .cpus = cpus, .allowed = granted};
  }
  void Run(int64_t ms, const Traffic& traffic, int64_t round_ms = kRoundMs) {
    for (int64_t at = 0; at < ms; at += round_ms) {
      snapshot.now_ms += round_ms;
      snapshot.busy_instances = traffic.busy;
      snapshot.waiting = traffic.waiting;
      snapshot.serving_cpus = traffic.serving_cpus;
      snapshot.worst_ratio = traffic.ratio;
      snapshot.worst_requests = traffic.requests;
      const GateDecision decision = DecideGate(snapshot);
      EXPECT_FALSE(decision.reason.empty());
      EXPECT_GE(decision.allowed, 0);
      EXPECT_LE(decision.allowed, snapshot.granted_threads);
      snapshot.allowed = decision.allowed;
      snapshot.closed_since_ms = decision.closed_since_ms;
      snapshot.calm_since_ms = decision.calm_since_ms;
      allowed.push_back(decision.allowed);
      at_ms.push_back(snapshot.now_ms);
    }
  }
  int now() const { return allowed.back(); }
};

constexpr Traffic kQuiet{};
constexpr Traffic kServed{.busy = 1, .serving_cpus = 0.5, .ratio = 0.5, .requests = 50};
constexpr Traffic kNear{.busy = 1, .serving_cpus = 0.5, .ratio = 0.9, .requests = 50};
constexpr Traffic kMissed{.busy = 2, .waiting = 4, .serving_cpus = 1.5, .ratio = 1.5, .requests = 50};

TEST(Gate, DecidesOneRoundAsTheTableSays) {
  struct Row {
    const char* what;
    Strength strength;
    int granted, allowed;
    Traffic traffic;
    int expected;
  };
  const Row rows[] = {
      {"real time: requests run", Strength::kRealtime, 4, 4, kServed, 4},
      {"real time: requests wait",
       Strength::kRealtime,
       4,
       4,
       {.busy = 2, .waiting = 9, .ratio = 0.9, .requests = 9},
       4},
      {"real time: missed", Strength::kRealtime, 4, 4, kMissed, 2},
      {"real time: missed at 1", Strength::kRealtime, 4, 1, kMissed, 0},
      {"real time: missed by too few", Strength::kRealtime, 4, 4, {.busy = 1, .ratio = 3, .requests = 9}, 4},
      {"real time: near, partly closed", Strength::kRealtime, 4, 2, kNear, 2},
      {"real time: met, not yet calm", Strength::kRealtime, 4, 2, kServed, 2},
      {"real time: granted less than before", Strength::kRealtime, 2, 4, kServed, 2},
      {"weight: a CPU is free", Strength::kWeight, 2, 2, kServed, 2},
      {"weight: requests wait", Strength::kWeight, 2, 2, {.busy = 1, .waiting = 1}, 1},
      {"weight: all CPUs busy", Strength::kWeight, 2, 2, {.busy = 2}, 1},
      {"weight: one granted", Strength::kWeight, 1, 1, {.busy = 2}, 0},
      {"weight: missed", Strength::kWeight, 4, 4, kMissed, 2},
      {"weak: requests run", Strength::kWeak, 2, 2, kServed, 0},
      {"weak: requests run, but hardly", Strength::kWeak, 2, 2, {.busy = 1, .serving_cpus = 0.05}, 2},
      {"weak: none runs now", Strength::kWeak, 2, 2, {.serving_cpus = 0.5}, 2},
      {"nothing granted", Strength::kRealtime, 0, 2, kQuiet, 0},
  };
  for (const Row& row : rows) {
    Rounds rounds(row.strength, row.granted);
    rounds.snapshot.allowed = row.allowed;
    rounds.Run(kRoundMs, row.traffic);
    EXPECT_EQ(rounds.now(), row.expected) << row.what;
  }
}

TEST(Gate, TakesATenfoldLoadStepWithinAHundredMilliseconds) {
  for (Strength strength : {Strength::kRealtime, Strength::kWeight, Strength::kWeak}) {
    Rounds rounds(strength, 16, 16);
    rounds.Run(1000, kQuiet);
    ASSERT_EQ(rounds.now(), 16);
    rounds.Run(100, {.busy = 16, .waiting = 40, .serving_cpus = 16, .ratio = 4, .requests = 400});
    EXPECT_EQ(rounds.now(), 0);
  }
}

TEST(Gate, RealTimeReopensOneThreadARoundAfterAHundredCalmMilliseconds) {
  Rounds rounds(Strength::kRealtime, 3);
  rounds.Run(60, kMissed);
  ASSERT_EQ(rounds.now(), 0);
  rounds.Run(100, kServed);
  EXPECT_EQ(rounds.now(), 0);
  rounds.Run(20, kServed);
  EXPECT_EQ(rounds.now(), 1);
  rounds.Run(40, kServed);
  EXPECT_EQ(rounds.now(), 3);
}

TEST(Gate, RealTimeStaysAsItIsNearATarget) {
  Rounds rounds(Strength::kRealtime, 4);
  rounds.Run(20, kMissed);
  rounds.Run(1000, kNear);
  EXPECT_EQ(rounds.now(), 2);
}

TEST(Gate, TheOthersReopenAfterTwentyCalmMilliseconds) {
  for (Strength strength : {Strength::kWeight, Strength::kWeak}) {
    Rounds rounds(strength, 2);
    rounds.Run(200, {.busy = 2, .waiting = 1, .serving_cpus = 2});
    ASSERT_LT(rounds.now(), 2);
    rounds.Run(20, kQuiet);
    EXPECT_LT(rounds.now(), 2);
    rounds.Run(20, kQuiet);
    EXPECT_EQ(rounds.now(), 2);
  }
}

TEST(Gate, WeightComesBackToOneCpuLessOnceTheTargetIsMet) {
  Rounds rounds(Strength::kWeight, 4, 4);
  rounds.Run(100, {.busy = 4, .waiting = 1, .ratio = 2, .requests = 50});
  ASSERT_EQ(rounds.now(), 0);
  rounds.Run(20, {.busy = 4, .waiting = 1, .ratio = 0.5, .requests = 50});
  EXPECT_EQ(rounds.now(), 3);
}

TEST(Gate, NeverStarvesTraining) {
  for (Strength strength : {Strength::kRealtime, Strength::kWeight, Strength::kWeak}) {
    for (int64_t round_ms : {10, 20, 50}) {
      Rounds rounds(strength, 1);
      rounds.Run(60'000, kMissed, round_ms);
      int64_t last_open = rounds.at_ms[0], longest_closed = 0, open_ms = 0;
      for (size_t i = 0; i < rounds.allowed.size(); ++i) {
        if (rounds.allowed[i] == 0) continue;
        longest_closed = std::max(longest_closed, rounds.at_ms[i] - last_open);
        last_open = rounds.at_ms[i];
        open_ms += round_ms;
      }
      EXPECT_LE(longest_closed, 2000 + 2 * round_ms);
      EXPECT_GE(open_ms, 28 * std::max<int64_t>(20, round_ms));
      EXPECT_LE(open_ms, 30 * std::max<int64_t>(20, round_ms));  // and not more than that: targets are missed
    }
  }
}

TEST(Gate, AGrantThatComesBackOpensAtOnce) {
  Rounds rounds(Strength::kRealtime, 2);
  rounds.Run(1000, kServed);
  rounds.snapshot.granted_threads = 0;
  rounds.Run(5000, kServed);
  EXPECT_EQ(rounds.now(), 0);
  rounds.snapshot.granted_threads = 2;
  rounds.Run(40, kServed);
  EXPECT_EQ(rounds.now(), 2);
}

TEST(Gate, TurnedOffItTakesNothingBackOfWhatIsGranted) {
  for (Strength strength : {Strength::kRealtime, Strength::kWeight, Strength::kWeak}) {
    Rounds rounds(strength, 2);
    rounds.Run(100, kMissed);
    ASSERT_LT(rounds.now(), 2);
    rounds.snapshot.off = true;
    rounds.Run(20, kMissed);
    EXPECT_EQ(rounds.now(), 2);
    rounds.snapshot.granted_threads = 1;
    rounds.Run(20, kMissed);
    EXPECT_EQ(rounds.now(), 1) << "shares and windows still count";
    rounds.snapshot.granted_threads = 0;
    rounds.Run(20, kQuiet);
    EXPECT_EQ(rounds.now(), 0);
  }
}

TEST(Gate, AReasonForPeopleHasTheFiguresThatThereAre) {
  GateSnapshot snapshot;
  EXPECT_EQ(ReasonWithFigures(snapshot, {.reason = "as granted"}), "as granted");
  snapshot.busy_instances = 2;
  snapshot.waiting = 3;
  snapshot.serving_cpus = 0.84;
  EXPECT_EQ(ReasonWithFigures(snapshot, {.reason = "requests run"}),
            "requests run (requests: 2 run, 3 wait; serving uses 0.84 CPUs)");
  snapshot.worst_ratio = 1.82;
  snapshot.worst_requests = 43;
  snapshot.worst_model = "fashion";
  snapshot.worst_slo_ms = 5;
  EXPECT_EQ(ReasonWithFigures(snapshot, {.reason = "missed"}),
            "missed (p99 of 'fashion' 9.1 ms, target 5 ms, over 43 requests; requests: 2 run, 3 wait; serving uses "
            "0.84 CPUs)");
}

TEST(Gate, DoesNotCountTheTimeWithoutAGrantAsStarving) {
  Rounds rounds(Strength::kWeak, 0);
  rounds.Run(5000, kMissed);
  rounds.snapshot.granted_threads = 1;
  rounds.Run(1000, kMissed);
  EXPECT_EQ(rounds.now(), 0);
}

}  // namespace
}  // namespace tandem::scheduling
