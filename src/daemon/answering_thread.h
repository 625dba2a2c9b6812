#pragma once
// Batches are run on a thread that can be left behind: a run in this process that never ends can be ended by nobody.
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "trainer.pb.h"

namespace tandem::daemon {

// Thread-safe. It may be destroyed while a run goes on only after GiveUp, and then leaves the thread behind with what
// the run holds. The thread is of the class of who makes this.
class AnsweringThread {
 public:
  using Run = std::function<wire::EvalAnswer(const wire::EvalBatch&)>;

  // What `run` refers to outlives every run. `left_behind` counts the threads that were left behind and still run.
  AnsweringThread(Run run, std::shared_ptr<std::atomic<int>> left_behind);
  ~AnsweringThread();
  AnsweringThread(const AnsweringThread&) = delete;
  AnsweringThread& operator=(const AnsweringThread&) = delete;

  // Runs the batch and waits for its answer, one at a time; after GiveUp an error at once.
  wire::EvalAnswer Ask(const wire::EvalBatch& batch);
  // Who waits in Ask waits no longer.
  void GiveUp();
  // The version that is being asked; "" while none is.
  std::string Asked() const;

 private:
  struct Shared;

  const std::shared_ptr<Shared> shared_;  // with the thread; the last of both frees it
  std::thread thread_;
};

}  // namespace tandem::daemon
