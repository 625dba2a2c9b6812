#include "graph/shape_rules_layers.h"

#include <algorithm>
#include <limits>

#include "graph/attributes.h"

namespace tandem::graph {
namespace {

std::optional<Shape> Broadcast(const Shape& a, const Shape& b) {
  Shape out = a.size() >= b.size() ? a : b;
  const Shape& shorter = a.size() >= b.size() ? b : a;
  const size_t shift = out.size() - shorter.size();
  for (size_t i = 0; i < shorter.size(); ++i) {
    int64_t& dim = out[shift + i];
    if (dim == 1) dim = shorter[i];
    if (shorter[i] != 1 && shorter[i] != dim) return std::nullopt;
  }
  return out;
}

// Broadcasting, and the same arithmetic on integers where both sides are known. `apply` gives nothing on overflow.
template <typename Apply>
std::optional<Known> Arithmetic(Step& step, Apply apply) {
  std::optional<Known> out = BroadcastRule(step);
  if (!out || step.inputs.size() != 2 || !step.HasElements(0) || !step.HasElements(1)) return out;
  const std::vector<int64_t>& a = step.ElementsOf(0);
  const std::vector<int64_t>& b = step.ElementsOf(1);
  if (a.size() != b.size() && a.size() != 1 && b.size() != 1) return out;
  if (a.empty() || b.empty()) return out;
  std::vector<int64_t> elements;
  for (size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
    const std::optional<int64_t> value = apply(a[a.size() == 1 ? 0 : i], b[b.size() == 1 ? 0 : i]);
    if (!value) return out;
    elements.push_back(*value);
  }
  out->elements = std::move(elements);
  return out;
}

// Sliding windows over the spatial dimensions, as Conv and the pools have them.
struct Windows {
  std::vector<int64_t> kernel, strides, dilations, pads;
  std::string auto_pad;
  bool ceil = false;
};

constexpr int64_t kLargestWindow = int64_t{1} << 31;  // keeps the arithmetic below within 64 bits

std::optional<Windows> WindowsOf(const onnx::NodeProto& node, std::vector<int64_t> kernel) {
  Windows w;
  const size_t rank = kernel.size();
  w.kernel = std::move(kernel);
  w.strides = IntsAttribute(node, "strides");
  w.dilations = IntsAttribute(node, "dilations");
  w.pads = IntsAttribute(node, "pads");
  w.auto_pad = StringAttribute(node, "auto_pad");
  w.ceil = IntAttribute(node, "ceil_mode", 0) != 0;
  if (w.strides.empty()) w.strides.assign(rank, 1);
  if (w.dilations.empty()) w.dilations.assign(rank, 1);
  if (w.pads.empty()) w.pads.assign(2 * rank, 0);
  if (w.strides.size() != rank || w.dilations.size() != rank || w.pads.size() != 2 * rank) return std::nullopt;
  const auto in = [](const std::vector<int64_t>& values, int64_t least) {
    return std::all_of(values.begin(), values.end(), [&](int64_t v) { return v >= least && v < kLargestWindow; });
  };
  if (!in(w.kernel, 1) || !in(w.strides, 1) || !in(w.dilations, 1) || !in(w.pads, 0)) return std::nullopt;
  return w;
}

std::optional<int64_t> WindowsAlong(const Windows& w, size_t axis, int64_t in) {
  if (in < 0 || in >= kLargestWindow) return std::nullopt;
  const int64_t stride = w.strides[axis];
  if (w.auto_pad == "SAME_UPPER" || w.auto_pad == "SAME_LOWER") return (in + stride - 1) / stride;
  const int64_t pad = w.auto_pad == "VALID" ? 0 : w.pads[axis] + w.pads[axis + w.kernel.size()];
  const std::optional<int64_t> reach = Product(w.kernel[axis] - 1, w.dilations[axis]);
  if (!reach || in + pad - *reach - 1 < 0) return std::nullopt;
  const int64_t free = in + pad - *reach - 1;
  int64_t count = free / stride + 1;
  // A last window that hangs over counts if it begins inside the input or the padding before it.
  if (w.ceil && free % stride != 0 && count * stride < in + w.pads[axis]) ++count;
  return count;
}

std::optional<Shape> Slide(const Windows& w, const Shape& x, int64_t channels) {
  if (x.size() != w.kernel.size() + 2) return std::nullopt;
  Shape out = {x[0], channels};
  for (size_t axis = 0; axis < w.kernel.size(); ++axis) {
    const std::optional<int64_t> count = WindowsAlong(w, axis, x[axis + 2]);
    if (!count) return std::nullopt;
    out.push_back(*count);
  }
  return out;
}

}  // namespace

std::optional<size_t> AxisOf(int64_t axis, size_t rank) {
  const auto signed_rank = static_cast<int64_t>(rank);
  if (axis < -signed_rank || axis >= signed_rank) return std::nullopt;
  return static_cast<size_t>(axis < 0 ? axis + signed_rank : axis);
}

std::optional<std::vector<int64_t>> AxesOf(const Step& step, size_t input, size_t rank) {
  const bool given =
      step.node.input_size() > static_cast<int>(input) && !step.node.input(static_cast<int>(input)).empty();
  if (given && !step.HasElements(input)) return std::nullopt;
  std::vector<int64_t> axes = given ? step.ElementsOf(input) : IntsAttribute(step.node, "axes");
  for (int64_t& axis : axes) {
    const std::optional<size_t> positive = AxisOf(axis, rank);
    if (!positive) return std::nullopt;
    axis = static_cast<int64_t>(*positive);
  }
  return axes;
}

std::optional<Known> SameShape(Step& step) {
  if (!step.HasShape(0)) return std::nullopt;
  return step.inputs[0];
}

std::optional<Known> BroadcastRule(Step& step) {
  if (!step.HasShape(0)) return std::nullopt;
  std::optional<Shape> shape = step.ShapeOf(0);
  for (size_t i = 1; i < step.inputs.size(); ++i) {
    if (!step.HasShape(i)) return std::nullopt;
    shape = Broadcast(*shape, step.ShapeOf(i));
    if (!shape) return std::nullopt;
  }
  return Known{shape, std::nullopt};
}

std::optional<Known> AddRule(Step& step) {
  return Arithmetic(step, [](int64_t a, int64_t b) -> std::optional<int64_t> {
    int64_t sum = 0;
    if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
    return sum;
  });
}

std::optional<Known> SubRule(Step& step) {
  return Arithmetic(step, [](int64_t a, int64_t b) -> std::optional<int64_t> {
    int64_t difference = 0;
    if (__builtin_sub_overflow(a, b, &difference)) return std::nullopt;
    return difference;
  });
}

std::optional<Known> MulRule(Step& step) {
  return Arithmetic(step, [](int64_t a, int64_t b) { return Product(a, b); });
}

std::optional<Known> DivRule(Step& step) {
  return Arithmetic(step, [](int64_t a, int64_t b) -> std::optional<int64_t> {
    if (b == 0 || (b == -1 && a == std::numeric_limits<int64_t>::min())) return std::nullopt;
    return a / b;
  });
}

std::optional<Known> ConvRule(Step& step) {
  if (!step.HasShape(0) || !step.HasShape(1)) return std::nullopt;
  const Shape& weight = step.ShapeOf(1);
  if (weight.size() < 3) return std::nullopt;
  const std::optional<Windows> windows = WindowsOf(step.node, Shape(weight.begin() + 2, weight.end()));
  if (!windows) return std::nullopt;
  std::optional<Shape> out = Slide(*windows, step.ShapeOf(0), weight[0]);
  if (!out) return std::nullopt;
  std::vector<int64_t> factors = *out;
  factors.insert(factors.end(), weight.begin() + 1, weight.end());
  const std::optional<int64_t> macs = Product(factors);
  if (!macs) return std::nullopt;
  step.macs = *macs;
  return Known{out, std::nullopt};
}

std::optional<Known> PoolRule(Step& step) {
  if (!step.HasShape(0) || step.ShapeOf(0).size() < 3) return std::nullopt;
  const std::optional<Windows> windows = WindowsOf(step.node, IntsAttribute(step.node, "kernel_shape"));
  if (!windows) return std::nullopt;
  std::optional<Shape> out = Slide(*windows, step.ShapeOf(0), step.ShapeOf(0)[1]);
  if (!out) return std::nullopt;
  return Known{out, std::nullopt};
}

std::optional<Known> GlobalPoolRule(Step& step) {
  if (!step.HasShape(0) || step.ShapeOf(0).size() < 2) return std::nullopt;
  Shape out = step.ShapeOf(0);
  std::fill(out.begin() + 2, out.end(), 1);
  return Known{out, std::nullopt};
}

std::optional<Known> GemmRule(Step& step) {
  if (!step.HasShape(0) || !step.HasShape(1)) return std::nullopt;
  Shape a = step.ShapeOf(0);
  Shape b = step.ShapeOf(1);
  if (a.size() != 2 || b.size() != 2) return std::nullopt;
  if (IntAttribute(step.node, "transA", 0) != 0) std::swap(a[0], a[1]);
  if (IntAttribute(step.node, "transB", 0) != 0) std::swap(b[0], b[1]);
  const std::optional<int64_t> macs = Product({a[0], a[1], b[1]});
  if (a[1] != b[0] || !macs) return std::nullopt;
  step.macs = *macs;
  return Known{Shape{a[0], b[1]}, std::nullopt};
}

std::optional<Known> MatMulRule(Step& step) {
  if (!step.HasShape(0) || !step.HasShape(1)) return std::nullopt;
  Shape a = step.ShapeOf(0);
  Shape b = step.ShapeOf(1);
  if (a.empty() || b.empty()) return std::nullopt;
  const bool row = a.size() == 1;
  const bool column = b.size() == 1;
  if (row) a.insert(a.begin(), 1);
  if (column) b.push_back(1);
  const int64_t rows = a.end()[-2], inner = a.back(), columns = b.back();
  if (inner != b.end()[-2]) return std::nullopt;
  std::optional<Shape> out = Broadcast(Shape(a.begin(), a.end() - 2), Shape(b.begin(), b.end() - 2));
  if (!out) return std::nullopt;
  std::vector<int64_t> factors = *out;
  factors.insert(factors.end(), {rows, inner, columns});
  const std::optional<int64_t> macs = Product(factors);
  if (!macs) return std::nullopt;
  step.macs = *macs;
  if (!row) out->push_back(rows);
  if (!column) out->push_back(columns);
  return Known{out, std::nullopt};
}

std::optional<Known> ReduceRule(Step& step) {
  if (!step.HasShape(0)) return std::nullopt;
  const Shape& x = step.ShapeOf(0);
  std::optional<std::vector<int64_t>> axes = AxesOf(step, 1, x.size());
  if (!axes) return std::nullopt;
  if (axes->empty() && IntAttribute(step.node, "noop_with_empty_axes", 0) != 0) return Known{x, std::nullopt};
  const bool keep = IntAttribute(step.node, "keepdims", 1) != 0;
  Shape out;
  for (size_t i = 0; i < x.size(); ++i) {
    const bool reduced = axes->empty() || std::find(axes->begin(), axes->end(), static_cast<int64_t>(i)) != axes->end();
    if (!reduced || keep) out.push_back(reduced ? 1 : x[i]);
  }
  return Known{out, std::nullopt};
}

}  // namespace tandem::graph
