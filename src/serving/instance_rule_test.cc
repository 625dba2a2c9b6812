#include "serving/instance_rule.h"

#include <gtest/gtest.h>

namespace tandem::serving {
namespace {

TEST(InstanceRule, TheShareOfTheCpuBoundsTheirNumberButNeverBelowTheLeast) {
  struct Row {
    int least, most, bound, expected;
  };
  const Row rows[] = {
      {1, 8, 0, 8},   // no wall
      {1, 8, 1, 1},   // a wall of up to one CPU
      {1, 8, 3, 3},   // 2.5 CPUs
      {1, 8, 16, 8},  // the configuration allows fewer
      {4, 4, 1, 4},   // a fixed number stays
  };
  for (const Row& row : rows) EXPECT_EQ(MostInstances(row.least, row.most, row.bound), row.expected) << row.bound;
}

TEST(InstanceRule, FollowsWaitingIdlenessAndTheBound) {
  constexpr int64_t kMs = 1'000'000, kMinute = 60'000 * kMs;
  using enum InstanceChange;
  struct Row {
    const char* what;
    InstanceLook look;
    InstanceChange expected;
  };
  const uint64_t long_ns = 20 * kMs, short_ns = 5 * kMs;
  const Row rows[] = {
      {"nothing ran", {.now = 1, .most = 4, .bearable_ns = kMs}, kNone},
      {"requests wait", {.now = 1, .most = 4, .ran = 10, .waited_ns = long_ns, .bearable_ns = kMs}, kOneMore},
      {"not for long", {.now = 1, .most = 4, .ran = 10, .waited_ns = short_ns, .bearable_ns = kMs}, kNone},
      {"no memory",
       {.now = 1, .most = 4, .ran = 10, .waited_ns = long_ns, .bearable_ns = kMs, .may_grow = false},
       kNone},
      {"all there may be", {.now = 4, .most = 4, .ran = 10, .waited_ns = long_ns, .bearable_ns = kMs}, kNone},
      {"one idles", {.now = 3, .most = 4, .idle_ns = kMinute + 1}, kOneLess},
      {"not for a minute", {.now = 3, .most = 4, .idle_ns = kMinute}, kNone},
      {"others wait although it idles",
       {.now = 2, .most = 4, .ran = 1, .waited_ns = long_ns, .idle_ns = 2 * kMinute},
       kOneMore},
      {"the last one stays", {.now = 1, .most = 4, .idle_ns = 2 * kMinute}, kNone},
      {"the share shrank", {.now = 3, .most = 2}, kOneLess},
      {"also while requests wait",
       {.now = 3, .most = 1, .ran = 10, .waited_ns = long_ns, .bearable_ns = kMs},
       kOneLess},
      {"a fixed number", {.now = 3, .least = 3, .most = 3, .idle_ns = 2 * kMinute}, kNone},
  };
  for (const Row& row : rows) EXPECT_EQ(JudgeInstances(row.look), row.expected) << row.what;
}

}  // namespace
}  // namespace tandem::serving
