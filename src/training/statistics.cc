#include "training/statistics.h"

#include <ATen/Dispatch.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>

#include <cmath>
#include <map>
#include <string>

#include "base/status.h"

namespace tandem::training {
namespace {

// Plain loops: between two steps, with few channels, LibTorch's operators would take longer than the arithmetic. Fused
// multiply-adds as in those operators, and so the same bits.
using Doubles = std::vector<double>;

Doubles ToDoubles(const at::Tensor& tensor) {
  const at::Tensor dense = tensor.contiguous();
  Doubles values;
  AT_DISPATCH_FLOATING_TYPES(dense.scalar_type(), "ToDoubles", [&] {
    values.assign(dense.const_data_ptr<scalar_t>(), dense.const_data_ptr<scalar_t>() + dense.numel());
  });
  return values;
}

struct Pooled {
  Doubles mean, variance, unbiased_variance;
  int64_t n = 0;
};

Pooled Pool(const std::vector<const interpreter::BatchStatistics*>& parts) {
  const interpreter::BatchStatistics& first = *parts.front();
  Pooled pooled{ToDoubles(first.mean), ToDoubles(first.variance), ToDoubles(first.unbiased_variance), first.n};
  if (parts.size() == 1) return pooled;
  const size_t channels = pooled.mean.size();
  std::vector<Doubles> means;
  Doubles mean(channels), spread(channels);
  pooled.n = 0;
  for (const auto* part : parts) {
    means.push_back(ToDoubles(part->mean));
    pooled.n += part->n;
    for (size_t c = 0; c < channels; ++c) mean[c] = std::fma(means.back()[c], static_cast<double>(part->n), mean[c]);
  }
  for (double& value : mean) value /= static_cast<double>(pooled.n);
  for (size_t p = 0; p < parts.size(); ++p) {
    const Doubles variance = ToDoubles(parts[p]->variance);
    for (size_t c = 0; c < channels; ++c) {
      const double off = means[p][c] - mean[c];
      spread[c] = std::fma(variance[c] + off * off, static_cast<double>(parts[p]->n), spread[c]);
    }
  }
  for (size_t c = 0; c < channels; ++c) {
    pooled.variance[c] = spread[c] / static_cast<double>(pooled.n);
    pooled.unbiased_variance[c] = spread[c] / static_cast<double>(pooled.n - 1);
  }
  pooled.mean = std::move(mean);
  return pooled;
}

void MoveTowards(const at::Tensor& running, const Doubles& target, double momentum) {
  at::Tensor dense = running.contiguous();
  AT_DISPATCH_FLOATING_TYPES(dense.scalar_type(), "MoveTowards", [&] {
    scalar_t* values = dense.data_ptr<scalar_t>();
    for (size_t c = 0; c < target.size(); ++c) {
      values[c] = static_cast<scalar_t>(std::fma(target[c], momentum, values[c] * (1 - momentum)));
    }
  });
  if (!running.is_contiguous()) running.copy_(dense);
}

}  // namespace

interpreter::BatchStatistics PoolStatistics(const std::vector<const interpreter::BatchStatistics*>& parts) {
  Pooled pooled = Pool(parts);
  interpreter::BatchStatistics result = *parts.front();
  result.mean = at::tensor(pooled.mean, at::kDouble);
  result.variance = at::tensor(pooled.variance, at::kDouble);
  result.unbiased_variance = at::tensor(pooled.unbiased_variance, at::kDouble);
  result.n = pooled.n;
  return result;
}

absl::Status UpdateRunningStatistics(const std::vector<StatisticsOfRun>& runs, const interpreter::Values& values) {
  at::NoGradGuard no_grad;
  // By node, since a micro-batch of one element per channel reports none.
  std::map<std::string, std::vector<const interpreter::BatchStatistics*>> nodes;
  for (const StatisticsOfRun& run : runs) {
    for (const interpreter::BatchStatistics& statistics : run) nodes[statistics.mean_name].push_back(&statistics);
  }
  for (const auto& [mean_name, parts] : nodes) {
    const interpreter::BatchStatistics& node = *parts.front();
    auto mean = values.find(mean_name), variance = values.find(node.variance_name);
    if (mean == values.end() || variance == values.end()) {
      return Internal("BatchNorm statistics '", mean_name, "' are no initialisers");
    }
    const Pooled pooled = Pool(parts);
    if (mean->second.numel() != static_cast<int64_t>(pooled.mean.size()) ||
        variance->second.numel() != mean->second.numel()) {
      return Internal("BatchNorm statistics '", mean_name, "' have another number of channels than the batch");
    }
    MoveTowards(mean->second, pooled.mean, node.momentum);
    MoveTowards(variance->second, node.onnx_rule ? pooled.variance : pooled.unbiased_variance, node.momentum);
  }
  return absl::OkStatus();
}

}  // namespace tandem::training
