#include "training/worker_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <mutex>
#include <numeric>
#include <set>
#include <thread>

#include "base/clock.h"
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
  std::latch two(2), alone(1);
  std::mutex mutex;
  std::set<std::thread::id> after;
  WorkerPool::Work work;
  work.items = 40;
  work.body = [&](int64_t i) {
    if (i == 5) pool.SetThreads(2);
    if (i == 6 || i == 7) two.arrive_and_wait();  // needs two threads at once
    if (i == 20) {
      pool.SetThreads(1);
      alone.count_down();
    }
    if (i > 20) alone.wait();  // one of them may have been begun before
    std::lock_guard lock(mutex);
    if (i > 21) after.insert(std::this_thread::get_id());
    return absl::OkStatus();
  };
  ASSERT_TRUE(pool.Run(work).ok());
  EXPECT_EQ(pool.threads(), 1);
  EXPECT_EQ(after.size(), 1u);
}

using Filler = WorkerPool::Filler;

TEST(WorkerPool, FillersComeOnlyWhenNoItemMayBeBegun) {
  WorkerPool pool(1);
  std::vector<int> order;  // one worker: no lock
  std::latch begun(1), filled(1);
  WorkerPool::Work work;
  work.items = 4;
  work.body = [&](int64_t i) {
    if (i == 0) begun.wait();  // the fillers are there before the other items are begun
    order.push_back(1);
    return absl::OkStatus();
  };
  pool.Start(work);
  Filler idle(&pool, Filler::Urgency::kIdle, 2, [&](int64_t i) {
    order.push_back(3);
    if (i == 1) filled.count_down();
  });
  Filler soon(&pool, Filler::Urgency::kSoon, 2, [&](int64_t) { order.push_back(2); });
  begun.count_down();
  ASSERT_TRUE(pool.Finish().ok());
  filled.wait();
  EXPECT_EQ(order, (std::vector<int>{1, 1, 1, 1, 2, 2, 3, 3}));
}

TEST(WorkerPool, TheAwaitedFillerComesFirst) {
  WorkerPool pool(1);
  pool.SetGate(0);
  std::vector<int> order;
  Filler soon(&pool, Filler::Urgency::kSoon, 2, [&](int64_t) { order.push_back(1); });
  Filler idle(&pool, Filler::Urgency::kIdle, 3, [&](int64_t) { order.push_back(2); });
  pool.Wake();
  ASSERT_TRUE(pool.Await(idle, [&] { pool.SetGate(1); }).ok());
  EXPECT_TRUE(idle.done());
  ASSERT_TRUE(pool.Await(soon, {}).ok());
  EXPECT_EQ(order, (std::vector<int>{2, 2, 2, 1, 1}));
}

TEST(WorkerPool, AFillerThatIsWithdrawnWaitsForThePieceThatRuns) {
  WorkerPool pool(2);
  std::latch begun(1);
  std::atomic<int> ended{0};
  {
    Filler filler(&pool, Filler::Urgency::kIdle, 1'000'000'000, [&](int64_t i) {
      if (i == 0) begun.count_down();
      ++ended;
    });
    begun.wait();
  }
  const int at_end = ended;
  EXPECT_GE(at_end, 1);
  WorkerPool::Work work;
  work.items = 10;
  work.body = [](int64_t) { return absl::OkStatus(); };
  ASSERT_TRUE(pool.Run(work).ok());
  EXPECT_EQ(ended, at_end);
}

TEST(WorkerPool, PiecesThatAnItemWaitsForComeBeforeAllOthers) {
  WorkerPool pool(1);
  pool.SetGate(0);
  std::vector<int> order;  // one worker: no lock
  std::latch all(3);
  auto note = [&](int number) {
    return [&, number](int64_t) {
      order.push_back(number);
      all.count_down();
    };
  };
  Filler idle(&pool, Filler::Urgency::kIdle, 1, note(3));
  Filler soon(&pool, Filler::Urgency::kSoon, 1, note(2));
  Filler now(&pool, Filler::Urgency::kNow, 1, note(1));
  pool.SetGate(1);
  all.wait();
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

TEST(WorkerPool, PiecesThatAreTakenBackAreNotRun) {
  WorkerPool pool(1);
  pool.SetGate(0);
  bool ran = false;
  Filler filler(&pool, Filler::Urgency::kNow, 1, [&](int64_t) { ran = true; });
  EXPECT_TRUE(filler.Withdraw());
  EXPECT_FALSE(filler.Withdraw()) << "there is none left";
  pool.SetGate(1);
  Filler after(&pool, Filler::Urgency::kSoon, 1, [](int64_t) {});
  ASSERT_TRUE(pool.Await(after, {}).ok());
  EXPECT_FALSE(ran);
}

TEST(WorkerPool, AWorkerIsSpareWhileItHasNothingToDo) {
  WorkerPool pool(2);
  WorkerPool::Work work;
  work.items = 2;
  std::latch both(2), seen(1);
  work.body = [&](int64_t i) {
    both.arrive_and_wait();
    if (i == 0) {
      EXPECT_FALSE(pool.HasSpareWorker()) << "both have an item";
      seen.count_down();
    }
    seen.wait();
    return absl::OkStatus();
  };
  ASSERT_TRUE(pool.Run(work).ok());
  work.items = 1;
  work.body = [&](int64_t) {
    while (!pool.HasSpareWorker()) std::this_thread::yield();
    std::latch end(1);
    Filler filler(&pool, Filler::Urgency::kNow, 1, [&](int64_t) { end.wait(); });
    EXPECT_FALSE(pool.HasSpareWorker()) << "it has the piece";
    end.count_down();
    return absl::OkStatus();
  };
  ASSERT_TRUE(pool.Run(work).ok());
}

TEST(WorkerPool, FillersAtTheEdgeDoNotKeepTheNextWorkFromItsThreads) {
  WorkerPool pool(2);
  std::atomic<int64_t> pieces{0};
  Filler filler(&pool, Filler::Urgency::kIdle, 1'000'000'000, [&](int64_t) { ++pieces; });
  for (int step = 0; step < 100; ++step) {
    std::latch both(2);
    WorkerPool::Work work;
    work.items = 2;
    work.body = [&](int64_t) {
      both.arrive_and_wait();  // each thread takes an item: no piece is in the way for long
      return absl::OkStatus();
    };
    ASSERT_TRUE(pool.Run(work).ok());
  }
  EXPECT_GT(pieces, 0);
}

TEST(WorkerPool, AClosedGateBeginsNothingAndStopEndsTheWait) {
  WorkerPool pool(2);
  pool.SetGate(0);
  EXPECT_EQ(pool.threads(), 0);
  std::atomic<int> ran{0};
  Filler filler(&pool, Filler::Urgency::kSoon, 1, [&](int64_t) { ++ran; });
  WorkerPool::Work work;
  work.items = 3;
  work.body = [&](int64_t) {
    ++ran;
    return absl::OkStatus();
  };
  work.on_wake = [&] { EXPECT_EQ(ran, 0); };
  std::thread stopper([&] {
    pool.Wake();
    pool.Stop();
  });
  EXPECT_TRUE(absl::IsCancelled(pool.Run(work)));
  stopper.join();
  EXPECT_EQ(ran, 0);
  work.interruptible = false;
  EXPECT_TRUE(pool.Run(work).ok()) << "an update is ended whatever the gate says";
  EXPECT_EQ(ran, 3);
}

TEST(WorkerPool, TheGateLetsThreadsInAndOutWhileItRuns) {
  WorkerPool pool(3);
  std::latch three(3), closed(1);
  std::mutex mutex;
  std::set<std::thread::id> after;
  WorkerPool::Work work;
  work.items = 60;
  pool.SetGate(0);
  pool.Wake();
  work.on_wake = [&] { pool.SetGate(3); };
  work.body = [&](int64_t i) {
    if (i < 3) three.arrive_and_wait();
    if (i == 20) {
      pool.SetGate(1);
      closed.count_down();
    }
    if (i > 20) closed.wait();  // two of them may have been begun before
    std::lock_guard lock(mutex);
    if (i > 22) after.insert(std::this_thread::get_id());
    return absl::OkStatus();
  };
  ASSERT_TRUE(pool.Run(work).ok());
  EXPECT_EQ(after.size(), 1u);
}

TEST(WorkerPool, StopWakesTheDriverWhileItemsRun) {
  WorkerPool pool(1);
  std::latch woken(1);
  WorkerPool::Work work;
  work.items = 2;
  work.body = [&](int64_t) {
    pool.Stop();
    woken.wait();  // the driver hears of it before the item ends
    return absl::OkStatus();
  };
  work.on_wake = [&] { woken.count_down(); };
  EXPECT_TRUE(absl::IsCancelled(pool.Run(work)));
}

TEST(WorkerPool, AbandonedWorkBeginsNoFurtherItem) {
  WorkerPool pool(2);
  std::atomic<int64_t> begun{0};
  std::latch some(1);
  WorkerPool::Work work;
  work.items = 10'000'000;
  work.body = [&](int64_t i) {
    if (i == 0) some.count_down();
    ++begun;
    return absl::OkStatus();
  };
  pool.Start(work);
  some.wait();
  pool.Abandon();
  EXPECT_LT(begun, 10'000'000);
  work.items = 3;
  EXPECT_TRUE(pool.Run(work).ok());
}

TEST(WorkerPool, CountsWhatTheThreadsTimeWentInto) {
  WorkerPool pool(2);
  std::atomic<int64_t> spent{0};
  auto spend = [&] {
    const int64_t begin = Clock::Real()->MonotonicNanos();
    int64_t now = begin;
    while (now - begin < 2'000'000) now = Clock::Real()->MonotonicNanos();
    spent += now - begin;
  };
  WorkerPool::Work work;
  work.items = 10;
  work.body = [&](int64_t) {
    spend();
    return absl::OkStatus();
  };
  ASSERT_TRUE(pool.Run(work).ok());
  Filler filler(&pool, Filler::Urgency::kIdle, 5, [&](int64_t) { spend(); });
  ASSERT_TRUE(pool.Await(filler, {}).ok());
  ASSERT_TRUE(pool.Run(work).ok());  // the last piece is accounted for
  WorkerPool::Usage usage = pool.usage();
  EXPECT_GE(usage.items_nanos + usage.fillers_nanos, 25 * 2'000'000);
  EXPECT_GE(usage.fillers_nanos, 4 * 2'000'000);
}

TEST(WorkerPool, NoItemsIsDoneAtOnce) {
  WorkerPool pool(2);
  WorkerPool::Work work;
  work.body = [](int64_t) { return absl::OkStatus(); };
  EXPECT_TRUE(pool.Run(work).ok());
}

}  // namespace
}  // namespace tandem::training
