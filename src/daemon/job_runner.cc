#include "daemon/job_runner.h"

#include <algorithm>
#include <filesystem>

#include "base/status.h"
#include "base/text.h"
#include "daemon/children.h"
#include "telemetry/log.h"

namespace tandem::daemon {
namespace {

// Of a checkpoint, on the safe side: ending the micro-batch and the job, copying, hashing and writing.
constexpr int64_t kCheckpointMs = 500;
constexpr double kCheckpointBytesPerS = 100e6;

// It died at its own limit, or because all jobs together were at theirs. 0 = no limit, or not known.
std::string OutOfMemoryText(int64_t peak, int64_t own, int64_t of_all) {
  constexpr double kAtItsLimit = 0.9;
  const bool at_own = own > 0 && static_cast<double>(peak) >= kAtItsLimit * static_cast<double>(own);
  const std::string limit =
      at_own ? HumanBytes(own) : StrCat(of_all > 0 ? HumanBytes(of_all) + " " : "", "of all jobs");
  return StrCat("out of memory: peak ", HumanBytes(peak), ", limit ", limit, "; lower batch or micro_batch, or raise ",
                at_own ? "resources.memory" : "training.memory");
}

}  // namespace

absl::StatusOr<std::unique_ptr<JobRunner>> JobRunner::Start(const wire::Assignment& assignment,
                                                            isolation::Isolation* isolation,
                                                            const isolation::GroupLimits& limits,
                                                            const std::string& log_file, JobHooks hooks) {
  std::string name = StrCat(assignment.kind() == "evaluate" ? "evaluate-" : "job-", assignment.job());
  TANDEM_ASSIGN_OR_RETURN(auto group, isolation->CreateGroup(name, limits));
  TANDEM_ASSIGN_OR_RETURN(auto sockets, messaging::MakeSocketPair());
  isolation::SpawnOptions options;
  options.argv = {BesideSelf("tandem-trainer").string(), "job"};
  // Waiting threads must sleep: a spinning trainer takes the CPU that serving needs.
  options.environment = {"OMP_WAIT_POLICY=PASSIVE"};
  options.group = group.get();
  options.socket = sockets.second.get();
  options.output_file = log_file;
  TANDEM_ASSIGN_OR_RETURN(auto child, isolation::ChildProcess::Spawn(options));
  sockets.second.Reset();
  std::unique_ptr<JobRunner> runner(new JobRunner(assignment, limits, std::move(group), std::move(child),
                                                  std::move(sockets.first), std::move(hooks)));
  return runner;
}

JobRunner::JobRunner(wire::Assignment assignment, const isolation::GroupLimits& limits,
                     std::unique_ptr<isolation::ResourceGroup> group, std::unique_ptr<isolation::ChildProcess> child,
                     UniqueFd socket, JobHooks hooks)
    : assignment_(std::move(assignment)),
      limits_(limits),
      group_(std::move(group)),
      child_(std::move(child)),
      channel_(std::move(socket)),
      hooks_(std::move(hooks)),
      thread_([this] { Converse(); }) {}

JobRunner::~JobRunner() {
  Kill();
  thread_.join();
}

void JobRunner::Kill() {
  child_->Signal(SIGKILL);
  group_->Thaw().IgnoreError();  // on cgroup v1 a frozen process does not hear SIGKILL
}

void JobRunner::Send(wire::Control::Verb verb) {
  wire::ToTrainer message;
  message.mutable_control()->set_verb(verb);
  absl::Status sent = channel_.Send(message);
  if (!sent.ok())
    Log(LogLevel::kDebug, "a message to a trainer was lost", {{"job", job()}, {"error", MessageOf(sent)}});
}

void JobRunner::Converse() {
  wire::ToTrainer first;
  *first.mutable_assignment() = assignment_;
  absl::Status sent = channel_.Send(first);
  JobOutcome outcome = sent.ok() ? ReadUntilEnd() : Autopsy(sent);
  child_->Wait(5000);  // it leaves by itself after its last message
  hooks_.on_end(outcome);
  ended_ = true;
}

JobOutcome JobRunner::ReadUntilEnd() {
  while (true) {
    wire::FromTrainer message;
    absl::Status received = channel_.Receive(&message, -1);
    if (!received.ok()) return Autopsy(received);
    JobOutcome outcome;
    switch (message.message_case()) {
      case wire::FromTrainer::kProgress:
        if (hooks_.on_progress) hooks_.on_progress(message.progress());
        break;
      case wire::FromTrainer::kCheckpointed:
        Checkpointed(message.checkpointed());
        break;
      case wire::FromTrainer::kPaused:
        if (hooks_.on_paused) hooks_.on_paused(message.paused().paused());
        break;
      case wire::FromTrainer::kEvalBatch: {
        wire::ToTrainer answer;
        *answer.mutable_eval_answer() = hooks_.on_eval_batch(message.eval_batch());
        channel_.Send(answer).IgnoreError();  // a trainer that died is noticed by the next Receive
        break;
      }
      case wire::FromTrainer::kFinished:
        outcome.kind = JobOutcome::Kind::kFinished;
        outcome.finished = message.finished();
        return outcome;
      case wire::FromTrainer::kFailed:
        outcome.kind = JobOutcome::Kind::kFailed;
        outcome.error = message.failed().error();
        outcome.retry = message.failed().retry();
        return outcome;
      case wire::FromTrainer::kStopped:
        outcome.kind = JobOutcome::Kind::kStopped;
        outcome.step = message.stopped().step();
        return outcome;
      case wire::FromTrainer::MESSAGE_NOT_SET:
        break;
    }
  }
}

void JobRunner::Checkpointed(const wire::Checkpointed& checkpoint) {
  Log(LogLevel::kDebug, "checkpoint", {{"job", job()}, {"step", checkpoint.step()}});
  if (hooks_.on_checkpoint) hooks_.on_checkpoint();
  std::error_code error;
  const auto bytes = static_cast<double>(std::filesystem::file_size(checkpoint.path(), error));
  if (error) return;
  double rate = kCheckpointBytesPerS;
  if (assignment_.disk_write_bytes_per_s() > 0) rate = std::min(rate, assignment_.disk_write_bytes_per_s());
  checkpoint_ms_ = kCheckpointMs + static_cast<int64_t>(1000 * bytes / rate);
}

JobOutcome JobRunner::Autopsy(const absl::Status& status) {
  JobOutcome outcome;
  outcome.kind = JobOutcome::Kind::kDied;
  std::optional<int> exit = child_->Wait(2000);
  isolation::Usage usage = group_->ReadUsage();
  if (usage.out_of_memory_kills > 0) {
    const int64_t side = hooks_.training_memory_bytes ? hooks_.training_memory_bytes() : 0;
    outcome.error = OutOfMemoryText(usage.peak_memory_bytes, limits_.memory_max_bytes, side);
    outcome.out_of_memory = true;
    return outcome;
  }
  outcome.error = exit ? StrCat("the trainer ", isolation::DescribeExit(*exit))
                       : StrCat("the trainer stopped talking: ", MessageOf(status));
  return outcome;
}

}  // namespace tandem::daemon
