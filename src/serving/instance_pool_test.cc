#include "serving/instance_pool.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace tandem::serving {
namespace {

constexpr int64_t kLong = 60'000'000'000;

TEST(InstancePool, GivesEachInstanceToOneHolder) {
  std::atomic<int> pending{0};
  InstancePool pool(64, 4, &pending);
  std::vector<bool> seen(64);
  for (int i = 0; i < 64; ++i) {
    int index = pool.TryAcquire();
    ASSERT_GE(index, 0);
    EXPECT_FALSE(seen[index]);
    seen[index] = true;
  }
  EXPECT_EQ(pool.TryAcquire(), -1);
  pool.Release(17);
  EXPECT_EQ(pool.TryAcquire(), 17);
}

TEST(InstancePool, ServesWaitersInTheOrderOfArrival) {
  std::atomic<int> pending{0};
  InstancePool pool(1, 16, &pending);
  int held = pool.TryAcquire();
  std::vector<int> order;
  std::vector<std::thread> waiters;
  for (int i = 0; i < 5; ++i) {
    waiters.emplace_back([&, i] {
      int index = *pool.Wait(kLong, "m");
      order.push_back(i);  // one holder at a time
      pool.Release(index);
    });
    while (pool.waiting() != i + 1) std::this_thread::yield();
  }
  EXPECT_EQ(pool.TryAcquire(), -1) << "must not overtake";
  pool.Release(held);
  for (std::thread& waiter : waiters) waiter.join();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4}));
}

TEST(InstancePool, RefusesAtOnceWhenTheQueueIsFull) {
  std::atomic<int> pending{0};
  InstancePool pool(1, 0, &pending);
  pool.TryAcquire();
  absl::Status status = pool.Wait(kLong, "model 'm'").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(status.message(), "queue of model 'm' is full (0 waiting); try again later");
}

TEST(InstancePool, GivesUpAtTheDeadlineAndLeavesTheQueue) {
  std::atomic<int> pending{0};
  InstancePool pool(1, 1, &pending);
  int held = pool.TryAcquire();
  EXPECT_EQ(pool.Wait(1'000'000, "m").status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(pool.waiting(), 0);
  EXPECT_EQ(pending, 0);
  pool.Release(held);
  EXPECT_EQ(pool.TryAcquire(), held);
}

TEST(InstancePool, LosesNoWakeUpUnderContention) {
  std::atomic<int> pending{0};
  InstancePool pool(2, 64, &pending);
  std::atomic<int> inside{0}, most{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 2000; ++n) {
        int index = pool.TryAcquire();
        if (index < 0) index = *pool.Wait(kLong, "m");
        int now = ++inside;
        if (now > most) most = now;
        --inside;
        pool.Release(index);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(most, 2);
  EXPECT_EQ(pool.waiting(), 0);
  EXPECT_EQ(pending, 0);
}

}  // namespace
}  // namespace tandem::serving
