#pragma once
// Tells waiters that a job changed. Thread-safe.
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>

namespace tandem::daemon {

class JobEvents {
 public:
  void Changed(int32_t job) {
    std::lock_guard lock(mutex_);
    ++changes_[job];
    changed_.notify_all();
  }
  // Waits until the job's number is greater than `seen`, at most timeout_s; gives the number.
  int64_t WaitForChange(int32_t job, int64_t seen, double timeout_s) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::duration<double>(timeout_s), [&] { return closed_ || Number(job) > seen; });
    return Number(job);
  }
  // Lets every waiter go; used when the daemon stops.
  void Close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

 private:
  // Numbers begin at 1, so that a watcher that has seen nothing (0) is answered at once. REQUIRES: mutex_ held.
  int64_t Number(int32_t job) const {
    auto it = changes_.find(job);
    return 1 + (it == changes_.end() ? 0 : it->second);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int32_t, int64_t> changes_;  // guarded by mutex_
  bool closed_ = false;                 // guarded by mutex_
};

}  // namespace tandem::daemon
