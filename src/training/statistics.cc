#include "training/statistics.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros_like.h>

#include "base/status.h"

namespace tandem::training {

interpreter::BatchStatistics PoolStatistics(const std::vector<const interpreter::BatchStatistics*>& parts) {
  interpreter::BatchStatistics pooled = *parts.front();
  pooled.mean = pooled.mean.to(at::kDouble);
  pooled.variance = pooled.variance.to(at::kDouble);
  if (parts.size() == 1) return pooled;
  at::Tensor mean = at::zeros_like(pooled.mean), variance = at::zeros_like(pooled.mean);
  int64_t n = 0;
  for (const auto* part : parts) {
    n += part->n;
    mean.add_(part->mean.to(at::kDouble), part->n);
  }
  mean.div_(n);
  for (const auto* part : parts) {
    at::Tensor off = part->mean.to(at::kDouble) - mean;
    variance.add_(part->variance.to(at::kDouble) + off * off, part->n);
  }
  pooled.mean = mean;
  pooled.variance = variance.div_(n);
  pooled.n = n;
  return pooled;
}

namespace {

void MoveTowards(const at::Tensor& running, const at::Tensor& target, double momentum) {
  running.copy_(running.to(at::kDouble).mul_(1 - momentum).add_(target, momentum));
}

}  // namespace

absl::Status UpdateRunningStatistics(const std::vector<StatisticsOfRun>& runs, const interpreter::Values& values) {
  if (runs.empty()) return absl::OkStatus();
  at::NoGradGuard no_grad;
  for (size_t node = 0; node < runs.front().size(); ++node) {
    std::vector<const interpreter::BatchStatistics*> parts;
    for (const StatisticsOfRun& run : runs) {
      if (run.size() != runs.front().size()) return Internal("micro-batches report different BatchNorm nodes");
      parts.push_back(&run[node]);
    }
    interpreter::BatchStatistics pooled = PoolStatistics(parts);
    auto mean = values.find(pooled.mean_name), variance = values.find(pooled.variance_name);
    if (mean == values.end() || variance == values.end()) continue;  // computed in the graph: nothing to keep
    // A single element per channel has no unbiased variance; its population variance 0 is kept.
    double n = static_cast<double>(pooled.n);
    if (!pooled.onnx_rule && pooled.n > 1) pooled.variance = pooled.variance * (n / (n - 1));
    MoveTowards(mean->second, pooled.mean, pooled.momentum);
    MoveTowards(variance->second, pooled.variance, pooled.momentum);
  }
  return absl::OkStatus();
}

}  // namespace tandem::training
