#pragma once
// Wakes one waiting thread without a lock, so that a request thread may do it.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdint>

namespace tandem {

// Read, look for work, and Wait with what was read: a Signal in between makes Wait return at once. Thread-safe. The
// kernel's futex, since the wait of std::atomic knows no time limit.
class Waker {
 public:
  uint32_t Read() const { return count_.load(); }
  void Signal() {
    count_.fetch_add(1);
    if (sleepers_.load() > 0) syscall(SYS_futex, &count_, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
  }
  // Returns once signalled after `seen` was read, after `nanos` (0 or more), or for no reason.
  void Wait(uint32_t seen, int64_t nanos) {
    const timespec limit{nanos / 1'000'000'000, nanos % 1'000'000'000};
    Wait(seen, &limit);
  }
  void Wait(uint32_t seen) { Wait(seen, nullptr); }

 private:
  static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t) && std::atomic<uint32_t>::is_always_lock_free);

  // The counting of sleepers and the change of count_ are sequentially consistent: a Signal sees the sleeper, or the
  // kernel sees another count.
  void Wait(uint32_t seen, const timespec* limit) {
    sleepers_.fetch_add(1);
    syscall(SYS_futex, &count_, FUTEX_WAIT_PRIVATE, seen, limit, nullptr, 0);
    sleepers_.fetch_sub(1);
  }

  std::atomic<uint32_t> count_{0};
  std::atomic<int> sleepers_{0};
};

}  // namespace tandem
