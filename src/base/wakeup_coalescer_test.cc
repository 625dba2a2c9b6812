#include "base/wakeup_coalescer.h"

#include <gtest/gtest.h>

namespace tandem {
namespace {

constexpr int64_t kPause = 50'000, kMs = 1'000'000;

class WakeupCoalescerTest : public ::testing::Test {
 protected:
  // So many requests a millisecond, one at a time, until it pauses; gives after how many milliseconds, 0 = never.
  int64_t TimeToPause(int requests_a_ms, int64_t most_ms) {
    const int64_t begin = now_;
    while (now_ < begin + most_ms * kMs) {
      now_ += kMs / requests_a_ms;
      if (int64_t end = coalescer_.Next(1, now_); end > 0) {
        pause_end_ = end;
        return (now_ - begin) / kMs;
      }
    }
    return 0;
  }
  // The pause ends and has brought so many. Whether the next one follows.
  bool EndPause(int requests) {
    now_ = pause_end_ + 20'000;
    pause_end_ = coalescer_.Next(requests, now_);
    return pause_end_ > 0;
  }

  WakeupCoalescer coalescer_{kPause, 3};
  int64_t now_ = 1'000'000'000, pause_end_ = 0;
};

TEST_F(WakeupCoalescerTest, NeverPausesWhereRequestsAreRare) { EXPECT_EQ(TimeToPause(1, 10'000), 0); }

TEST_F(WakeupCoalescerTest, PausesWhileEachPauseBringsSeveral) {
  ASSERT_GT(TimeToPause(20, 100), 0);
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(EndPause(3)) << i;
}

TEST_F(WakeupCoalescerTest, GivesUpATryThatBringsOneAndTriesEverMoreSeldom) {
  int64_t total = 0;
  for (int i = 0; i < 20; ++i) {
    ASSERT_GT(TimeToPause(20, 1000), 0);
    EXPECT_FALSE(EndPause(1));
    total = now_ / kMs - 1000;
  }
  // A client that waits for each answer meets a pause every 80 ms.
  EXPECT_GT(total, 1000);
}

TEST_F(WakeupCoalescerTest, OnePoorPauseAfterManyGoodOnesIsForgiven) {
  ASSERT_GT(TimeToPause(20, 100), 0);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(EndPause(8));
  EXPECT_TRUE(EndPause(1));
  EXPECT_TRUE(EndPause(4));
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(EndPause(0));
  EXPECT_FALSE(EndPause(0));
}

TEST_F(WakeupCoalescerTest, PausesOfSeveralThreadsEndAtTheSameTimes) {
  ASSERT_GT(TimeToPause(20, 100), 0);
  EXPECT_EQ(pause_end_ % kPause, 0);
  EXPECT_GE(pause_end_ - now_, kPause / 2);
  EXPECT_LE(pause_end_ - now_, kPause * 3 / 2);
}

}  // namespace
}  // namespace tandem
