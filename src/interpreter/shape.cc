#include <ATen/ops/cat.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>

#include "base/strings.h"
#include "interpreter/operators.h"
#include "interpreter/values.h"

namespace tandem::interpreter {
namespace {

int64_t Product(at::IntArrayRef sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), int64_t{1}, std::multiplies<>());
}

Kernel MakeFlatten(Node& node) {
  const int64_t axis = node.Int("axis", 1);
  return [axis](const Inputs& in, const RunState&) -> std::vector<at::Tensor> {
    const at::Tensor& x = in[0];
    const int64_t normal = axis == x.dim() ? axis : NormalAxis(axis, x.dim());
    return {x.reshape({Product(x.sizes().slice(0, normal)), Product(x.sizes().slice(normal))})};
  };
}

Kernel MakeReshape(Node& node) {
  const bool allow_zero = node.context().opset >= 14 && node.Int("allowzero", 0) != 0;
  return [allow_zero](const Inputs& in, const RunState&) -> std::vector<at::Tensor> {
    std::vector<int64_t> shape = ToInts(in[1]);
    for (size_t i = 0; i < shape.size() && !allow_zero; ++i) {
      if (shape[i] != 0) continue;
      TORCH_CHECK(static_cast<int64_t>(i) < in[0].dim(), "0 at position ", i, " of the shape, the input has rank ",
                  in[0].dim());
      shape[i] = in[0].size(static_cast<int64_t>(i));
    }
    return {in[0].reshape(shape)};
  };
}

Kernel MakeTranspose(Node& node) {
  const std::vector<int64_t> attribute = node.Ints("perm");
  return [attribute](const Inputs& in, const RunState&) -> std::vector<at::Tensor> {
    std::vector<int64_t> perm = attribute;
    if (perm.empty()) {
      perm.resize(static_cast<size_t>(in[0].dim()));
      std::iota(perm.rbegin(), perm.rend(), 0);
    }
    return {in[0].permute(perm)};
  };
}

at::Tensor Squeeze(const at::Tensor& x, const std::vector<int64_t>& axes) {
  if (axes.empty()) return x.squeeze();
  for (const int64_t axis : axes) TORCH_CHECK(x.size(axis) == 1, "axis ", axis, " has size ", x.size(axis), ", not 1");
  return x.squeeze(axes);
}

at::Tensor Unsqueeze(const at::Tensor& x, const std::vector<int64_t>& axes) {
  std::vector<int64_t> sorted = NormalAxes(axes, x.dim() + static_cast<int64_t>(axes.size()));
  std::sort(sorted.begin(), sorted.end());
  TORCH_CHECK(std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end(), "an axis is named twice");
  at::Tensor result = x;
  for (const int64_t axis : sorted) result = result.unsqueeze(axis);
  return result;
}

// Axes are an attribute before opset 13, an input from it on.
Kernel MakeAxesOperator(Node& node, at::Tensor (*function)(const at::Tensor&, const std::vector<int64_t>&)) {
  const std::vector<int64_t> attribute = node.context().opset < 13 ? node.Ints("axes") : std::vector<int64_t>();
  return [=](const Inputs& in, const RunState&) -> std::vector<at::Tensor> {
    return {function(in[0], in.Has(1) ? ToInts(in[1]) : attribute)};
  };
}

Kernel MakeConcat(Node& node) {
  const int64_t axis = node.Int("axis", 0);
  return [axis](const Inputs& in, const RunState&) -> std::vector<at::Tensor> {
    std::vector<at::Tensor> parts;
    for (size_t i = 0; i < in.size(); ++i) parts.push_back(in[i]);
    return {at::cat(parts, axis)};
  };
}

Kernel MakeShape(Node& node) {
  const bool has_range = node.context().opset >= 15;
  const int64_t start = has_range ? node.Int("start", 0) : 0;
  const int64_t end =
      has_range ? node.Int("end", std::numeric_limits<int64_t>::max()) : std::numeric_limits<int64_t>::max();
  return [=](const Inputs& in, const RunState&) -> std::vector<at::Tensor> {
    const int64_t rank = in[0].dim();
    const int64_t first = std::clamp<int64_t>(start < 0 ? start + rank : start, 0, rank);
    const int64_t last = std::clamp<int64_t>(end < 0 ? end + rank : end, first, std::max(first, rank));
    return {FromInts(in[0].sizes().slice(first, last - first).vec())};
  };
}

Kernel MakeSize(Node&) {
  return [](const Inputs& in, const RunState&) -> std::vector<at::Tensor> {
    return {FromInts({in[0].numel()}).squeeze()};
  };
}

Kernel MakeExpand(Node&) {
  return [](const Inputs& in, const RunState&) -> std::vector<at::Tensor> {
    std::vector<int64_t> shape = ToInts(in[1]);
    const std::vector<int64_t> own = in[0].sizes().vec();
    // Both ways: an axis of size 1 in the wish takes the tensor's own size.
    if (shape.size() < own.size()) shape.insert(shape.begin(), own.size() - shape.size(), 1);
    const size_t offset = shape.size() - own.size();
    for (size_t i = 0; i < own.size(); ++i) {
      if (shape[i + offset] == 1) shape[i + offset] = own[i];
    }
    return {in[0].expand(shape)};
  };
}

constexpr Operator kOperators[] = {
    {"Concat", 1, kAnyNumber, 1, MakeConcat},
    {"Expand", 2, 2, 1, MakeExpand},
    {"Flatten", 1, 1, 1, MakeFlatten},
    {"Reshape", 2, 2, 1, MakeReshape},
    {"Shape", 1, 1, 1, MakeShape},
    {"Size", 1, 1, 1, MakeSize},
    {"Squeeze", 1, 2, 1, [](Node& node) { return MakeAxesOperator(node, Squeeze); }},
    {"Transpose", 1, 1, 1, MakeTranspose},
    {"Unsqueeze", 1, 2, 1, [](Node& node) { return MakeAxesOperator(node, Unsqueeze); }},
};

}  // namespace

std::span<const Operator> ShapeOperators() { return kOperators; }

}  // namespace tandem::interpreter
