#include "training/worker_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <numeric>

#include "base/status.h"

namespace tandem::training {
namespace {

TEST(WorkerPool, FoldsInIndexOrderForAnyNumberOfThreads) {
  for (int threads : {1, 2, 5}) {
    WorkerPool pool(threads);
    std::vector<int64_t> order, expected(100);
    std::iota(expected.begin(), expected.end(), 0);
    std::atomic<int64_t> bodies{0};
    WorkerPool::Work work;
    work.items = 100;
    work.body = [&](int64_t) {
      ++bodies;
      return absl::OkStatus();
    };
    work.fold = [&](int64_t i) {
      order.push_back(i);
      return absl::OkStatus();
    };
    ASSERT_TRUE(pool.Run(work).ok());
    EXPECT_EQ(bodies, 100);
    EXPECT_EQ(order, expected);
  }
}

TEST(WorkerPool, ReportsTheErrorOfTheLowestIndexAndEndsEarly) {
  WorkerPool pool(4);
  WorkerPool::Work work;
  work.items = 1000;
  std::atomic<int64_t> begun{0};
  work.body = [&](int64_t i) -> absl::Status {
    ++begun;
    if (i >= 5) return InvalidArgument("item ", i);
    return absl::OkStatus();
  };
  absl::Status status = pool.Run(work);
  EXPECT_EQ(MessageOf(status), "item 5");
  EXPECT_LT(begun, 1000);
  work.body = [](int64_t) { return absl::OkStatus(); };
  EXPECT_TRUE(pool.Run(work).ok()) << "the pool works on after an error";
}

TEST(WorkerPool, TurnsAnExceptionIntoAStatus) {
  WorkerPool pool(2);
  WorkerPool::Work work;
  work.items = 3;
  work.body = [](int64_t) -> absl::Status { throw std::runtime_error("out of memory"); };
  EXPECT_THAT(std::string(MessageOf(pool.Run(work))), testing::HasSubstr("out of memory"));
}

TEST(WorkerPool, StopBeginsNoFurtherItem) {
  WorkerPool pool(1);
  int64_t done = 0;
  WorkerPool::Work work;
  work.items = 10;
  work.body = [&](int64_t i) {
    if (i == 3) pool.Stop();
    ++done;
    return absl::OkStatus();
  };
  EXPECT_TRUE(absl::IsCancelled(pool.Run(work)));
  EXPECT_EQ(done, 4);
  EXPECT_TRUE(absl::IsCancelled(pool.Run(work)));
  work.interruptible = false;
  EXPECT_TRUE(pool.Run(work).ok());
}

TEST(WorkerPool, PauseRestsBetweenItemsAndResumeGoesOn) {
  WorkerPool pool(2);
  bool rested = false;
  int64_t done_at_rest = -1;
  std::atomic<int64_t> done{0};
  WorkerPool::Work work;
  work.items = 50;
  work.body = [&](int64_t i) {
    if (i == 10) pool.SetPaused(true);
    ++done;
    return absl::OkStatus();
  };
  work.on_wake = [&] {
    if (!pool.resting()) return;
    rested = true;
    done_at_rest = done;
    pool.SetPaused(false);
  };
  ASSERT_TRUE(pool.Run(work).ok());
  EXPECT_TRUE(rested);
  EXPECT_GE(done_at_rest, 11);
  EXPECT_LE(done_at_rest, 12);
  EXPECT_EQ(done, 50);
}

TEST(WorkerPool, ThreadsComeAndGoWhileItRuns) {
  WorkerPool pool(1);
  std::latch two(2);
  std::atomic<int> running{0}, most_after{0};
  WorkerPool::Work work;
  work.items = 40;
  work.body = [&](int64_t i) {
    int now = ++running;
    if (i == 5) pool.SetThreads(2);
    if (i == 6 || i == 7) two.arrive_and_wait();  // needs two threads at once
    if (i == 20) pool.SetThreads(1);
    if (i > 23) most_after = std::max<int>(most_after, now);
    --running;
    return absl::OkStatus();
  };
  ASSERT_TRUE(pool.Run(work).ok());
  EXPECT_EQ(pool.threads(), 1);
  EXPECT_EQ(most_after, 1);
}

TEST(WorkerPool, NoItemsIsDoneAtOnce) {
  WorkerPool pool(2);
  WorkerPool::Work work;
  work.body = [](int64_t) { return absl::OkStatus(); };
  EXPECT_TRUE(pool.Run(work).ok());
}

}  // namespace
}  // namespace tandem::training
