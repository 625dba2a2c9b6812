#pragma once
// Checkpoints written beside the training.
#include <atomic>
#include <functional>
#include <optional>
#include <thread>

#include "training/checkpoint.h"

namespace tandem::training {

// OutOfRange that names the first tensor with a NaN or an infinity in it.
absl::Status CheckFinite(const std::vector<std::pair<std::string, at::Tensor>>& tensors);

// Checks, encodes, hashes, writes and syncs one checkpoint at a time on a thread of the lowest class (nice 19,
// SCHED_BATCH), which takes what the training threads leave. Thread-compatible.
class CheckpointWriter {
 public:
  struct Result {
    int64_t step = 0;
    absl::StatusOr<std::filesystem::path> file;  // OutOfRange if a tensor is not finite
  };

  // `on_done` comes on the writer's thread when a result is there. Both outlive this.
  CheckpointWriter(const CheckpointFolder* folder, std::function<void()> on_done);
  // Drops a checkpoint that is not whole yet.
  ~CheckpointWriter() = default;

  // From Begin until its result was taken.
  bool busy() const { return busy_; }
  // `copy`: tensors that nobody changes. REQUIRES: not busy.
  void Begin(Checkpoint copy);
  // The result if there is one.
  std::optional<Result> Take();
  // Waits for the result of the one that was begun; nothing if there is none.
  std::optional<Result> Wait();
  // What is being written need not be finished. Does not wait.
  void Drop() { thread_.request_stop(); }

 private:
  void Write(const Checkpoint& copy, StopToken stop);

  const CheckpointFolder* const folder_;
  const std::function<void()> on_done_;
  bool busy_ = false;
  std::atomic<bool> done_{false};
  Result result_;        // the thread's until done_
  std::jthread thread_;  // last: it uses the rest
};

}  // namespace tandem::training
