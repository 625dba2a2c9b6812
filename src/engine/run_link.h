#pragma once
// The server's end of one instance in an engine's child. Internal to this module.
#include <sys/types.h>

#include <vector>

#include "absl/status/status.h"
#include "base/fd.h"
#include "engine/arena.h"
#include "engine/ending.h"
#include "engine/engine.h"
#include "engine/run_socket.h"

namespace tandem::engine {

// One call at a time. Takes no lock.
class RunLink {
 public:
  // `pidfd` of the child; a copy is kept. `thread`: the child's, which answers.
  static absl::StatusOr<std::unique_ptr<RunLink>> Create(RunSocket socket, Arena arena, int pidfd, pid_t thread,
                                                         double timeout_s);

  enum class End {
    kAnswered,  // `status` is the engine's
    kGone,      // the child has ended, or is about to
    kLate,      // no answer in time
    kNonsense,  // an answer that cannot be; `status` says what
  };
  struct Result {
    End end = End::kAnswered;
    absl::Status status;
  };
  Result Run(const std::vector<InputView>& inputs, const std::vector<TensorSignature>& signature,
             std::vector<Tensor>* outputs);

  pid_t thread() const { return thread_; }
  void Kill() const;  // the child itself, by signal 9
  Ending AwaitEnd(int timeout_ms) const { return AwaitEnding(pidfd_.get(), timeout_ms); }

 private:
  RunLink(RunSocket socket, Arena arena, UniqueFd pidfd, pid_t thread)
      : socket_(std::move(socket)), arena_(std::move(arena)), pidfd_(std::move(pidfd)), thread_(thread) {}
  absl::Status PutInputs(const std::vector<InputView>& inputs);
  absl::Status TakeOutputs(size_t arena_bytes, const std::vector<TensorSignature>& signature,
                           std::vector<Tensor>* outputs);

  RunSocket socket_;
  Arena arena_;
  const UniqueFd pidfd_;
  const pid_t thread_;
  std::vector<RunTensor> tensors_;  // kept for its memory
};

}  // namespace tandem::engine
