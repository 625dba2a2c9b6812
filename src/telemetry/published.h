#pragma once
// A value that one writer replaces and many readers read without waiting.
#include <array>
#include <atomic>
#include <memory>
#include <thread>
#include <utility>

#include "telemetry/metrics.h"

namespace tandem {

// Readers are wait-free: two atomic adds on a cell of (nearly) their own, no lock, so a preempted writer of low
// priority never delays them. A replaced value is destroyed once every cell was seen without readers: whoever entered
// later reads the new value. (Sleepable RCU of McKenney, with one phase.)
template <typename T>
class Published {
 public:
  explicit Published(std::unique_ptr<const T> first) : current_(first.release()) {}
  Published(const Published&) = delete;
  Published& operator=(const Published&) = delete;
  ~Published() { delete current_.load(); }

  // Calls body(const T&) and gives what it returns. `body` must be short: Replace waits for it.
  template <typename Body>
  auto Read(Body&& body) const {
    Inside inside(&cells_[internal::ThreadShard()].readers);
    return std::forward<Body>(body)(*current_.load());
  }

  // REQUIRES: one caller at a time, not from within Read.
  void Replace(std::unique_ptr<const T> next) {
    std::unique_ptr<const T> old(current_.exchange(next.release()));
    for (const Cell& cell : cells_) {
      while (cell.readers.load() != 0) std::this_thread::yield();
    }
  }

 private:
  struct alignas(64) Cell {
    mutable std::atomic<int> readers{0};
  };
  // The add and the load of the pointer must not be reordered against Replace's exchange and loads: all are
  // sequentially consistent.
  struct Inside {
    explicit Inside(std::atomic<int>* readers) : readers(readers) { readers->fetch_add(1); }
    ~Inside() { readers->fetch_sub(1); }
    std::atomic<int>* readers;
  };

  std::atomic<const T*> current_;
  std::array<Cell, internal::kMetricShards> cells_;
};

}  // namespace tandem
