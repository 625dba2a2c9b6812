#pragma once
// The training threads. They take one item of work at a time; between two items they can be paused, stopped, added or
// removed.
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/status/status.h"

namespace tandem::training {

// Run is for one thread (the driver); everything else is thread-safe. Each worker computes alone: LibTorch's own
// parallelism is off in it.
class WorkerPool {
 public:
  struct Work {
    int64_t items = 0;
    // On a worker, each index once, begun in index order, several at a time.
    std::function<absl::Status(int64_t)> body;
    // In index order, one at a time, as soon as all items before are done: sums do not depend on the threads.
    std::function<absl::Status(int64_t)> fold = nullptr;
    // On the driver, after Wake and when a pause begins or ends.
    std::function<void()> on_wake = nullptr;
    // Whether Stop and SetPaused act on it.
    bool interruptible = true;
  };

  explicit WorkerPool(int threads);
  // REQUIRES: no Run in progress.
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Returns when all is folded and no item runs. The error of the lowest index that failed; Cancelled after Stop.
  absl::Status Run(const Work& work);

  void SetThreads(int threads);  // at least 1
  void SetPaused(bool paused);
  // For good: items that have not begun never do.
  void Stop();
  // Makes a waiting Run call on_wake.
  void Wake();

  int threads() const;
  bool stopped() const;
  // A pause is asked for and no item runs.
  bool resting() const;

 private:
  void Loop(int id);
  // All REQUIRE mutex_ held.
  bool MayTake(int id) const;
  bool Ended() const;
  bool Held() const { return work_->interruptible && (paused_ || stopped_); }
  void RunOne(std::unique_lock<std::mutex>& lock);
  void FoldReady(std::unique_lock<std::mutex>& lock);
  void Fail(int64_t index, absl::Status status);

  mutable std::mutex mutex_;
  std::condition_variable workers_, driver_;
  // All below: guarded by mutex_.
  std::vector<std::thread> threads_;  // a thread whose number is not below target_ waits
  int target_ = 0;
  bool paused_ = false, stopped_ = false, closing_ = false, wake_ = false;
  const Work* work_ = nullptr;
  int64_t next_ = 0, running_ = 0, folded_ = 0;
  bool folding_ = false;
  std::vector<bool> done_;
  int64_t failed_index_ = 0;
  absl::Status failure_;
};

}  // namespace tandem::training
