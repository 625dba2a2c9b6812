#pragma once
// The training threads. They take one item of work at a time; between two items they can be paused, stopped, added or
// removed. Where no item may be begun (others still compute the last ones, the driver is at work) they take pieces of
// work that can wait.
#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/status/status.h"

namespace tandem::training {

// Start, Finish, Run and Await are for one thread (the driver); everything else is thread-safe. Each worker computes
// alone: LibTorch's own parallelism is off in it.
class WorkerPool {
 public:
  static constexpr int kMaxThreads = 1024;

  struct Work {
    int64_t items = 0;
    // On a worker, each index once, begun in index order, several at a time.
    std::function<absl::Status(int64_t)> body;
    // In index order, one at a time, as soon as all items before are done: sums do not depend on the threads.
    std::function<absl::Status(int64_t)> fold = nullptr;
    // On the driver while it waits: after Wake and Stop, and when a pause begins or ends.
    std::function<void()> on_wake = nullptr;
    // Whether Stop, SetPaused and SetGate act on it.
    bool interruptible = true;
  };

  // Small pieces of work (a few ms each) that can wait: a worker takes one only when it may begin no item. From
  // construction on; the destructor drops the pieces that were not begun and waits for those that were.
  class Filler {
   public:
    // All pieces of kNow (an item waits for them) come before those of kSoon, these before those of kIdle; within each,
    // first come.
    enum class Urgency { kNow, kSoon, kIdle };

    // `body`: on a worker, each index once, begun in index order, several at a time. It must not throw.
    Filler(WorkerPool* pool, Urgency urgency, int64_t pieces, std::function<void(int64_t)> body);
    ~Filler();
    Filler(const Filler&) = delete;
    Filler& operator=(const Filler&) = delete;

    bool done() const;
    // Takes back the pieces that were not begun: whether there were any.
    bool Withdraw();

   private:
    friend class WorkerPool;
    WorkerPool* const pool_;
    const Urgency urgency_;
    const int64_t pieces_;
    const std::function<void(int64_t)> body_;
    // Guarded by the pool's mutex.
    int64_t next_ = 0, running_ = 0, done_ = 0;
  };

  // What the workers' time went into, since the pool began. A worker that may not run (gate, pause) is not idle.
  struct Usage {
    int64_t items_nanos = 0, fillers_nanos = 0, idle_nanos = 0;
  };

  explicit WorkerPool(int threads);
  // REQUIRES: no work in progress, no Filler left.
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Begins `work`, which must live until Finish or Abandon. REQUIRES: none in progress.
  void Start(const Work& work);
  // Returns when all is folded and no item runs. The error of the lowest index that failed; Cancelled after Stop.
  absl::Status Finish();
  // Instead of Finish: no further item is begun. Nothing if no work is in progress.
  void Abandon();
  absl::Status Run(const Work& work);

  // Waits until all pieces are done; they come first now. Cancelled after Stop. REQUIRES: no work in progress.
  absl::Status Await(const Filler& filler, const std::function<void()>& on_wake);

  void SetThreads(int threads);  // at least 1
  // How many of them may run now; 0 = none.
  void SetGate(int allowed);
  void SetPaused(bool paused);
  // For good: what has not begun never does.
  void Stop();
  // Makes a waiting driver call on_wake.
  void Wake();

  int threads() const;  // that may run
  // Whether a worker has nothing to do, not even a piece of kNow that was not begun yet.
  bool HasSpareWorker() const;
  bool stopped() const;
  // A pause is asked for and nothing runs.
  bool resting() const;
  Usage usage() const;

 private:
  void Loop(int id);
  // All REQUIRE mutex_ held.
  int Limit() const { return std::min(target_, gate_); }
  bool MayTake(int id) const;
  bool Ended() const;
  bool Held() const { return work_->interruptible && (paused_ || stopped_); }
  void WaitForTask(std::unique_lock<std::mutex>& lock, int id);
  std::deque<Filler*>& ListOf(const Filler& filler) { return fillers_[static_cast<size_t>(filler.urgency_)]; }
  Filler* NextFiller(int id) const;
  void RunOne(std::unique_lock<std::mutex>& lock);
  void RunPiece(std::unique_lock<std::mutex>& lock, Filler* filler);
  void FoldReady(std::unique_lock<std::mutex>& lock);
  void Fail(int64_t index, absl::Status status);
  // Waits for `ended`, calling on_wake.
  void Drive(std::unique_lock<std::mutex>& lock, const std::function<bool()>& ended,
             const std::function<void()>& on_wake);

  mutable std::mutex mutex_;
  std::condition_variable workers_, driver_, withdrawn_;
  // All below: guarded by mutex_.
  std::vector<std::thread> threads_;  // a thread whose number is not below Limit() waits
  int target_ = 0, gate_ = kMaxThreads;
  bool paused_ = false, stopped_ = false, closing_ = false, wake_ = false;
  const Work* work_ = nullptr;
  int64_t next_ = 0, running_ = 0, folded_ = 0;
  bool folding_ = false;
  std::vector<bool> done_;
  int64_t failed_index_ = 0;
  absl::Status failure_;
  int waiting_ = 0;                             // workers that may run and have nothing to do
  std::array<std::deque<Filler*>, 3> fillers_;  // by urgency: with pieces that were not begun
  const Filler* awaited_ = nullptr;
  int64_t pieces_running_ = 0;
  Usage usage_;
};

}  // namespace tandem::training
