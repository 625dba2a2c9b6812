#include "serving/canary_rule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::serving {
namespace {

using enum Verdict::Kind;
using ::testing::HasSubstr;

CanaryReport Report(CanarySide champion, CanarySide canary) { return {champion, canary, 10, 60, ""}; }

const spec::CanaryConfig kBounds;  // 1 % more failures, 1.5 times the p99, 200 requests

TEST(CanaryRule, WaitsUntilTheCanaryHadEnoughRequests) {
  Verdict verdict = Judge(Report({1, 5000, 0, 1000}, {2, 199, 0, 9000}), kBounds);
  EXPECT_EQ(verdict.kind, kWait);
  EXPECT_EQ(verdict.reason, "canary version 2 had 199 of the 200 requests that it is judged by");
  EXPECT_EQ(Judge(Report({1, 0, 0, 0}, {2, 0, 0, 0}), kBounds).kind, kWait);
}

TEST(CanaryRule, KeepsACanaryWithinItsBounds) {
  Verdict verdict = Judge(Report({1, 5000, 5, 1000}, {2, 500, 5, 1500}), kBounds);
  EXPECT_EQ(verdict.kind, kKeep);
  EXPECT_THAT(verdict.reason, HasSubstr("p99 of canary version 2 is 1.500 ms, of version 1 1.000 ms"));
}

TEST(CanaryRule, RollsBackACanaryThatFailsMoreThanTheChampion) {
  Verdict verdict = Judge(Report({1, 5000, 5, 1000}, {2, 500, 7, 1000}), kBounds);
  EXPECT_EQ(verdict.kind, kRollBack);
  EXPECT_EQ(verdict.reason,
            "canary version 2 failed 7 of 500 requests; version 1 failed 5 of 5000 requests; at most 1.00 % more may "
            "fail");
}

TEST(CanaryRule, FailuresThatTheChampionHasTooAreNotTheCanarysFault) {
  EXPECT_EQ(Judge(Report({1, 1000, 300, 1000}, {2, 500, 152, 1000}), kBounds).kind, kKeep);
}

TEST(CanaryRule, DoesNotWaitOnceNothingCanSaveTheCanary) {
  EXPECT_EQ(Judge(Report({1, 1000, 0, 1000}, {2, 3, 3, 0}), kBounds).kind, kRollBack) << "3 of 200 is above 1 %";
  EXPECT_EQ(Judge(Report({1, 1000, 0, 1000}, {2, 2, 2, 0}), kBounds).kind, kWait) << "2 of 200 would be allowed";
}

TEST(CanaryRule, RollsBackACanaryThatIsTooSlow) {
  Verdict verdict = Judge(Report({1, 5000, 0, 1000}, {2, 500, 0, 1501}), kBounds);
  EXPECT_EQ(verdict.kind, kRollBack);
  EXPECT_EQ(verdict.reason,
            "p99 of canary version 2 is 1.501 ms, of version 1 1.000 ms; at most 1.50 times as long is allowed");
}

TEST(CanaryRule, ASlowCanaryIsKeptWhileTheChampionHadTooFewRequestsToCompare) {
  EXPECT_EQ(Judge(Report({1, 100, 0, 1000}, {2, 500, 0, 9000}), kBounds).kind, kKeep);
  EXPECT_EQ(Judge(Report({1, 0, 0, 0}, {2, 500, 0, 9000}), kBounds).kind, kKeep);
}

}  // namespace
}  // namespace tandem::serving
