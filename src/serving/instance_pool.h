#pragma once
// Which instances of a version are idle.
#include <atomic>
#include <bit>
#include <cstdint>

namespace tandem::serving {

// Hands out numbers, each to one holder at a time. Thread-safe; each call is one atomic operation, nothing waits. All
// are sequentially consistent: who gives an instance back looks for waiting requests after that, who queues one looks
// for idle instances after that, so one of them sees the other.
class InstancePool {
 public:
  static constexpr int kMax = 64;

  // -1 when none is idle. The same ones again and again: their memory is in the cache.
  int TryTake() {
    uint64_t idle = idle_.load();
    while (idle != 0) {
      uint64_t lowest = idle & -idle;
      if (idle_.compare_exchange_weak(idle, idle & ~lowest)) return std::countr_zero(lowest);
    }
    return -1;
  }
  void Release(int index) { idle_.fetch_or(uint64_t{1} << index); }

  // The owner's: one thread at a time. Numbers are 0..size-1.
  void Add() { idle_.fetch_or(uint64_t{1} << size_.fetch_add(1)); }
  // Takes the last number away; false while it is in use.
  bool TryRemove() {
    uint64_t last = uint64_t{1} << (size_.load() - 1);
    if ((idle_.fetch_and(~last) & last) == 0) return false;
    size_.fetch_sub(1);
    return true;
  }

  int idle() const { return std::popcount(idle_.load()); }
  int size() const { return size_.load(std::memory_order_relaxed); }
  int busy() const {
    int busy = size() - std::popcount(idle_.load(std::memory_order_relaxed));
    return busy > 0 ? busy : 0;
  }

 private:
  std::atomic<uint64_t> idle_{0};
  std::atomic<int> size_{0};
};

}  // namespace tandem::serving
