#include <ATen/ops/arange.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/where.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <numeric>

#include "base/strings.h"
#include "interpreter/operators.h"
#include "interpreter/values.h"

namespace tandem::interpreter {
namespace {

at::Tensor Gather(const at::Tensor& x, const at::Tensor& indices, int64_t axis) {
  TORCH_CHECK(at::isIntegralType(indices.scalar_type(), false), "indices are ", indices.scalar_type());
  const at::Tensor flat = indices.reshape({-1}).to(at::kLong);
  const at::Tensor positive = at::where(flat.lt(0), flat.add(x.size(axis)), flat);
  std::vector<int64_t> shape = x.sizes().slice(0, axis).vec();
  shape.insert(shape.end(), indices.sizes().begin(), indices.sizes().end());
  shape.insert(shape.end(), x.sizes().begin() + axis + 1, x.sizes().end());
  return x.index_select(axis, positive).reshape(shape);
}

Kernel MakeGather(Node& node) {
  const int64_t axis = node.Int("axis", 0);
  return [axis](const Inputs& in, const RunState&) -> std::vector<at::Tensor> {
    return {Gather(in[0], in[1], NormalAxis(axis, in[0].dim()))};
  };
}

// One axis of Slice: numpy's rules, ends far outside (INT_MAX) included.
at::Tensor SliceAxis(const at::Tensor& x, int64_t axis, int64_t start, int64_t end, int64_t step) {
  TORCH_CHECK(step != 0, "a step of 0");
  const int64_t size = x.size(axis);
  const int64_t low = step > 0 ? 0 : -1;
  const int64_t high = step > 0 ? size : size - 1;
  const auto clamp = [&](int64_t position) {
    return std::clamp(position < 0 ? std::max(position, -size - 1) + size : position, low, std::max(low, high));
  };
  const int64_t first = clamp(start);
  const int64_t last = clamp(end);
  if (step > 0) return x.slice(axis, first, std::max(first, last), std::min(step, size + 1));
  const at::Tensor backwards = x.slice(axis, last + 1, std::max(first, last) + 1).flip(axis);
  return backwards.slice(axis, 0, std::nullopt, -std::max(step, -size - 1));
}

Kernel MakeSlice(Node&) {
  return [](const Inputs& in, const RunState&) -> std::vector<at::Tensor> {
    const std::vector<int64_t> starts = ToInts(in[1]);
    const std::vector<int64_t> ends = ToInts(in[2]);
    std::vector<int64_t> axes(starts.size());
    std::iota(axes.begin(), axes.end(), 0);
    if (in.Has(3)) axes = ToInts(in[3]);
    std::vector<int64_t> steps(starts.size(), 1);
    if (in.Has(4)) steps = ToInts(in[4]);
    TORCH_CHECK(ends.size() == starts.size() && axes.size() == starts.size() && steps.size() == starts.size(),
                "starts, ends, axes and steps differ in length");
    at::Tensor result = in[0];
    for (size_t i = 0; i < starts.size(); ++i) {
      result = SliceAxis(result, NormalAxis(axes[i], result.dim()), starts[i], ends[i], steps[i]);
    }
    return {result};
  };
}

// Sizes of `count` parts: equal, the last one smaller where that does not divide.
std::vector<int64_t> EqualParts(int64_t size, int64_t count) {
  const int64_t part = (size + count - 1) / count;
  std::vector<int64_t> sizes;
  for (int64_t i = 0; i < count; ++i) sizes.push_back(std::clamp<int64_t>(size - i * part, 0, part));
  return sizes;
}

Kernel MakeSplit(Node& node) {
  const int64_t opset = node.context().opset;
  const int64_t axis = node.Int("axis", 0);
  const std::vector<int64_t> attribute = opset < 13 ? node.Ints("split") : std::vector<int64_t>();
  const auto outputs = static_cast<int64_t>(node.context().used.size());
  if (opset >= 18 && node.Int("num_outputs", outputs) != outputs) {
    node.Unsupported("num_outputs is not the number of outputs");
  }
  return [=](const Inputs& in, const RunState&) -> std::vector<at::Tensor> {
    const int64_t normal = NormalAxis(axis, in[0].dim());
    std::vector<int64_t> sizes = in.Has(1) ? ToInts(in[1]) : attribute;
    if (sizes.empty()) sizes = EqualParts(in[0].size(normal), outputs);
    TORCH_CHECK(static_cast<int64_t>(sizes.size()) == outputs, "splits into ", sizes.size(), " parts for ", outputs,
                " outputs");
    return in[0].split_with_sizes(sizes, normal);
  };
}

// Far beyond any real pad, and far from overflow.
constexpr int64_t kLargestPad = int64_t{1} << 40;

enum class PadMode { kConstant, kReflect, kEdge, kWrap };

// Where each element of the padded axis comes from.
at::Tensor PadSource(PadMode mode, int64_t size, int64_t begin, int64_t end) {
  TORCH_CHECK(size > 0, "cannot pad an empty axis from itself");
  const at::Tensor position = at::arange(-begin, size + end, at::kLong);
  if (mode == PadMode::kEdge) return position.clamp(0, size - 1);
  if (mode == PadMode::kWrap) return position.remainder(size);
  if (size == 1) return position.zero_();
  const int64_t period = 2 * (size - 1);  // there and back, without the edges twice
  const at::Tensor phase = position.remainder(period);
  return phase.minimum(phase.neg().add(period));
}

at::Tensor Pad(const at::Tensor& x, PadMode mode, const std::vector<int64_t>& begin, const std::vector<int64_t>& end,
               const at::Scalar& value) {
  if (mode == PadMode::kConstant) {
    std::vector<int64_t> pads;  // LibTorch counts from the last axis
    for (size_t i = begin.size(); i-- > 0;) pads.insert(pads.end(), {begin[i], end[i]});
    return at::constant_pad_nd(x, pads, value);
  }
  at::Tensor result = x;
  for (size_t i = 0; i < begin.size(); ++i) {
    if (begin[i] == 0 && end[i] == 0) continue;
    const auto axis = static_cast<int64_t>(i);
    result = result.index_select(axis, PadSource(mode, x.size(axis), begin[i], end[i]));
  }
  return result;
}

PadMode ReadPadMode(Node& node) {
  const std::string mode = node.String("mode", "constant");
  if (mode == "constant") return PadMode::kConstant;
  if (mode == "reflect") return PadMode::kReflect;
  if (mode == "edge") return PadMode::kEdge;
  if (mode == "wrap" && node.context().opset >= 19) return PadMode::kWrap;
  node.Unsupported(StrCat("mode '", mode, "'"));
  return PadMode::kConstant;
}

Kernel MakePad(Node& node) {
  const PadMode mode = ReadPadMode(node);
  return [mode](const Inputs& in, const RunState&) -> std::vector<at::Tensor> {
    const at::Tensor& x = in[0];
    const std::vector<int64_t> pads = ToInts(in[1]);
    for (const int64_t pad : pads) TORCH_CHECK(pad >= -kLargestPad && pad <= kLargestPad, "a pad of ", pad);
    std::vector<int64_t> axes(static_cast<size_t>(x.dim()));
    std::iota(axes.begin(), axes.end(), 0);
    if (in.Has(3)) axes = NormalAxes(ToInts(in[3]), x.dim());
    TORCH_CHECK(pads.size() == 2 * axes.size(), "pads has ", pads.size(), " entries for ", axes.size(), " axes");
    std::vector<int64_t> begin(static_cast<size_t>(x.dim()), 0);
    std::vector<int64_t> end = begin;
    for (size_t i = 0; i < axes.size(); ++i) {
      begin[static_cast<size_t>(axes[i])] = pads[i];
      end[static_cast<size_t>(axes[i])] = pads[i + axes.size()];
    }
    return {Pad(x, mode, begin, end, in.Has(2) ? in[2].item() : at::Scalar(0))};
  };
}

constexpr Operator kOperators[] = {
    {"Gather", 2, 2, 1, MakeGather},
    {"Pad", 2, 4, 1, MakePad},
    {"Slice", 3, 5, 1, MakeSlice},
    {"Split", 1, 2, kAnyNumber, MakeSplit},
};

}  // namespace

std::span<const Operator> SelectionOperators() { return kOperators; }

}  // namespace tandem::interpreter
