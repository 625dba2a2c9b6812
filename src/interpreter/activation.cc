#include <ATen/ops/elu.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/hardswish.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/where.h>

#include <functional>
#include <numeric>

#include "interpreter/operators.h"
#include "interpreter/values.h"

namespace tandem::interpreter {
namespace {

template <typename Function>
Kernel Unary(Function function) {
  return [function](const Inputs& in, const RunState&) -> std::vector<at::Tensor> { return {function(in[0])}; };
}

Kernel MakeClip(Node&) {
  return [](const Inputs& in, const RunState&) -> std::vector<at::Tensor> {
    std::optional<at::Scalar> low, high;
    if (in.Has(1)) low = in[1].item();
    if (in.Has(2)) high = in[2].item();
    if (!low && !high) return {in[0]};
    return {in[0].clamp(low, high)};
  };
}

Kernel MakeElu(Node& node) {
  const double alpha = node.Float("alpha", 1);
  return Unary([alpha](const at::Tensor& x) { return at::elu(x, alpha); });
}

Kernel MakeHardSigmoid(Node& node) {
  const double alpha = node.Float("alpha", 0.2);
  const double beta = node.Float("beta", 0.5);
  return Unary([=](const at::Tensor& x) { return x.mul(alpha).add(beta).clamp(0, 1); });
}

Kernel MakeGelu(Node& node) {
  const std::string approximate = node.String("approximate", "none");
  return Unary([approximate](const at::Tensor& x) { return at::gelu(x, approximate); });
}

// The slope broadcasts to the input.
Kernel MakePRelu(Node&) {
  return [](const Inputs& in, const RunState&) -> std::vector<at::Tensor> {
    return {at::where(in[0].lt(0), in[0].mul(in[1]), in[0])};
  };
}

Kernel MakeLeakyRelu(Node& node) {
  const double alpha = node.Float("alpha", 0.01);
  return Unary([alpha](const at::Tensor& x) { return at::leaky_relu(x, alpha); });
}

// Before opset 13 the axes from `axis` on are one: softmax over the flattened rest.
template <typename Function>
Kernel MakeSoftmaxLike(Node& node, Function function) {
  const bool flattens = node.context().opset < 13;
  const int64_t axis = node.Int("axis", flattens ? 1 : -1);
  return [=](const Inputs& in, const RunState&) -> std::vector<at::Tensor> {
    const at::Tensor& x = in[0];
    const int64_t normal = x.dim() == 0 ? 0 : NormalAxis(axis, x.dim());
    if (!flattens || normal == x.dim() - 1) return {function(x, normal)};
    const auto split = x.sizes().begin() + normal;
    const int64_t rows = std::accumulate(x.sizes().begin(), split, int64_t{1}, std::multiplies<>());
    const int64_t columns = std::accumulate(split, x.sizes().end(), int64_t{1}, std::multiplies<>());
    return {function(x.reshape({rows, columns}), 1).reshape(x.sizes())};
  };
}

Kernel MakeSoftmax(Node& node) {
  return MakeSoftmaxLike(node, [](const at::Tensor& x, int64_t axis) { return x.softmax(axis); });
}

Kernel MakeLogSoftmax(Node& node) {
  return MakeSoftmaxLike(node, [](const at::Tensor& x, int64_t axis) { return x.log_softmax(axis); });
}

using Tensor = at::Tensor;
constexpr Operator kOperators[] = {
    {"Abs", 1, 1, 1, [](Node&) { return Unary([](const Tensor& x) { return x.abs(); }); }},
    {"Ceil", 1, 1, 1, [](Node&) { return Unary([](const Tensor& x) { return x.ceil(); }); }},
    {"Clip", 1, 3, 1, MakeClip},
    {"Elu", 1, 1, 1, MakeElu},
    {"Erf", 1, 1, 1, [](Node&) { return Unary([](const Tensor& x) { return x.erf(); }); }},
    {"Exp", 1, 1, 1, [](Node&) { return Unary([](const Tensor& x) { return x.exp(); }); }},
    {"Floor", 1, 1, 1, [](Node&) { return Unary([](const Tensor& x) { return x.floor(); }); }},
    {"Gelu", 1, 1, 1, MakeGelu},
    {"HardSigmoid", 1, 1, 1, MakeHardSigmoid},
    {"HardSwish", 1, 1, 1, [](Node&) { return Unary([](const Tensor& x) { return at::hardswish(x); }); }},
    {"Identity", 1, 1, 1, [](Node&) { return Unary([](const Tensor& x) { return x; }); }},
    {"LeakyRelu", 1, 1, 1, MakeLeakyRelu},
    {"Log", 1, 1, 1, [](Node&) { return Unary([](const Tensor& x) { return x.log(); }); }},
    {"LogSoftmax", 1, 1, 1, MakeLogSoftmax},
    {"Neg", 1, 1, 1, [](Node&) { return Unary([](const Tensor& x) { return x.neg(); }); }},
    {"Not", 1, 1, 1, [](Node&) { return Unary([](const Tensor& x) { return x.logical_not(); }); }},
    {"PRelu", 2, 2, 1, MakePRelu},
    {"Reciprocal", 1, 1, 1, [](Node&) { return Unary([](const Tensor& x) { return x.reciprocal(); }); }},
    {"Relu", 1, 1, 1, [](Node&) { return Unary([](const Tensor& x) { return x.relu(); }); }},
    {"Sigmoid", 1, 1, 1, [](Node&) { return Unary([](const Tensor& x) { return x.sigmoid(); }); }},
    {"Sign", 1, 1, 1, [](Node&) { return Unary([](const Tensor& x) { return x.sign(); }); }},
    {"Softmax", 1, 1, 1, MakeSoftmax},
    {"Softplus", 1, 1, 1, [](Node&) { return Unary([](const Tensor& x) { return at::softplus(x); }); }},
    {"Sqrt", 1, 1, 1, [](Node&) { return Unary([](const Tensor& x) { return x.sqrt(); }); }},
    {"Tanh", 1, 1, 1, [](Node&) { return Unary([](const Tensor& x) { return x.tanh(); }); }},
};

}  // namespace

std::span<const Operator> ActivationOperators() { return kOperators; }

}  // namespace tandem::interpreter
