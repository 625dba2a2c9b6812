#include "graph/shape_rules_views.h"

#include <algorithm>
#include <cstring>

#include "graph/attributes.h"
#include "graph/shape_rules_layers.h"
#include "graph/tensor_data.h"

namespace tandem::graph {
namespace {

template <typename T>
std::vector<int64_t> Widened(const std::string& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return {values.begin(), values.end()};
}

Known Integers(std::vector<int64_t> elements) {
  return {Shape{static_cast<int64_t>(elements.size())}, std::move(elements)};
}

// One axis of Slice: how many elements from `start` to `end` in steps of `step` of a dimension.
int64_t SliceCount(int64_t dim, int64_t start, int64_t end, int64_t step) {
  const auto clamp = [&](int64_t at, int64_t low, int64_t high) {
    if (at < 0) at += dim;
    return std::clamp(at, low, high);
  };
  if (step > 0) {
    start = clamp(start, 0, dim);
    end = clamp(end, 0, dim);
    return end <= start ? 0 : (end - start - 1) / step + 1;
  }
  if (dim == 0) return 0;
  start = clamp(start, 0, dim - 1);
  end = clamp(end, -1, dim - 1);
  return start <= end ? 0 : (start - end - 1) / -step + 1;
}

}  // namespace

Known KnownOf(const onnx::TensorProto& tensor) {
  Known known;
  known.shape = Shape(tensor.dims().begin(), tensor.dims().end());
  if (ElementCount(*known.shape).value_or(kMostElements + 1) > kMostElements) return known;
  if (tensor.data_type() == onnx::TensorProto::INT64) known.elements = Widened<int64_t>(DataBytes(tensor));
  if (tensor.data_type() == onnx::TensorProto::INT32) known.elements = Widened<int32_t>(DataBytes(tensor));
  return known;
}

std::optional<Known> FlattenRule(Step& step) {
  if (!step.HasShape(0)) return std::nullopt;
  const Shape& x = step.ShapeOf(0);
  int64_t axis = IntAttribute(step.node, "axis", 1);
  const auto rank = static_cast<int64_t>(x.size());
  if (axis < -rank || axis > rank) return std::nullopt;
  if (axis < 0) axis += rank;
  const std::optional<int64_t> rows = Product(Shape(x.begin(), x.begin() + axis));
  const std::optional<int64_t> columns = Product(Shape(x.begin() + axis, x.end()));
  if (!rows || !columns) return std::nullopt;
  return Known{Shape{*rows, *columns}, std::nullopt};
}

std::optional<Known> ReshapeRule(Step& step) {
  if (!step.HasShape(0) || !step.HasElements(1)) return std::nullopt;
  const Shape& x = step.ShapeOf(0);
  const std::optional<int64_t> total = Product(x);
  if (!total) return std::nullopt;
  Shape out = step.ElementsOf(1);
  const bool allow_zero = IntAttribute(step.node, "allowzero", 0) != 0;
  int64_t* free = nullptr;
  int64_t rest = 1;
  for (size_t i = 0; i < out.size(); ++i) {
    if (out[i] == 0 && !allow_zero) {
      if (i >= x.size()) return std::nullopt;
      out[i] = x[i];
    }
    if (out[i] < -1 || (out[i] == -1 && free != nullptr)) return std::nullopt;
    if (out[i] == -1) {
      free = &out[i];
      continue;
    }
    const std::optional<int64_t> product = Product(rest, out[i]);
    if (!product) return std::nullopt;
    rest = *product;
  }
  if (free != nullptr) {
    if (rest == 0) return std::nullopt;
    *free = *total / rest;
    rest *= *free;
  }
  if (rest != *total) return std::nullopt;
  return Known{out, step.inputs[0].elements};
}

std::optional<Known> TransposeRule(Step& step) {
  if (!step.HasShape(0)) return std::nullopt;
  const Shape& x = step.ShapeOf(0);
  Shape out(x.rbegin(), x.rend());
  const std::vector<int64_t> order = IntsAttribute(step.node, "perm");
  if (!order.empty() && order.size() != x.size()) return std::nullopt;
  for (size_t i = 0; i < order.size(); ++i) {
    const std::optional<size_t> axis = AxisOf(order[i], x.size());
    if (!axis) return std::nullopt;
    out[i] = x[*axis];
  }
  return Known{out, std::nullopt};
}

std::optional<Known> SqueezeRule(Step& step) {
  if (!step.HasShape(0)) return std::nullopt;
  const Shape& x = step.ShapeOf(0);
  const std::optional<std::vector<int64_t>> axes = AxesOf(step, 1, x.size());
  if (!axes) return std::nullopt;
  Shape out;
  for (size_t i = 0; i < x.size(); ++i) {
    const bool named = std::find(axes->begin(), axes->end(), static_cast<int64_t>(i)) != axes->end();
    if (axes->empty() ? x[i] != 1 : !named) out.push_back(x[i]);
  }
  return Known{out, step.inputs[0].elements};
}

std::optional<Known> UnsqueezeRule(Step& step) {
  if (!step.HasShape(0)) return std::nullopt;
  Shape out = step.ShapeOf(0);
  const size_t added = step.HasElements(1) ? step.ElementsOf(1).size() : IntsAttribute(step.node, "axes").size();
  std::optional<std::vector<int64_t>> axes = AxesOf(step, 1, out.size() + added);
  if (!axes) return std::nullopt;
  std::sort(axes->begin(), axes->end());
  for (int64_t axis : *axes) {
    if (axis > static_cast<int64_t>(out.size())) return std::nullopt;
    out.insert(out.begin() + axis, 1);
  }
  return Known{out, step.inputs[0].elements};
}

std::optional<Known> ConcatRule(Step& step) {
  if (!step.HasShape(0)) return std::nullopt;
  Known out{step.ShapeOf(0), std::vector<int64_t>()};
  const std::optional<size_t> axis = AxisOf(IntAttribute(step.node, "axis", 0), out.shape->size());
  if (!axis) return std::nullopt;
  int64_t total = 0;
  for (size_t i = 0; i < step.inputs.size(); ++i) {
    if (!step.HasShape(i) || step.ShapeOf(i).size() != out.shape->size()) return std::nullopt;
    if (__builtin_add_overflow(total, step.ShapeOf(i)[*axis], &total)) return std::nullopt;
    if (!step.HasElements(i) || out.shape->size() != 1) out.elements.reset();
    if (out.elements) out.elements->insert(out.elements->end(), step.ElementsOf(i).begin(), step.ElementsOf(i).end());
  }
  (*out.shape)[*axis] = total;
  if (total > kMostElements) out.elements.reset();
  return out;
}

std::optional<Known> GatherRule(Step& step) {
  if (!step.HasShape(0) || !step.HasShape(1)) return std::nullopt;
  const Shape& x = step.ShapeOf(0);
  const Shape& indices = step.ShapeOf(1);
  const std::optional<size_t> axis = AxisOf(IntAttribute(step.node, "axis", 0), x.size());
  if (!axis) return std::nullopt;
  Known out;
  out.shape = Shape(x.begin(), x.begin() + static_cast<int64_t>(*axis));
  out.shape->insert(out.shape->end(), indices.begin(), indices.end());
  out.shape->insert(out.shape->end(), x.begin() + static_cast<int64_t>(*axis) + 1, x.end());
  if (x.size() != 1 || !step.HasElements(0) || !step.HasElements(1)) return out;
  std::vector<int64_t> elements;
  for (int64_t index : step.ElementsOf(1)) {
    const std::optional<size_t> at = AxisOf(index, step.ElementsOf(0).size());
    if (!at) return std::nullopt;
    elements.push_back(step.ElementsOf(0)[*at]);
  }
  out.elements = std::move(elements);
  return out;
}

std::optional<Known> SliceRule(Step& step) {
  if (!step.HasShape(0) || !step.HasElements(1) || !step.HasElements(2)) return std::nullopt;
  Shape out = step.ShapeOf(0);
  const std::vector<int64_t>& starts = step.ElementsOf(1);
  const std::vector<int64_t>& ends = step.ElementsOf(2);
  std::optional<std::vector<int64_t>> axes = AxesOf(step, 3, out.size());
  if (!axes || starts.size() != ends.size() || starts.size() > out.size()) return std::nullopt;
  for (size_t i = axes->size(); i < starts.size(); ++i) axes->push_back(static_cast<int64_t>(i));
  const bool stepped = step.node.input_size() > 4 && !step.node.input(4).empty();
  if (stepped && (!step.HasElements(4) || step.ElementsOf(4).size() != starts.size())) return std::nullopt;
  constexpr int64_t kLargestStep = int64_t{1} << 62;
  for (size_t i = 0; i < starts.size(); ++i) {
    const int64_t stride = stepped ? step.ElementsOf(4)[i] : 1;
    if (stride == 0 || stride > kLargestStep || stride < -kLargestStep) return std::nullopt;
    int64_t& dim = out[(*axes)[i]];
    dim = SliceCount(dim, starts[i], ends[i], stride);
  }
  Known known{out, std::nullopt};
  if (out.size() == 1 && starts.size() == 1 && step.HasElements(0) && (!stepped || step.ElementsOf(4)[0] == 1)) {
    const auto size = static_cast<int64_t>(step.ElementsOf(0).size());
    const int64_t start = std::clamp<int64_t>(starts[0] < 0 ? starts[0] + size : starts[0], 0, size);
    const auto first = step.ElementsOf(0).begin() + start;
    known.elements = std::vector<int64_t>(first, first + std::min(out[0], size - start));
  }
  return known;
}

std::optional<Known> PadRule(Step& step) {
  if (!step.HasShape(0) || !step.HasElements(1)) return std::nullopt;
  Shape out = step.ShapeOf(0);
  const std::vector<int64_t>& pads = step.ElementsOf(1);
  std::optional<std::vector<int64_t>> axes = AxesOf(step, 3, out.size());
  if (!axes) return std::nullopt;
  for (size_t i = axes->size(); axes->size() < out.size() && step.node.input_size() < 4; ++i) {
    axes->push_back(static_cast<int64_t>(i));
  }
  if (pads.size() != 2 * axes->size()) return std::nullopt;
  for (size_t i = 0; i < axes->size(); ++i) {
    int64_t& dim = out[(*axes)[i]];
    if (__builtin_add_overflow(dim, pads[i], &dim)) return std::nullopt;
    if (__builtin_add_overflow(dim, pads[i + axes->size()], &dim) || dim < 0) return std::nullopt;
  }
  return Known{out, std::nullopt};
}

std::optional<Known> ExpandRule(Step& step) {
  if (!step.HasShape(0) || !step.HasElements(1)) return std::nullopt;
  Step both{step.node, {step.inputs[0], Known{step.ElementsOf(1), std::nullopt}}};
  for (int64_t dim : step.ElementsOf(1)) {
    if (dim < 0) return std::nullopt;
  }
  return BroadcastRule(both);
}

std::optional<Known> ShapeOfRule(Step& step) {
  if (!step.HasShape(0)) return std::nullopt;
  const Shape& x = step.ShapeOf(0);
  const auto rank = static_cast<int64_t>(x.size());
  const auto clamp = [&](int64_t at) { return std::clamp<int64_t>(at < 0 ? at + rank : at, 0, rank); };
  const int64_t start = clamp(IntAttribute(step.node, "start", 0));
  const int64_t end = clamp(IntAttribute(step.node, "end", rank));
  if (end <= start) return Integers({});
  return Integers(std::vector<int64_t>(x.begin() + start, x.begin() + end));
}

std::optional<Known> ConstantRule(Step& step) {
  if (step.node.attribute_size() != 1) return std::nullopt;
  const onnx::AttributeProto& value = step.node.attribute(0);
  if (value.name() == "value") return KnownOf(value.t());
  if (value.name() == "value_int") return Known{Shape{}, std::vector<int64_t>{value.i()}};
  if (value.name() == "value_ints") return Integers({value.ints().begin(), value.ints().end()});
  if (value.name() == "value_float") return Known{Shape{}, std::nullopt};
  if (value.name() == "value_floats") return Known{Shape{value.floats_size()}, std::nullopt};
  return std::nullopt;
}

std::optional<Known> ConstantOfShapeRule(Step& step) {
  if (!step.HasElements(0)) return std::nullopt;
  for (int64_t dim : step.ElementsOf(0)) {
    if (dim < 0) return std::nullopt;
  }
  return Known{step.ElementsOf(0), std::nullopt};
}

}  // namespace tandem::graph
