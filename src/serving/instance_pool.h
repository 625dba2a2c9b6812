#pragma once
// Who runs on which instance: at once on an idle one, else in the order of arrival.
#include <atomic>
#include <bit>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>

#include "absl/status/statusor.h"

namespace tandem::serving {

// Hands out numbers 0..size-1, each to one holder at a time. Thread-safe. Taking an idle one and giving one back is one
// atomic operation while nobody waits; the mutex is for those who wait, and is shared with requests of this pool only.
class InstancePool {
 public:
  // REQUIRES: 1 <= size <= 64, queue_limit >= 0. `pending` counts those that wait, for metrics; it outlives the pool.
  InstancePool(int size, int queue_limit, std::atomic<int>* pending);

  // -1 when none is idle or others wait already.
  int TryAcquire();
  // Waits at most `nanos`. Unavailable at once when `queue_limit` wait already; DeadlineExceeded. `what` begins the
  // messages ("model 'x'").
  absl::StatusOr<int> Wait(int64_t nanos, std::string_view what);
  void Release(int index);

  int busy() const { return size_ - std::popcount(idle_.load(std::memory_order_relaxed)); }
  int waiting() const { return waiting_.load(std::memory_order_relaxed); }

 private:
  struct Waiter {
    std::condition_variable ready;
    int index = -1;
  };
  int TakeIdle();
  void HandOut();  // REQUIRES: mutex_ held

  const int size_, queue_limit_;
  std::atomic<int>* const pending_;
  // Ordered by sequential consistency: who frees looks at waiting_ after setting its bit, who waits looks at idle_
  // after counting itself, so one of them sees the other.
  std::atomic<uint64_t> idle_;
  std::atomic<int> waiting_{0};  // = queue_.size(), written with mutex_ held

  std::mutex mutex_;
  std::deque<Waiter*> queue_;  // guarded by mutex_
};

}  // namespace tandem::serving
