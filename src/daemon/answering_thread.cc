#include "daemon/answering_thread.h"

#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>

#include "base/sync.h"

namespace tandem::daemon {

struct AnsweringThread::Shared {
  Shared(Run run, std::shared_ptr<std::atomic<int>> left_behind)
      : run(std::move(run)), left_behind(std::move(left_behind)) {}

  const Run run;
  const std::shared_ptr<std::atomic<int>> left_behind;
  BoundedQueue<wire::EvalBatch> batches{1};

  std::mutex mutex;
  std::condition_variable changed;
  // Guarded by mutex.
  std::string asked;  // the version of the batch that waits or runs; "" = none
  wire::EvalAnswer answer;
  bool answered = false, given_up = false, left = false;

  void Work() {
    while (std::optional<wire::EvalBatch> batch = batches.Pop()) {
      wire::EvalAnswer made = run(*batch);
      std::lock_guard lock(mutex);
      answer = std::move(made);
      answered = true;
      asked.clear();
      if (left) --*left_behind;
      changed.notify_all();
    }
  }
};

AnsweringThread::AnsweringThread(Run run, std::shared_ptr<std::atomic<int>> left_behind)
    : shared_(std::make_shared<Shared>(std::move(run), std::move(left_behind))),
      thread_([shared = shared_] { shared->Work(); }) {}

AnsweringThread::~AnsweringThread() {
  shared_->batches.Close();
  {
    std::lock_guard lock(shared_->mutex);
    shared_->left = !shared_->asked.empty();
    if (shared_->left) ++*shared_->left_behind;
  }
  if (shared_->left) {
    thread_.detach();
  } else {
    thread_.join();
  }
}

wire::EvalAnswer AnsweringThread::Ask(const wire::EvalBatch& batch) {
  std::unique_lock lock(shared_->mutex);
  if (!shared_->given_up) {
    shared_->asked = batch.version();
    shared_->answered = false;
    shared_->batches.Push(batch);  // there is room: the thread took the one before
    shared_->changed.wait(lock, [this] { return shared_->answered || shared_->given_up; });
    if (shared_->answered) return std::move(shared_->answer);
  }
  wire::EvalAnswer none;
  none.set_error("nobody waits for the answer any more");
  return none;
}

void AnsweringThread::GiveUp() {
  std::lock_guard lock(shared_->mutex);
  shared_->given_up = true;
  shared_->changed.notify_all();
}

std::string AnsweringThread::Asked() const {
  std::lock_guard lock(shared_->mutex);
  return shared_->asked;
}

}  // namespace tandem::daemon
