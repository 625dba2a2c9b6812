#include "daemon/evaluation.h"

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <utility>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/status.h"
#include "base/tensor.h"
#include "base/text.h"
#include "daemon/answering_thread.h"
#include "daemon/job_runner.h"

namespace tandem::daemon {
namespace {

constexpr int32_t kRows = 32;  // of a batch
constexpr auto kLastBatch = std::chrono::seconds(2);

wire::EvalAnswer RunBatch(const serving::Serving& serving, const std::string& model, const wire::EvalBatch& batch) {
  wire::EvalAnswer answer;
  absl::Status ran = [&]() -> absl::Status {
    TANDEM_ASSIGN_OR_RETURN(serving::ModelHandle handle, serving.Find(model, batch.version()));
    if (handle->inputs().size() != 1)
      return InvalidArgument("evaluation needs a model of one input, this has ", handle->inputs().size());
    AlignedBuffer data(batch.data().size());
    memcpy(data.data(), batch.data().data(), batch.data().size());
    engine::InputView view{DType::kFloat32, Shape(batch.shape().begin(), batch.shape().end()), data.data(),
                           data.size()};
    std::vector<Tensor> outputs;
    TANDEM_RETURN_IF_ERROR(handle->RunInBackground({{handle->inputs()[0].name, view}}, &outputs));
    if (outputs.empty() || outputs[0].dtype != DType::kFloat32)
      return InvalidArgument("the model's first output is not float32");
    for (int64_t dim : outputs[0].shape) answer.add_shape(dim);
    answer.set_logits(std::string(outputs[0].bytes()));
    return absl::OkStatus();
  }();
  if (!ran.ok()) answer.set_error(std::string(MessageOf(ran)));
  return answer;
}

wire::Assignment AssignmentOf(const EvaluationOrder& order) {
  wire::Assignment assignment;
  assignment.set_job(order.job);
  assignment.set_kind("evaluate");
  *assignment.mutable_dataset() = order.dataset;
  assignment.set_split("val");
  assignment.set_batch(kRows);
  assignment.set_threads(1);
  for (int32_t version : order.versions) assignment.add_versions(StrCat(version));
  return assignment;
}

// One evaluation: the child, the conversation with it, and the thread that answers.
class Evaluation {
 public:
  Evaluation(const EvaluationParts& parts, const EvaluationOrder& order)
      : parts_(parts),
        order_(order),
        answers_([serving = parts.serving,
                  model = order.model](const wire::EvalBatch& batch) { return RunBatch(*serving, model, batch); },
                 parts.left_behind) {}

  absl::StatusOr<JobOutcome> Run() {
    JobHooks hooks;
    hooks.on_progress = [this](const wire::Progress&) { NoteProgress(); };
    hooks.on_eval_batch = [this](const wire::EvalBatch& batch) {
      NoteProgress();
      wire::EvalAnswer answer = answers_.Ask(batch);
      NoteProgress();
      return answer;
    };
    hooks.on_end = [this](const JobOutcome& end) {
      std::lock_guard lock(mutex_);
      outcome_ = end;
      over_ = true;
      ended_.notify_all();
    };
    TANDEM_ASSIGN_OR_RETURN(
        auto runner, JobRunner::Start(AssignmentOf(order_), parts_.isolation, {}, order_.log_file, std::move(hooks)));
    const std::string hangs = Wait();
    runner->Kill();  // unless it has ended
    if (hangs.empty()) AwaitEnd();
    answers_.GiveUp();  // the conversation may be waiting for a run that hangs
    runner.reset();
    if (!hangs.empty() && outcome_.kind != JobOutcome::Kind::kFinished) return DeadlineExceeded(hangs);
    return outcome_;
  }

 private:
  void NoteProgress() { progress_ns_ = Clock::Real()->MonotonicNanos(); }

  // Until it ended, or is to; what hangs, if something does.
  std::string Wait() {
    std::unique_lock lock(mutex_);
    while (!ended_.wait_for(lock, std::chrono::milliseconds(100), [this] { return over_; })) {
      if (parts_.stopped()) break;
      const int64_t still_ns = Clock::Real()->MonotonicNanos() - progress_ns_;
      if (static_cast<double>(still_ns) / 1e9 > order_.patience_s) return WhatHangs();
    }
    return "";
  }

  // When the server stops, the batch that is being run nearly always ends by itself.
  void AwaitEnd() {
    std::unique_lock lock(mutex_);
    ended_.wait_for(lock, kLastBatch, [this] { return over_; });
  }

  std::string WhatHangs() const {
    const std::string asked = answers_.Asked(), patience = HumanSeconds(order_.patience_s);
    const std::string still = StrCat(" for ", patience, ", on the validation split");
    if (!asked.empty()) return StrCat("the engine of version ", asked, " has answered nothing", still);
    return StrCat("the child that reads the data has asked for nothing", still, "; it wrote '", order_.log_file, "'");
  }

  const EvaluationParts& parts_;
  const EvaluationOrder& order_;
  AnsweringThread answers_;
  std::atomic<int64_t> progress_ns_{Clock::Real()->MonotonicNanos()};
  std::mutex mutex_;
  std::condition_variable ended_;
  JobOutcome outcome_;  // guarded by mutex_, as over_; set for good once the runner is gone
  bool over_ = false;
};

}  // namespace

absl::StatusOr<VersionMetrics> EvaluateVersions(const EvaluationParts& parts, const EvaluationOrder& order) {
  TANDEM_ASSIGN_OR_RETURN(const JobOutcome outcome, Evaluation(parts, order).Run());
  if (outcome.kind != JobOutcome::Kind::kFinished) return Internal("evaluation: ", outcome.error);
  VersionMetrics metrics;
  for (int32_t number : order.versions) {
    auto found = outcome.finished.versions().find(StrCat(number));
    if (found == outcome.finished.versions().end()) return Internal("evaluation: no answer for version ", number);
    metrics[number] = std::map<std::string, double>(found->second.metrics().begin(), found->second.metrics().end());
  }
  return metrics;
}

}  // namespace tandem::daemon
