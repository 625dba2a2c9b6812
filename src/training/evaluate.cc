#include "training/evaluate.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>

#include "base/status.h"
#include "training/batch.h"
#include "training/loss.h"

namespace tandem::training {
namespace {

constexpr int64_t kBatch = 100;

struct Part {
  double loss = 0;
  int64_t correct = 0;
};

absl::StatusOr<Part> EvaluateRange(const Model& model, const data::Dataset& dataset, int64_t begin, int64_t end) {
  std::vector<int64_t> indices(end - begin);
  std::iota(indices.begin(), indices.end(), begin);
  TANDEM_ASSIGN_OR_RETURN(Batch batch, ReadBatch(dataset, indices));
  at::NoGradGuard no_grad;
  TANDEM_ASSIGN_OR_RETURN(std::vector<at::Tensor> outputs, model.program().Run({batch.images}, model.values(), {}));
  return Part{CrossEntropySum(outputs[0], batch.labels, 0).item<double>(), CountCorrect(outputs[0], batch.labels)};
}

}  // namespace

absl::StatusOr<Evaluation> Evaluate(const Model& model, const data::Dataset& dataset,
                                    const std::function<void()>& on_wake, WorkerPool* pool) {
  Evaluation result;
  result.samples = dataset.size();
  if (result.samples == 0) return InvalidArgument("the split to evaluate on has no samples");
  std::vector<Part> parts((result.samples + kBatch - 1) / kBatch);
  int64_t correct = 0;
  WorkerPool::Work work;
  work.items = static_cast<int64_t>(parts.size());
  work.body = [&](int64_t i) -> absl::Status {
    int64_t end = std::min(result.samples, (i + 1) * kBatch);
    TANDEM_ASSIGN_OR_RETURN(parts[i], EvaluateRange(model, dataset, i * kBatch, end));
    return absl::OkStatus();
  };
  work.fold = [&](int64_t i) {
    result.loss += parts[i].loss;
    correct += parts[i].correct;
    return absl::OkStatus();
  };
  work.on_wake = on_wake;
  TANDEM_RETURN_IF_ERROR(pool->Run(work));
  result.loss /= static_cast<double>(result.samples);
  result.accuracy = static_cast<double>(correct) / static_cast<double>(result.samples);
  return result;
}

}  // namespace tandem::training
