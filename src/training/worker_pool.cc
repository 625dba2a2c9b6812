#include "training/worker_pool.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "base/status.h"

namespace tandem::training {

WorkerPool::WorkerPool(int threads) { SetThreads(threads); }

WorkerPool::~WorkerPool() {
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
    workers_.notify_all();
  }
  for (std::thread& thread : threads_) thread.join();
}

void WorkerPool::SetThreads(int threads) {
  std::lock_guard lock(mutex_);
  target_ = std::max(1, threads);
  while (static_cast<int>(threads_.size()) < target_) {
    threads_.emplace_back([this, id = static_cast<int>(threads_.size())] { Loop(id); });
  }
  workers_.notify_all();
}

void WorkerPool::SetPaused(bool paused) {
  std::lock_guard lock(mutex_);
  paused_ = paused;
  wake_ = true;
  workers_.notify_all();
  driver_.notify_all();
}

void WorkerPool::Stop() {
  std::lock_guard lock(mutex_);
  stopped_ = true;
  driver_.notify_all();
}

void WorkerPool::Wake() {
  std::lock_guard lock(mutex_);
  wake_ = true;
  driver_.notify_all();
}

int WorkerPool::threads() const {
  std::lock_guard lock(mutex_);
  return target_;
}

bool WorkerPool::stopped() const {
  std::lock_guard lock(mutex_);
  return stopped_;
}

bool WorkerPool::resting() const {
  std::lock_guard lock(mutex_);
  return paused_ && running_ == 0;
}

absl::Status WorkerPool::Run(const Work& work) {
  std::unique_lock lock(mutex_);
  work_ = &work;
  next_ = running_ = folded_ = 0;
  done_.assign(work.items, false);
  failure_ = absl::OkStatus();
  workers_.notify_all();
  while (true) {
    driver_.wait(lock, [&] { return Ended() || wake_; });
    if (Ended()) break;
    wake_ = false;
    if (!work.on_wake) continue;
    lock.unlock();
    work.on_wake();
    lock.lock();
  }
  work_ = nullptr;
  if (!failure_.ok()) return failure_;
  return folded_ == work.items ? absl::OkStatus() : Cancelled("stopped");
}

bool WorkerPool::MayTake(int id) const {
  return work_ != nullptr && id < target_ && next_ < work_->items && failure_.ok() && !Held();
}

bool WorkerPool::Ended() const {
  if (running_ > 0) return false;
  return folded_ == work_->items || !failure_.ok() || (work_->interruptible && stopped_);
}

void WorkerPool::Loop(int id) {
  at::set_num_threads(1);
  std::unique_lock lock(mutex_);
  while (true) {
    workers_.wait(lock, [&] { return closing_ || MayTake(id); });
    if (closing_) return;
    RunOne(lock);
  }
}

void WorkerPool::RunOne(std::unique_lock<std::mutex>& lock) {
  int64_t index = next_++;
  const Work* work = work_;
  ++running_;
  lock.unlock();
  absl::Status status = CatchToStatus("training thread", [&] { return work->body(index); });
  lock.lock();
  if (status.ok()) {
    done_[index] = true;
    FoldReady(lock);
  } else {
    Fail(index, std::move(status));
  }
  --running_;
  if (paused_ && running_ == 0) wake_ = true;
  if (wake_ || Ended()) driver_.notify_all();
}

void WorkerPool::FoldReady(std::unique_lock<std::mutex>& lock) {
  if (folding_) return;  // that thread will see this item too
  folding_ = true;
  const Work* work = work_;
  while (folded_ < work->items && done_[folded_]) {
    int64_t index = folded_;
    lock.unlock();
    absl::Status status =
        CatchToStatus("training thread", [&] { return work->fold ? work->fold(index) : absl::OkStatus(); });
    lock.lock();
    if (!status.ok()) {
      Fail(index, std::move(status));
      break;
    }
    ++folded_;
  }
  folding_ = false;
}

void WorkerPool::Fail(int64_t index, absl::Status status) {
  if (!failure_.ok() && failed_index_ <= index) return;
  failed_index_ = index;
  failure_ = std::move(status);
}

}  // namespace tandem::training
