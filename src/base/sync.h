#pragma once
// The three pieces that threads are joined with: a bounded queue, a stop token, a gate.
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <stop_token>
#include <utility>

namespace tandem {

// Cancellation is std::stop_token throughout; the name is here so that a reader finds it.
using StopToken = std::stop_token;
using StopSource = std::stop_source;

// A bounded queue of many producers and many consumers. Thread-safe.
template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(size_t capacity) : capacity_(capacity) {}

  // Waits for room. False once the queue is closed, also for a producer that was waiting; `value` is then dropped.
  bool Push(T value) {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [&] { return closed_ || items_.size() < capacity_; });
    return Append(std::move(value));
  }

  // False at once when full or closed.
  bool TryPush(T value) {
    std::unique_lock lock(mutex_);
    if (items_.size() >= capacity_) return false;
    return Append(std::move(value));
  }

  // Waits for an item; empty once the queue is closed and drained.
  std::optional<T> Pop() {
    std::unique_lock lock(mutex_);
    ready_.wait(lock, [&] { return closed_ || !items_.empty(); });
    return Take();
  }

  // Empty at once when there is none.
  std::optional<T> TryPop() {
    std::unique_lock lock(mutex_);
    return Take();
  }

  // Producers fail from now on; consumers get what is queued, then the end.
  void Close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
    room_.notify_all();
    ready_.notify_all();
  }

  size_t size() const {
    std::lock_guard lock(mutex_);
    return items_.size();
  }

 private:
  // REQUIRES: mutex_ held.
  bool Append(T value) {
    if (closed_) return false;
    items_.push_back(std::move(value));
    ready_.notify_one();
    return true;
  }
  // REQUIRES: mutex_ held.
  std::optional<T> Take() {
    if (items_.empty()) return std::nullopt;
    std::optional<T> item(std::move(items_.front()));
    items_.pop_front();
    room_.notify_one();
    return item;
  }

  const size_t capacity_;
  mutable std::mutex mutex_;
  std::condition_variable room_, ready_;
  std::deque<T> items_;  // guarded by mutex_
  bool closed_ = false;  // guarded by mutex_
};

// Counts work in flight, and lets the owner wait until all of it ended. Thread-safe.
class Gate {
 public:
  // RAII: one piece of work in flight; empty if the gate was closed.
  class Pass {
   public:
    Pass() = default;
    explicit Pass(Gate* gate) : gate_(gate) {}
    Pass(Pass&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}
    Pass& operator=(Pass&&) = delete;
    ~Pass() {
      if (gate_ != nullptr) gate_->Leave();
    }
    explicit operator bool() const { return gate_ != nullptr; }

   private:
    Gate* gate_ = nullptr;
  };

  Pass Enter() {
    std::lock_guard lock(mutex_);
    if (closed_) return Pass();
    ++inside_;
    return Pass(this);
  }

  // Refuses new work, then waits until all that entered has left.
  void Close() {
    std::unique_lock lock(mutex_);
    closed_ = true;
    empty_.wait(lock, [&] { return inside_ == 0; });
  }

 private:
  void Leave() {
    std::lock_guard lock(mutex_);
    if (--inside_ == 0) empty_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable empty_;
  int64_t inside_ = 0;   // guarded by mutex_
  bool closed_ = false;  // guarded by mutex_
};

}  // namespace tandem
