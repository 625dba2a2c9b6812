#pragma once
// Turns gradients into new weights, in place.
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "spec/train_spec.h"

namespace tandem::training {

// Weight decay applies to every trained tensor, biases and BatchNorm scales included: PyTorch's default for
// optim.SGD(model.parameters()) and optim.AdamW(model.parameters()).
//
// All work is element by element, so the result does not depend on who updates which range, and ranges may be updated
// side by side. Weights are float or double, dense in memory; gradients and state have the weights' strides.
// Thread-compatible, but for Update as said below.
class Optimizer {
 public:
  explicit Optimizer(std::vector<at::Tensor> weights) : weights_(std::move(weights)) {}
  virtual ~Optimizer() = default;

  // Before the updates of step `step` (0-based).
  virtual void Begin(int64_t step, double lr) = 0;
  // Updates elements [begin, end), in memory order, of weight `index`. Thread-safe for ranges that do not overlap.
  virtual void Update(size_t index, const at::Tensor& gradient, int64_t begin, int64_t end) = 0;
  // What a checkpoint must hold: one name a kind of state, one tensor a weight. Restoring copies into these tensors.
  virtual std::vector<std::pair<std::string, std::vector<at::Tensor>>> State() const = 0;

  const std::vector<at::Tensor>& weights() const { return weights_; }

 protected:
  // Zeros like each weight, strides included.
  std::vector<at::Tensor> ZerosLikeWeights() const;

  const std::vector<at::Tensor> weights_;
};

// Stochastic gradient descent with momentum (Nesterov's or heavy ball) as torch.optim.SGD, dampening 0.
std::unique_ptr<Optimizer> MakeSgd(const spec::OptimizerSpec& spec, std::vector<at::Tensor> weights);
// Adam with decoupled weight decay (Loshchilov & Hutter 2019) as torch.optim.AdamW.
std::unique_ptr<Optimizer> MakeAdamW(const spec::OptimizerSpec& spec, std::vector<at::Tensor> weights);

// By spec.name ("sgd", "adamw"; the spec is checked, so there is no other).
std::unique_ptr<Optimizer> MakeOptimizer(const spec::OptimizerSpec& spec, std::vector<at::Tensor> weights);

}  // namespace tandem::training
