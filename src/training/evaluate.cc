#include "training/evaluate.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>

#include "base/status.h"
#include "training/batch.h"
#include "training/loss.h"

namespace tandem::training {

Evaluator::Evaluator(const Model& model, interpreter::Values values, const data::Dataset& dataset, WorkerPool* pool)
    : model_(model),
      values_(std::move(values)),
      dataset_(dataset),
      pool_(pool),
      parts_((dataset.size() + kPiece - 1) / kPiece),
      filler_(pool, WorkerPool::Filler::Urgency::kIdle, static_cast<int64_t>(parts_.size()),
              [this](int64_t piece) { parts_[piece] = CatchToStatus("evaluating", [&] { return RunPiece(piece); }); }) {
}

absl::StatusOr<Evaluator::Part> Evaluator::RunPiece(int64_t piece) const {
  std::vector<int64_t> indices(std::min(kPiece, dataset_.size() - piece * kPiece));
  std::iota(indices.begin(), indices.end(), piece * kPiece);
  TANDEM_ASSIGN_OR_RETURN(Batch batch, ReadBatch(dataset_, indices));
  at::NoGradGuard no_grad;
  TANDEM_ASSIGN_OR_RETURN(std::vector<at::Tensor> outputs, model_.program().Run({batch.images}, values_, {}));
  return Part{CrossEntropySum(outputs[0], batch.labels, 0).item<double>(), CountCorrect(outputs[0], batch.labels)};
}

absl::StatusOr<Evaluation> Evaluator::Finish(const std::function<void()>& on_wake) {
  Evaluation result;
  result.samples = dataset_.size();
  if (result.samples == 0) return InvalidArgument("the split to evaluate on has no samples");
  TANDEM_RETURN_IF_ERROR(pool_->Await(filler_, on_wake));
  int64_t correct = 0;
  for (const absl::StatusOr<Part>& part : parts_) {
    TANDEM_RETURN_IF_ERROR(part.status());
    result.loss += part->loss;
    correct += part->correct;
  }
  result.loss /= static_cast<double>(result.samples);
  result.accuracy = static_cast<double>(correct) / static_cast<double>(result.samples);
  return result;
}

}  // namespace tandem::training
