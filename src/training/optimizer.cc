#include "training/optimizer.h"

#include <ATen/ops/zeros_like.h>

namespace tandem::training {

std::vector<at::Tensor> Optimizer::ZerosLikeWeights() const {
  std::vector<at::Tensor> zeros;
  zeros.reserve(weights_.size());
  for (const at::Tensor& weight : weights_) zeros.push_back(at::zeros_like(weight));
  return zeros;
}

std::unique_ptr<Optimizer> MakeOptimizer(const spec::OptimizerSpec& spec, std::vector<at::Tensor> weights) {
  if (spec.name == "adamw") return MakeAdamW(spec, std::move(weights));
  return MakeSgd(spec, std::move(weights));
}

}  // namespace tandem::training
