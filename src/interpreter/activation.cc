#include <ATen/ops/leaky_relu.h>

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
    {"Clip", 1, 3, 1, MakeClip},
    {"Erf", 1, 1, 1, [](Node&) { return Unary([](const Tensor& x) { return x.erf(); }); }},
    {"Exp", 1, 1, 1, [](Node&) { return Unary([](const Tensor& x) { return x.exp(); }); }},
    {"Identity", 1, 1, 1, [](Node&) { return Unary([](const Tensor& x) { return x; }); }},
    {"LeakyRelu", 1, 1, 1, MakeLeakyRelu},
    {"Log", 1, 1, 1, [](Node&) { return Unary([](const Tensor& x) { return x.log(); }); }},
    {"LogSoftmax", 1, 1, 1, MakeLogSoftmax},
    {"Neg", 1, 1, 1, [](Node&) { return Unary([](const Tensor& x) { return x.neg(); }); }},
    {"Not", 1, 1, 1, [](Node&) { return Unary([](const Tensor& x) { return x.logical_not(); }); }},
    {"Relu", 1, 1, 1, [](Node&) { return Unary([](const Tensor& x) { return x.relu(); }); }},
    {"Sigmoid", 1, 1, 1, [](Node&) { return Unary([](const Tensor& x) { return x.sigmoid(); }); }},
    {"Softmax", 1, 1, 1, MakeSoftmax},
    {"Sqrt", 1, 1, 1, [](Node&) { return Unary([](const Tensor& x) { return x.sqrt(); }); }},
    {"Tanh", 1, 1, 1, [](Node&) { return Unary([](const Tensor& x) { return x.tanh(); }); }},
};

}  // namespace

std::span<const Operator> ActivationOperators() { return kOperators; }

}  // namespace tandem::interpreter
