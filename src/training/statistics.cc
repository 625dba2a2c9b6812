#include "training/statistics.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros_like.h>

#include <map>
#include <string>

#include "base/status.h"

namespace tandem::training {

interpreter::BatchStatistics PoolStatistics(const std::vector<const interpreter::BatchStatistics*>& parts) {
  interpreter::BatchStatistics pooled = *parts.front();
  pooled.mean = pooled.mean.to(at::kDouble);
  pooled.variance = pooled.variance.to(at::kDouble);
  pooled.unbiased_variance = pooled.unbiased_variance.to(at::kDouble);
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
  pooled.variance = variance / n;
  pooled.unbiased_variance = variance / (n - 1);
  pooled.n = n;
  return pooled;
}

namespace {

void MoveTowards(const at::Tensor& running, const at::Tensor& target, double momentum) {
  running.copy_(running.to(at::kDouble).mul_(1 - momentum).add_(target, momentum));
}

}  // namespace

absl::Status UpdateRunningStatistics(const std::vector<StatisticsOfRun>& runs, const interpreter::Values& values) {
  at::NoGradGuard no_grad;
  // By node, since a micro-batch of one element per channel reports none.
  std::map<std::string, std::vector<const interpreter::BatchStatistics*>> nodes;
  for (const StatisticsOfRun& run : runs) {
    for (const interpreter::BatchStatistics& statistics : run) nodes[statistics.mean_name].push_back(&statistics);
  }
  for (const auto& [mean_name, parts] : nodes) {
    const interpreter::BatchStatistics pooled = PoolStatistics(parts);
    auto mean = values.find(pooled.mean_name), variance = values.find(pooled.variance_name);
    if (mean == values.end() || variance == values.end()) {
      return Internal("BatchNorm statistics '", pooled.mean_name, "' are no initialisers");
    }
    MoveTowards(mean->second, pooled.mean, pooled.momentum);
    MoveTowards(variance->second, pooled.onnx_rule ? pooled.variance : pooled.unbiased_variance, pooled.momentum);
  }
  return absl::OkStatus();
}

}  // namespace tandem::training
