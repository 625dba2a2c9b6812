#include <ATen/ops/batch_norm.h>
#include <ATen/ops/native_batch_norm.h>
#include <ATen/ops/native_layer_norm.h>
#include <ATen/ops/zeros_like.h>
#include <c10/util/Exception.h>

#include <cmath>

#include "base/strings.h"
#include "interpreter/dropout.h"
#include "interpreter/operators.h"
#include "interpreter/values.h"

namespace tandem::interpreter {
namespace {

struct BatchNorm {
  double epsilon = 1e-5;
  double onnx_momentum = 0.9;            // weight of the old value
  bool training_mode = false;            // of the file
  std::string mean_name, variance_name;  // "" where they are no initialisers

  std::vector<at::Tensor> Infer(const Inputs& in) const;
  std::vector<at::Tensor> Train(const Inputs& in, const RunState& state) const;
};

// Mean and variance may have another float type than the input (opset 15); LibTorch wants one.
at::Tensor Like(const at::Tensor& tensor, const at::Tensor& other) { return tensor.to(other.scalar_type()); }

std::vector<at::Tensor> BatchNorm::Infer(const Inputs& in) const {
  const at::Tensor y = at::batch_norm(in[0], Like(in[1], in[0]), Like(in[2], in[0]), Like(in[3], in[0]),
                                      Like(in[4], in[0]), false, 0.0, epsilon, false);
  if (!training_mode) return {y};
  return {y, in[3], in[4]};
}

// LibTorch's own running statistics, started at zero with momentum 1, are the batch's mean and unbiased variance.
std::vector<at::Tensor> BatchNorm::Train(const Inputs& in, const RunState& state) const {
  const at::Tensor& x = in[0];
  at::Tensor mean = at::zeros_like(in[3].detach());
  at::Tensor unbiased = at::zeros_like(in[4].detach());
  const at::Tensor y = std::get<0>(at::native_batch_norm(x, in[1], in[2], mean, unbiased, true, 1.0, epsilon));
  const int64_t n = x.numel() / x.size(1);
  if (n == 1) unbiased.zero_();  // 0 / 0
  const at::Tensor variance =
      unbiased.to(at::kDouble).mul(static_cast<double>(n - 1)).div(static_cast<double>(n)).to(unbiased.scalar_type());
  if (state.options.statistics != nullptr && n > 1 && !mean_name.empty() && !variance_name.empty()) {
    // The momentum was written as a decimal: 1 - 0.9 is 0.1, not 0.09999999999999998.
    const double momentum = std::round((1.0 - onnx_momentum) * 1e9) / 1e9;
    state.options.statistics->push_back(
        {mean_name, variance_name, mean, variance, unbiased, n, momentum, training_mode});
  }
  if (!training_mode) return {y};
  const auto running = [this](const at::Tensor& old, const at::Tensor& batch) {
    return old.mul(onnx_momentum).add(batch, 1 - onnx_momentum);
  };
  return {y, running(in[3], mean), running(in[4], variance)};
}

Kernel MakeBatchNormalization(Node& node) {
  BatchNorm norm;
  norm.epsilon = node.Float("epsilon", 1e-5);
  norm.onnx_momentum = node.Float("momentum", 0.9);
  if (node.context().opset >= 14) norm.training_mode = node.Int("training_mode", 0) != 0;
  norm.mean_name = node.context().initializers[3];
  norm.variance_name = node.context().initializers[4];
  for (size_t i = 1; i < 5; ++i) {
    const bool given = norm.training_mode && i < 3;
    if (node.Uses(i) && !given) node.Unsupported(StrCat("output ", i, " (of statistics)"));
  }
  return [=](const Inputs& in, const RunState& state) -> std::vector<at::Tensor> {
    TORCH_CHECK(in[0].dim() >= 2 && in[0].numel() > 0, "takes inputs [N,C,...] that are not empty, got ",
                in[0].sizes());
    return state.options.training ? norm.Train(in, state) : norm.Infer(in);
  };
}

Kernel MakeLayerNormalization(Node& node) {
  const int64_t axis = node.Int("axis", -1);
  const double epsilon = node.Float("epsilon", 1e-5);
  if (node.Int("stash_type", 1) != 1) node.Unsupported("stash_type other than float");
  return [=](const Inputs& in, const RunState&) -> std::vector<at::Tensor> {
    const at::IntArrayRef normalised = in[0].sizes().slice(static_cast<size_t>(NormalAxis(axis, in[0].dim())));
    auto [y, mean, inverse_deviation] = at::native_layer_norm(
        in[0], normalised, in[1].expand(normalised), in.Has(2) ? in[2].expand(normalised) : at::Tensor(), epsilon);
    return {y, mean, inverse_deviation};
  };
}

Kernel MakeDropout(Node& node) {
  const bool by_attribute = node.context().opset < 12;
  const double attribute = by_attribute ? node.Float("ratio", 0.5) : 0.5;
  node.Int("seed", 0);  // the run's seed counts
  const uint64_t key = DropoutNodeKey(node.first_output());
  const bool wants_mask = node.Uses(1);
  return [=](const Inputs& in, const RunState& state) -> std::vector<at::Tensor> {
    const double ratio = in.Has(1) ? in[1].item<double>() : attribute;
    return Dropout(in[0], ratio, key, wants_mask, state);
  };
}

constexpr Operator kOperators[] = {
    {"BatchNormalization", 5, 5, 5, MakeBatchNormalization, true},
    {"Dropout", 1, 3, 2, MakeDropout, true},
    {"LayerNormalization", 2, 3, 3, MakeLayerNormalization},
};

}  // namespace

std::span<const Operator> NormalisationOperators() { return kOperators; }

}  // namespace tandem::interpreter
