#include "training/job.h"

#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "base/clock.h"
#include "base/status.h"
#include "base/sync.h"
#include "base/text.h"
#include "messaging/channel.h"
#include "telemetry/log.h"
#include "trainer.pb.h"
#include "training/evaluate_job.h"
#include "training/stop_signals.h"
#include "training/trainer.h"

namespace tandem::training {
namespace {

constexpr int kAssignmentTimeoutMs = 60'000;
constexpr int64_t kReportNanos = 250'000'000;
constexpr size_t kLongestError = 64 << 10;

// One conversation. A thread of its own listens; Serve speaks.
class Session {
 public:
  Session(UniqueFd socket, std::function<void(int)> leave) : leave_(std::move(leave)), channel_(std::move(socket)) {}
  ~Session() {
    done_ = true;
    channel_.Shutdown();
    if (listener_.joinable()) listener_.join();
  }

  int Serve() {
    wire::ToTrainer first;
    absl::Status status = channel_.Receive(&first, kAssignmentTimeoutMs);
    if (status.ok() && !first.has_assignment()) status = InvalidArgument("the daemon's first message is no assignment");
    if (!status.ok()) return Fail(status);
    const wire::Assignment& assignment = first.assignment();
    listener_ = std::thread([this] { Listen(); });
    Log(LogLevel::kInfo, "job starts",
        {{"job", assignment.job()}, {"attempt", assignment.attempt()}, {"kind", assignment.kind()}});
    if (assignment.kind() == "train") return Train(assignment);
    if (assignment.kind() == "evaluate") return Evaluate(assignment);
    return Fail(InvalidArgument("job kind '", assignment.kind(), "' is unknown; known are train, evaluate"));
  }

  // From the signal thread as well.
  void Stop() {
    answers_.Close();
    std::lock_guard lock(mutex_);
    stop_ = true;
    if (trainer_ != nullptr) trainer_->Stop();
  }

 private:
  void Listen() {
    wire::ToTrainer message;
    while (true) {
      absl::Status status = channel_.Receive(&message, -1);
      if (done_) return;
      if (!status.ok()) {
        closed_ = true;
        Log(LogLevel::kInfo, "the daemon closed the connection", {{"why", std::string(MessageOf(status))}});
        return Stop();
      }
      if (message.has_eval_answer()) answers_.TryPush(std::move(*message.mutable_eval_answer()));
      if (message.has_control()) Obey(message.control());
    }
  }

  void Obey(const wire::Control& control) {
    if (control.verb() == wire::Control::STOP) return Stop();
    std::lock_guard lock(mutex_);
    if (trainer_ == nullptr) {
      early_.push_back(control);  // the model is still being loaded
    } else {
      Apply(control);
    }
  }

  // REQUIRES: mutex_ held, trainer_ set.
  void Apply(const wire::Control& control) {
    switch (control.verb()) {
      case wire::Control::PAUSE:
        return trainer_->Pause();
      case wire::Control::RESUME:
        return trainer_->Resume();
      case wire::Control::CHECKPOINT:
        return trainer_->RequestCheckpoint();
      case wire::Control::SET_THREADS:
        return trainer_->SetThreads(control.threads());
      default:
        return;
    }
  }

  void Attach(Trainer* trainer) {
    std::lock_guard lock(mutex_);
    trainer_ = trainer;
    if (trainer == nullptr) return;
    for (const wire::Control& control : early_) Apply(control);
    if (stop_) trainer->Stop();
  }

  int Train(const wire::Assignment& assignment) {
    wire::Progress loading;
    loading.set_phase("loading");
    loading.set_accuracy(-1);
    loading.set_eta_s(-1);
    loading.set_threads(assignment.threads());
    Report(loading);
    auto spec = spec::ParseTrainSpec(assignment.spec(), "spec");
    if (!spec.ok()) return Fail(spec.status());
    auto trainer = Trainer::Create({.spec = *std::move(spec),
                                    .dataset = assignment.dataset(),
                                    .model_path = assignment.model_path(),
                                    .folder = assignment.folder(),
                                    .output_path = assignment.output_path(),
                                    .threads = assignment.threads(),
                                    .pressure_file = assignment.pressure_file(),
                                    .disk_write_bytes_per_s = assignment.disk_write_bytes_per_s()});
    if (!trainer.ok()) return Fail(trainer.status());
    Attach(trainer->get());
    absl::StatusOr<TrainerOutcome> outcome = (*trainer)->Run(Hooks());
    Attach(nullptr);
    if (!outcome.ok()) return Fail(outcome.status());
    return outcome->stopped ? 0 : Tell(*outcome, assignment.output_path());  // the hook has said that we stopped
  }

  TrainerHooks Hooks() {
    return {.progress = [this](const wire::Progress& progress) { Report(progress); },
            .checkpointed =
                [this](int64_t step, const std::string& path) {
                  wire::FromTrainer message;
                  message.mutable_checkpointed()->set_step(static_cast<int32_t>(step));
                  message.mutable_checkpointed()->set_path(path);
                  Send(message);
                },
            .paused =
                [this](bool paused) {
                  wire::FromTrainer message;
                  message.mutable_paused()->set_paused(paused);
                  Send(message);
                },
            .left =
                [this](int64_t step) {
                  Tell({.stopped = true, .step = step, .metrics = {}}, "");
                  if (!leave_) return;
                  FlushLog();
                  leave_(0);
                }};
  }

  int Tell(const TrainerOutcome& outcome, const std::string& output_path) {
    wire::FromTrainer message;
    if (outcome.stopped) {
      message.mutable_stopped()->set_step(static_cast<int32_t>(outcome.step));
    } else {
      message.mutable_finished()->set_output_path(output_path);
      message.mutable_finished()->mutable_metrics()->insert(outcome.metrics.begin(), outcome.metrics.end());
    }
    Send(message);
    return 0;
  }

  int Evaluate(const wire::Assignment& assignment) {
    auto split = data::ParseSplit(assignment.split());
    if (!split.ok()) return Fail(split.status());
    auto dataset = data::Open(assignment.dataset(), *split);
    if (!dataset.ok()) return Fail(dataset.status());
    std::vector<std::string> versions(assignment.versions().begin(), assignment.versions().end());
    auto ask = [this](const wire::EvalBatch& batch) { return Ask(batch); };
    auto progress = [&](int64_t done) {
      wire::Progress report;
      report.set_step(static_cast<int32_t>(done));
      report.set_steps(static_cast<int32_t>((*dataset)->size()));
      report.set_accuracy(-1);
      report.set_eta_s(-1);
      report.set_phase("evaluating");
      Report(report);
    };
    auto metrics = EvaluateVersions(**dataset, versions, assignment.batch(), ask, progress);
    if (absl::IsCancelled(metrics.status())) return Tell({.stopped = true, .step = 0, .metrics = {}}, "");
    if (!metrics.ok()) return Fail(metrics.status());
    wire::FromTrainer message;
    message.mutable_finished()->mutable_versions()->insert(metrics->begin(), metrics->end());
    Send(message);
    return 0;
  }

  absl::StatusOr<wire::EvalAnswer> Ask(const wire::EvalBatch& batch) {
    wire::FromTrainer message;
    *message.mutable_eval_batch() = batch;
    TANDEM_RETURN_IF_ERROR(channel_.Send(message));
    std::optional<wire::EvalAnswer> answer = answers_.Pop();
    if (!answer) return Cancelled("stopped");
    return *std::move(answer);
  }

  // About four times a second; at once when the phase changes.
  void Report(const wire::Progress& progress) {
    const int64_t now = Clock::Real()->MonotonicNanos();
    if (progress.phase() == phase_ && now - reported_nanos_ < kReportNanos) return;
    phase_ = progress.phase();
    reported_nanos_ = now;
    wire::FromTrainer message;
    *message.mutable_progress() = progress;
    Send(message);
  }

  int Fail(const absl::Status& status) {
    Log(LogLevel::kError, "job failed", {{"why", std::string(MessageOf(status))}});
    if (closed_) return 0;
    wire::FromTrainer message;
    // It may repeat what a file holds: a message that is not UTF-8, or larger than a frame, would never arrive.
    std::string error(MessageOf(status));
    if (error.size() > kLongestError) error = error.substr(0, WholeCharacters(error.substr(0, kLongestError))) + "...";
    message.mutable_failed()->set_error(AsUtf8(std::move(error)));
    message.mutable_failed()->set_retry(absl::IsResourceExhausted(status) || absl::IsUnavailable(status) ||
                                        absl::IsAborted(status));
    Send(message);
    return 1;
  }

  // A daemon that is gone is noticed by the listener.
  void Send(const wire::FromTrainer& message) {
    if (!closed_) channel_.Send(message).IgnoreError();
  }

  const std::function<void(int)> leave_;
  messaging::Channel channel_;
  std::thread listener_;
  BoundedQueue<wire::EvalAnswer> answers_{4};
  std::atomic<bool> closed_{false};
  std::atomic<bool> done_{false};  // we leave by ourselves: the end of the stream is no news
  std::string phase_;              // as last reported; of the serving thread
  int64_t reported_nanos_ = 0;

  std::mutex mutex_;
  Trainer* trainer_ = nullptr;        // guarded by mutex_
  std::vector<wire::Control> early_;  // guarded by mutex_
  bool stop_ = false;                 // guarded by mutex_
};

}  // namespace

int RunJob(UniqueFd socket, std::function<void(int)> leave) {
  std::atomic<Session*> current{nullptr};
  std::atomic<bool> stopped{false};
  auto signals = StopSignals::Create([&] {
    Log(LogLevel::kInfo, "asked to stop by a signal");
    stopped = true;
    if (Session* session = current.load()) session->Stop();
  });
  if (!signals.ok()) {
    Log(LogLevel::kError, "cannot listen for signals", {{"why", std::string(MessageOf(signals.status()))}});
    return 1;
  }
  Session session(std::move(socket), std::move(leave));
  current = &session;
  if (stopped) session.Stop();
  int code = session.Serve();
  signals->reset();  // before the session: its thread speaks to it
  FlushLog();
  return code;
}

}  // namespace tandem::training
