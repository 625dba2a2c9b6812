#include <ATen/ops/full.h>
#include <c10/util/Exception.h>

#include <limits>
#include <numeric>

#include "interpreter/operators.h"
#include "interpreter/values.h"

namespace tandem::interpreter {
namespace {

using Axes = std::vector<int64_t>;
using Reduce = at::Tensor (*)(const at::Tensor& x, const Axes& axes, bool keep);

// Axes are an attribute before the operator's `axes_input_since`, an input from it on.
Kernel MakeReduction(Node& node, int64_t axes_input_since, Reduce reduce) {
  const bool by_input = node.context().opset >= axes_input_since;
  const Axes attribute = by_input ? Axes() : node.Ints("axes");
  const bool keep = node.Int("keepdims", 1) != 0;
  const bool noop = by_input && node.Int("noop_with_empty_axes", 0) != 0;
  return [=](const Inputs& in, const RunState&) -> std::vector<at::Tensor> {
    const at::Tensor& x = in[0];
    Axes axes = NormalAxes(in.Has(1) ? ToInts(in[1]) : attribute, x.dim());
    if (axes.empty() && noop) return {x};
    if (axes.empty()) {
      axes.resize(static_cast<size_t>(x.dim()));
      std::iota(axes.begin(), axes.end(), 0);
    }
    return {axes.empty() ? x : reduce(x, axes, keep)};
  };
}

// The result's shape when an empty set is reduced, which LibTorch's amax and amin refuse.
at::Tensor OfEmptySet(const at::Tensor& x, const Axes& axes, bool keep, double value) {
  std::vector<int64_t> shape = x.sizes().vec();
  for (const int64_t axis : axes) shape[static_cast<size_t>(axis)] = keep ? 1 : -1;
  std::erase(shape, -1);
  return at::full(shape, value, x.options());
}

constexpr double kInfinity = std::numeric_limits<double>::infinity();

at::Tensor ReduceMax(const at::Tensor& x, const Axes& axes, bool keep) {
  if (x.numel() == 0 && at::isFloatingType(x.scalar_type())) return OfEmptySet(x, axes, keep, -kInfinity);
  return x.amax(axes, keep);
}

at::Tensor ReduceMin(const at::Tensor& x, const Axes& axes, bool keep) {
  if (x.numel() == 0 && at::isFloatingType(x.scalar_type())) return OfEmptySet(x, axes, keep, kInfinity);
  return x.amin(axes, keep);
}

at::Tensor ReduceMean(const at::Tensor& x, const Axes& axes, bool keep) { return x.mean(axes, keep); }
at::Tensor ReduceSum(const at::Tensor& x, const Axes& axes, bool keep) { return x.sum(axes, keep, x.scalar_type()); }

constexpr Operator kOperators[] = {
    {"ReduceMax", 1, 2, 1, [](Node& node) { return MakeReduction(node, 18, ReduceMax); }},
    {"ReduceMean", 1, 2, 1, [](Node& node) { return MakeReduction(node, 18, ReduceMean); }},
    {"ReduceMin", 1, 2, 1, [](Node& node) { return MakeReduction(node, 18, ReduceMin); }},
    {"ReduceSum", 1, 2, 1, [](Node& node) { return MakeReduction(node, 13, ReduceSum); }},
};

}  // namespace

std::span<const Operator> ReductionOperators() { return kOperators; }

}  // namespace tandem::interpreter
