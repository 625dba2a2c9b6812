#include "training/worker_pool.h"

#include <ATen/Parallel.h>
#include <pthread.h>

#include <algorithm>
#include <system_error>

#include "base/clock.h"
#include "base/status.h"
#include "telemetry/log.h"

namespace tandem::training {
namespace {

int64_t Now() { return Clock::Real()->MonotonicNanos(); }

}  // namespace

WorkerPool::Filler::Filler(WorkerPool* pool, Urgency urgency, int64_t pieces, std::function<void(int64_t)> body)
    : pool_(pool), urgency_(urgency), pieces_(pieces), body_(std::move(body)) {
  std::lock_guard lock(pool_->mutex_);
  if (pieces_ == 0) return;
  pool_->ListOf(*this).push_back(this);
  pool_->workers_.notify_all();
}

WorkerPool::Filler::~Filler() {
  std::unique_lock lock(pool_->mutex_);
  std::erase(pool_->ListOf(*this), this);
  pool_->withdrawn_.wait(lock, [&] { return running_ == 0; });
}

bool WorkerPool::Filler::done() const {
  std::lock_guard lock(pool_->mutex_);
  return done_ == pieces_;
}

bool WorkerPool::Filler::Withdraw() {
  std::lock_guard lock(pool_->mutex_);
  return std::erase(pool_->ListOf(*this), this) > 0;
}

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
  target_ = std::clamp(threads, 1, kMaxThreads);
  while (static_cast<int>(threads_.size()) < target_) {
    try {
      threads_.emplace_back([this, id = static_cast<int>(threads_.size())] { Loop(id); });
    } catch (const std::system_error& error) {  // a limit on processes
      if (threads_.empty()) throw;
      Log(LogLevel::kWarning, "fewer training threads than wanted: no thread can be made",
          {{"wanted", threads}, {"threads", static_cast<int64_t>(threads_.size())}, {"why", error.what()}});
      target_ = static_cast<int>(threads_.size());
    }
  }
  workers_.notify_all();
}

void WorkerPool::SetGate(int allowed) {
  std::lock_guard lock(mutex_);
  gate_ = std::clamp(allowed, 0, kMaxThreads);
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
  stopped_ = wake_ = true;
  driver_.notify_all();
}

void WorkerPool::Wake() {
  std::lock_guard lock(mutex_);
  wake_ = true;
  driver_.notify_all();
}

int WorkerPool::threads() const {
  std::lock_guard lock(mutex_);
  return Limit();
}

bool WorkerPool::HasSpareWorker() const {
  std::lock_guard lock(mutex_);
  return waiting_ > static_cast<int>(fillers_[static_cast<size_t>(Filler::Urgency::kNow)].size());
}

bool WorkerPool::stopped() const {
  std::lock_guard lock(mutex_);
  return stopped_;
}

bool WorkerPool::resting() const {
  std::lock_guard lock(mutex_);
  return paused_ && running_ + pieces_running_ == 0;
}

WorkerPool::Usage WorkerPool::usage() const {
  std::lock_guard lock(mutex_);
  return usage_;
}

void WorkerPool::Start(const Work& work) {
  {
    std::lock_guard lock(mutex_);
    work_ = &work;
    next_ = running_ = folded_ = 0;
    done_.assign(work.items, false);
    failure_ = absl::OkStatus();
  }
  workers_.notify_all();  // without the lock, which they want first
}

absl::Status WorkerPool::Finish() {
  std::unique_lock lock(mutex_);
  Drive(
      lock, [this] { return Ended(); }, work_->on_wake);
  const bool whole = folded_ == work_->items;
  work_ = nullptr;
  if (!failure_.ok()) return failure_;
  return whole ? absl::OkStatus() : Cancelled("stopped");
}

void WorkerPool::Abandon() {
  std::unique_lock lock(mutex_);
  if (work_ == nullptr) return;
  if (failure_.ok()) Fail(work_->items, Cancelled("abandoned"));
  driver_.wait(lock, [this] { return Ended(); });
  work_ = nullptr;
}

absl::Status WorkerPool::Run(const Work& work) {
  Start(work);
  return Finish();
}

absl::Status WorkerPool::Await(const Filler& filler, const std::function<void()>& on_wake) {
  std::unique_lock lock(mutex_);
  awaited_ = &filler;
  auto done = [&] { return filler.done_ == filler.pieces_; };
  Drive(
      lock, [&] { return done() || (stopped_ && filler.running_ == 0); }, on_wake);
  awaited_ = nullptr;
  return done() ? absl::OkStatus() : Cancelled("stopped");
}

void WorkerPool::Drive(std::unique_lock<std::mutex>& lock, const std::function<bool()>& ended,
                       const std::function<void()>& on_wake) {
  while (true) {
    driver_.wait(lock, [&] { return ended() || wake_; });
    if (ended()) return;
    wake_ = false;
    if (!on_wake) continue;
    lock.unlock();
    on_wake();
    lock.lock();
  }
}

bool WorkerPool::MayTake(int id) const {
  if (work_ == nullptr || next_ >= work_->items || !failure_.ok() || Held()) return false;
  // What may not be interrupted ends even if nobody may run: it is short, and half an update is no state.
  return id < (work_->interruptible ? Limit() : std::max(1, Limit()));
}

bool WorkerPool::Ended() const {
  if (running_ > 0) return false;
  return folded_ == work_->items || !failure_.ok() || (work_->interruptible && stopped_);
}

WorkerPool::Filler* WorkerPool::NextFiller(int id) const {
  if (id >= Limit() || paused_ || stopped_) return nullptr;
  Filler* first = nullptr;
  for (const auto& list : fillers_) {
    for (Filler* filler : list) {
      if (filler == awaited_) return filler;
      if (first == nullptr) first = filler;
    }
  }
  return first;
}

void WorkerPool::Loop(int id) {
  pthread_setname_np(pthread_self(), StrCat("train-", id).c_str());
  at::set_num_threads(1);
  std::unique_lock lock(mutex_);
  while (true) {
    WaitForTask(lock, id);
    if (closing_) return;
    const int64_t begin = Now();
    if (MayTake(id)) {
      RunOne(lock);
      usage_.items_nanos += Now() - begin;
    } else {
      RunPiece(lock, NextFiller(id));
      usage_.fillers_nanos += Now() - begin;
    }
  }
}

void WorkerPool::WaitForTask(std::unique_lock<std::mutex>& lock, int id) {
  while (!closing_ && !MayTake(id) && NextFiller(id) == nullptr) {
    const bool idle = id < Limit() && !paused_ && !stopped_;
    const int64_t begin = Now();
    waiting_ += idle;
    workers_.wait(lock);
    waiting_ -= idle;
    if (idle) usage_.idle_nanos += Now() - begin;
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
  if (paused_ && running_ + pieces_running_ == 0) wake_ = true;
  if (wake_ || Ended()) driver_.notify_all();
}

void WorkerPool::RunPiece(std::unique_lock<std::mutex>& lock, Filler* filler) {
  const int64_t index = filler->next_++;
  if (filler->next_ == filler->pieces_) std::erase(ListOf(*filler), filler);
  ++filler->running_;
  ++pieces_running_;
  lock.unlock();
  filler->body_(index);
  lock.lock();
  ++filler->done_;
  --pieces_running_;
  if (paused_ && running_ + pieces_running_ == 0) wake_ = true;
  if (--filler->running_ == 0) withdrawn_.notify_all();
  if (wake_ || filler == awaited_) driver_.notify_all();
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
