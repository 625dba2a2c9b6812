#include "serving/cpu_budget.h"

#include <gtest/gtest.h>

namespace tandem::serving {
namespace {

TEST(CpuBudget, AdmitsEverythingWithoutALimit) {
  CpuBudget budget;
  budget.Settle(0.02, 100);
  EXPECT_TRUE(budget.Admit());
}

TEST(CpuBudget, HoldsTheMeanWithinTwoPercentWhateverARoundCosts) {
  CpuBudget budget;
  budget.SetLimit(0.7);
  double used = 0;
  const int rounds = 500;
  for (int i = 0; i < rounds; ++i) {
    double round = budget.Admit() ? 0.04 : 0;  // two CPUs for a whole round of 20 ms: the most there can be
    used += round;
    budget.Settle(0.02, round);
  }
  EXPECT_NEAR(used / (rounds * 0.02), 0.7, 0.014);
}

TEST(CpuBudget, AnIdleSideSavesUpNoMoreThanABurst) {
  CpuBudget budget;
  budget.SetLimit(0.5);
  budget.Settle(1000, 0);
  budget.Settle(0, 0.026);  // 0.5 CPUs * 0.05 s = 0.025 s were saved
  EXPECT_FALSE(budget.Admit());
}

TEST(CpuBudget, RefusesTheLeastUrgentFirst) {
  CpuBudget budget;
  budget.SetLimit(1);
  auto most = [&] {
    int admitted = 0;
    while (admitted < 10 && budget.Admit(admitted + 1)) ++admitted;
    return admitted;
  };
  EXPECT_EQ(most(), 10);
  budget.Settle(0, 0.001);
  EXPECT_EQ(most(), 9);
  budget.Settle(0, 0.024);  // half of what may be overdrawn
  EXPECT_EQ(most(), 5);
  budget.Settle(0, 0.025);
  EXPECT_EQ(most(), 0);
  budget.Settle(0.03, 0);
  EXPECT_EQ(most(), 6);
  budget.Settle(0.03, 0);
  EXPECT_EQ(most(), 10);
}

TEST(CpuBudget, TheMeanIsExactForTheMostUrgentToo) {
  CpuBudget budget;
  budget.SetLimit(0.7);
  double used = 0;
  for (int i = 0; i < 1000; ++i) {
    const double round = budget.Admit(1) ? 0.04 : 0;
    used += round;
    budget.Settle(0.02, round);
  }
  EXPECT_NEAR(used / 20, 0.7, 0.014);
}

TEST(CpuBudget, LiftingTheLimitOpensAtOnce) {
  CpuBudget budget;
  budget.SetLimit(0.1);
  budget.Settle(0.02, 1);
  ASSERT_FALSE(budget.Admit());
  budget.SetLimit(0);
  EXPECT_TRUE(budget.Admit());
}

}  // namespace
}  // namespace tandem::serving
