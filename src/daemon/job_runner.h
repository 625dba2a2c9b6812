#pragma once
// One running job: its trainer process, the conversation with it, and what its end means.
#include <signal.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/job_pauses.h"
#include "isolation/isolation.h"
#include "messaging/channel.h"
#include "trainer.pb.h"

namespace tandem::daemon {

// How a trainer's run ended.
struct JobOutcome {
  enum class Kind { kFinished, kFailed, kStopped, kDied };
  Kind kind = Kind::kDied;
  wire::Finished finished;
  std::string error;           // kFailed, kDied
  bool retry = false;          // kFailed: another attempt may help
  bool out_of_memory = false;  // kDied: killed at its memory limit, and another attempt would be too
  int32_t step = 0;            // kStopped
};

// Called on the runner's own thread.
struct JobHooks {
  std::function<int64_t()> training_memory_bytes;  // what all jobs together may have now
  std::function<void(const wire::Progress&)> on_progress;
  std::function<void()> on_checkpoint;  // a periodic one is durable
  std::function<void(bool paused)> on_paused;
  std::function<wire::EvalAnswer(const wire::EvalBatch&)> on_eval_batch;
  std::function<void(const JobOutcome&)> on_end;  // once, last
};

// Starts a trainer and talks to it until it ends. Thread-safe. Destroying it kills the trainer.
class JobRunner : public PausableTrainer {
 public:
  static absl::StatusOr<std::unique_ptr<JobRunner>> Start(const wire::Assignment& assignment,
                                                          isolation::Isolation* isolation,
                                                          const isolation::GroupLimits& limits,
                                                          const std::string& log_file, JobHooks hooks);
  ~JobRunner() override;
  JobRunner(const JobRunner&) = delete;
  JobRunner& operator=(const JobRunner&) = delete;

  int32_t job() const { return assignment_.job(); }
  pid_t pid() const { return child_->pid(); }
  void Send(wire::Control::Verb verb) override;
  void Kill() override;  // on_end follows
  absl::Status Freeze() override { return group_->Freeze(); }
  absl::Status Thaw() override { return group_->Thaw(); }
  // What of its limits is not enforced, one sentence each.
  absl::StatusOr<std::vector<std::string>> SetLimits(const isolation::GroupLimits& limits) {
    return group_->SetLimits(limits);
  }
  isolation::Usage ReadUsage() const override { return group_->ReadUsage(); }
  // What writing a checkpoint takes, by the size of the last one and the rate at which the job may write; 0 before the
  // first.
  int64_t checkpoint_ms() const { return checkpoint_ms_; }
  // True once on_end has returned.
  bool ended() const { return ended_; }

 private:
  JobRunner(wire::Assignment assignment, const isolation::GroupLimits& limits,
            std::unique_ptr<isolation::ResourceGroup> group, std::unique_ptr<isolation::ChildProcess> child,
            UniqueFd socket, JobHooks hooks);
  void Converse();
  void Checkpointed(const wire::Checkpointed& checkpoint);
  JobOutcome ReadUntilEnd();
  // What a trainer that said nothing more died of.
  JobOutcome Autopsy(const absl::Status& status);

  const wire::Assignment assignment_;
  const isolation::GroupLimits limits_;
  const std::unique_ptr<isolation::ResourceGroup> group_;
  const std::unique_ptr<isolation::ChildProcess> child_;
  messaging::Channel channel_;
  const JobHooks hooks_;
  std::atomic<int64_t> checkpoint_ms_{0};
  std::atomic<bool> ended_{false};
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace tandem::daemon
