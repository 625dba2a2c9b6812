#pragma once
// Wakes one waiting thread without a lock, so that a request thread may do it.
#include <atomic>
#include <cstdint>

namespace tandem::serving {

// Read, look for work, and Wait with what was read: a Signal in between makes Wait return at once. Thread-safe.
class Waker {
 public:
  uint32_t Read() const { return count_.load(); }
  void Signal() {
    count_.fetch_add(1);
    count_.notify_all();
  }
  void Wait(uint32_t seen) const { count_.wait(seen); }

 private:
  std::atomic<uint32_t> count_{0};
};

}  // namespace tandem::serving
