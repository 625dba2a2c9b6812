#include "serving/instance_pool.h"

#include <algorithm>
#include <bit>
#include <chrono>

#include "base/status.h"
#include "base/text.h"

namespace tandem::serving {

InstancePool::InstancePool(int size, int queue_limit, std::atomic<int>* pending)
    : size_(size),
      queue_limit_(queue_limit),
      pending_(pending),
      idle_(size == 64 ? ~uint64_t{0} : (uint64_t{1} << size) - 1) {}

int InstancePool::TakeIdle() {
  uint64_t idle = idle_.load();
  while (idle != 0) {
    uint64_t lowest = idle & -idle;  // the same instances again and again: their memory is in the cache
    if (idle_.compare_exchange_weak(idle, idle & ~lowest)) return std::countr_zero(lowest);
  }
  return -1;
}

int InstancePool::TryAcquire() { return waiting_.load() == 0 ? TakeIdle() : -1; }

absl::StatusOr<int> InstancePool::Wait(int64_t nanos, std::string_view what) {
  Waiter self;
  std::unique_lock lock(mutex_);
  if (static_cast<int>(queue_.size()) >= queue_limit_) {
    return Unavailable("queue of ", what, " is full (", queue_.size(), " waiting); try again later");
  }
  queue_.push_back(&self);
  waiting_.store(static_cast<int>(queue_.size()));
  HandOut();
  pending_->fetch_add(1, std::memory_order_relaxed);
  bool mine = self.ready.wait_for(lock, std::chrono::nanoseconds(nanos), [&] { return self.index >= 0; });
  pending_->fetch_sub(1, std::memory_order_relaxed);
  if (mine) return self.index;
  queue_.erase(std::find(queue_.begin(), queue_.end(), &self));
  waiting_.store(static_cast<int>(queue_.size()));
  return DeadlineExceeded(what, ": no instance became free within ", HumanSeconds(static_cast<double>(nanos) / 1e9));
}

void InstancePool::Release(int index) {
  idle_.fetch_or(uint64_t{1} << index);
  if (waiting_.load() == 0) return;
  std::lock_guard lock(mutex_);
  HandOut();
}

void InstancePool::HandOut() {
  while (!queue_.empty()) {
    int index = TakeIdle();
    if (index < 0) break;
    Waiter* first = queue_.front();
    queue_.pop_front();
    waiting_.store(static_cast<int>(queue_.size()));
    first->index = index;
    first->ready.notify_one();
  }
}

}  // namespace tandem::serving
