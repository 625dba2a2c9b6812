#include "training/step.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>

#include "base/status.h"
#include "training/loss.h"
#include "training/pool_assistant.h"

namespace tandem::training {
namespace {

struct MicroResult {
  double loss = 0;  // this micro-batch's part of the batch's mean
  std::vector<at::Tensor> gradients;
  StatisticsOfRun statistics;
};

// Forward and backward of samples [part.begin, part.end), on the calling thread; workers without an item assist.
absl::StatusOr<MicroResult> RunMicroBatch(const Model& model, const Batch& batch, MicroBatch part, int64_t step,
                                          const StepOptions& options, WorkerPool* pool) {
  MicroResult result;
  std::vector<at::Tensor> leaves;
  interpreter::Values values = model.WithLeaves(&leaves);
  interpreter::RunOptions run;
  run.training = true;
  run.seed = options.seed;
  run.step = static_cast<uint64_t>(step);
  run.first_sample = part.begin;
  run.statistics = &result.statistics;
  PoolAssistant assistant(pool);
  run.assistant = &assistant;
  at::Tensor loss;
  {
    AutocastScope autocast(options.precision.bf16);
    TANDEM_ASSIGN_OR_RETURN(std::vector<at::Tensor> outputs,
                            model.program().Run({batch.images.narrow(0, part.begin, part.size())}, values, run));
    at::Tensor labels = batch.labels.narrow(0, part.begin, part.size());
    loss = CrossEntropySum(outputs[0], labels, options.label_smoothing) / batch.labels.size(0);
  }
  result.loss = loss.item<double>();
  result.gradients = torch::autograd::grad({loss}, leaves, /*grad_outputs=*/{}, /*retain_graph=*/std::nullopt,
                                           /*create_graph=*/false, /*allow_unused=*/true);
  TANDEM_RETURN_IF_ERROR(assistant.Finish());
  return result;
}

// A gradient as the sum's first term: in the weight's memory order, in memory of its own.
at::Tensor LikeWeight(const at::Tensor& gradient, const at::Tensor& weight) {
  if (gradient.strides() == weight.strides() && gradient.scalar_type() == weight.scalar_type()) return gradient;
  at::Tensor copy = at::empty_like(weight);
  copy.copy_(gradient);
  return copy;
}

void Fold(MicroResult result, const Model& model, Gradients* total) {
  at::NoGradGuard no_grad;
  total->loss += result.loss;
  total->runs.push_back(std::move(result.statistics));
  total->sum.resize(result.gradients.size());
  for (size_t i = 0; i < result.gradients.size(); ++i) {
    at::Tensor& gradient = result.gradients[i];
    if (!gradient.defined()) continue;
    if (total->sum[i].defined()) {
      total->sum[i].add_(gradient);
    } else {
      total->sum[i] = LikeWeight(gradient, model.weights()[i]);
    }
  }
}

// A range of one weight: what one thread updates at a time.
struct Range {
  size_t index;
  int64_t begin, end;
};
constexpr int64_t kRange = 1 << 16;

std::vector<Range> UpdateRanges(const Gradients& gradients) {
  std::vector<Range> ranges;
  for (size_t i = 0; i < gradients.sum.size(); ++i) {
    if (!gradients.sum[i].defined()) continue;
    int64_t size = gradients.sum[i].numel();
    for (int64_t begin = 0; begin < size; begin += kRange) ranges.push_back({i, begin, std::min(size, begin + kRange)});
  }
  return ranges;
}

}  // namespace

struct GradientWork::State {
  const StepOptions options;
  const std::vector<MicroBatch> parts;
  std::vector<MicroResult> results;
  Gradients total;
  WorkerPool* const pool;
  WorkerPool::Work work;
};

GradientWork::GradientWork(const Model& model, const Batch& batch, const Plan& plan, int64_t step, StepOptions options,
                           WorkerPool* pool)
    : state_(new State{.options = std::move(options),
                       .parts = plan.Split(batch.labels.size(0)),
                       .results = {},
                       .total = {},
                       .pool = pool,
                       .work = {}}) {
  State* state = state_.get();
  state->results.resize(state->parts.size());
  state->work.items = static_cast<int64_t>(state->parts.size());
  state->work.body = [state, &model, &batch, step](int64_t i) -> absl::Status {
    TANDEM_ASSIGN_OR_RETURN(state->results[i],
                            RunMicroBatch(model, batch, state->parts[i], step, state->options, state->pool));
    return absl::OkStatus();
  };
  state->work.fold = [state, &model](int64_t i) {
    Fold(std::move(state->results[i]), model, &state->total);
    return absl::OkStatus();
  };
  state->work.on_wake = state->options.on_wake;
  pool->Start(state->work);
}

GradientWork::~GradientWork() { state_->pool->Abandon(); }

absl::StatusOr<Gradients> GradientWork::Finish() {
  TANDEM_RETURN_IF_ERROR(state_->pool->Finish());
  return std::move(state_->total);
}

absl::StatusOr<Gradients> ComputeGradients(const Model& model, const Batch& batch, const Plan& plan, int64_t step,
                                           const StepOptions& options, WorkerPool* pool) {
  return GradientWork(model, batch, plan, step, options, pool).Finish();
}

absl::Status ApplyGradients(const Gradients& gradients, int64_t step, double lr, const Model& model,
                            Optimizer* optimizer, WorkerPool* pool) {
  optimizer->Begin(step, lr);
  const std::vector<Range> ranges = UpdateRanges(gradients);
  auto update = [&](int64_t i) {
    optimizer->Update(ranges[i].index, gradients.sum[ranges[i].index], ranges[i].begin, ranges[i].end);
    return absl::OkStatus();
  };
  int64_t elements = 0;
  for (const Range& range : ranges) elements += range.end - range.begin;
  if (elements > 8 * kRange) {  // less is done before the threads are awake
    WorkerPool::Work work;
    work.items = static_cast<int64_t>(ranges.size());
    work.body = update;
    work.interruptible = false;
    TANDEM_RETURN_IF_ERROR(pool->Run(work));
  } else {
    for (size_t i = 0; i < ranges.size(); ++i) TANDEM_RETURN_IF_ERROR(update(static_cast<int64_t>(i)));
  }
  return UpdateRunningStatistics(gradients.runs, model.values());
}

}  // namespace tandem::training
