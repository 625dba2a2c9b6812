#include "interpreter/window.h"

#include <ATen/ops/constant_pad_nd.h>
#include <c10/util/Exception.h>

#include <algorithm>

#include "base/strings.h"

namespace tandem::interpreter {
namespace {

// Bounds that keep the arithmetic below far from overflow; no real graph comes near them.
constexpr int64_t kLargest = int64_t{1} << 30;

AutoPad ReadAutoPad(Node& node) {
  const std::string text = node.String("auto_pad", "NOTSET");
  if (text == "NOTSET") return AutoPad::kNotSet;
  if (text == "SAME_UPPER") return AutoPad::kSameUpper;
  if (text == "SAME_LOWER") return AutoPad::kSameLower;
  if (text == "VALID") return AutoPad::kValid;
  node.Unsupported(StrCat("auto_pad '", text, "'"));
  return AutoPad::kNotSet;
}

void CheckRange(Node& node, const char* name, const std::vector<int64_t>& values, int64_t least) {
  for (const int64_t value : values) {
    if (value < least || value > kLargest) {
      node.Unsupported(StrCat(name, " of ", value));
      return;
    }
  }
}

std::vector<int64_t> OrFill(const std::vector<int64_t>& values, size_t count, int64_t fill, const char* name) {
  if (values.empty()) return std::vector<int64_t>(count, fill);
  TORCH_CHECK(values.size() == count, name, " has ", values.size(), " entries, the input needs ", count);
  return values;
}

// Places one axis: pads by auto_pad, output size, and what the end needs so that the windows fit exactly.
void PlaceAxis(const WindowAttributes& attributes, int64_t input, size_t axis, Window* window) {
  const int64_t stride = window->strides[axis];
  const int64_t span = (window->kernel[axis] - 1) * window->dilations[axis] + 1;
  int64_t& begin = window->begin[axis];
  int64_t& end = window->end[axis];
  int64_t output = 0;
  if (attributes.auto_pad == AutoPad::kSameUpper || attributes.auto_pad == AutoPad::kSameLower) {
    output = (input + stride - 1) / stride;
    const int64_t total = std::max<int64_t>((output - 1) * stride + span - input, 0);
    begin = attributes.auto_pad == AutoPad::kSameUpper ? total / 2 : total - total / 2;
    end = total - begin;
  } else {
    const int64_t room = input + begin + end - span;
    TORCH_CHECK(room >= 0, "a window of ", span, " does not fit an input of ", input, " with pads of ", begin, " and ",
                end);
    output = room / stride + 1;
    if (attributes.ceil_mode && room % stride != 0 && output * stride < input + begin) ++output;
  }
  window->output[axis] = output;
  window->extent_end[axis] = (output - 1) * stride + span - input - begin;
}

}  // namespace

WindowAttributes WindowAttributes::Read(Node& node) {
  WindowAttributes attributes{.kernel = node.Ints("kernel_shape"),
                              .strides = node.Ints("strides"),
                              .dilations = node.Ints("dilations"),
                              .pads = node.Ints("pads"),
                              .auto_pad = ReadAutoPad(node)};
  CheckRange(node, "kernel_shape", attributes.kernel, 1);
  CheckRange(node, "stride", attributes.strides, 1);
  CheckRange(node, "dilation", attributes.dilations, 1);
  CheckRange(node, "pad", attributes.pads, 0);
  return attributes;
}

bool Window::Dilated() const {
  return std::any_of(dilations.begin(), dilations.end(), [](int64_t d) { return d != 1; });
}

bool Window::PadsWithinHalfKernel() const {
  for (size_t i = 0; i < kernel.size(); ++i) {
    if (begin[i] > kernel[i] / 2) return false;
  }
  return true;
}

Window PlaceWindow(const WindowAttributes& attributes, const std::vector<int64_t>& kernel, const at::Tensor& input) {
  TORCH_CHECK(input.dim() >= 3 && input.dim() <= 5, "takes inputs of rank 3 to 5, got rank ", input.dim());
  const size_t axes = static_cast<size_t>(input.dim()) - 2;
  Window window{.kernel = OrFill(kernel, axes, 1, "kernel_shape"),
                .strides = OrFill(attributes.strides, axes, 1, "strides"),
                .dilations = OrFill(attributes.dilations, axes, 1, "dilations"),
                .begin = std::vector<int64_t>(axes),
                .end = std::vector<int64_t>(axes),
                .output = std::vector<int64_t>(axes),
                .extent_end = std::vector<int64_t>(axes)};
  if (attributes.auto_pad == AutoPad::kNotSet && !attributes.pads.empty()) {
    TORCH_CHECK(attributes.pads.size() == 2 * axes, "pads has ", attributes.pads.size(), " entries, the input needs ",
                2 * axes);
    std::copy_n(attributes.pads.begin(), axes, window.begin.begin());
    std::copy_n(attributes.pads.begin() + axes, axes, window.end.begin());
  }
  for (size_t axis = 0; axis < axes; ++axis) PlaceAxis(attributes, input.size(axis + 2), axis, &window);
  return window;
}

at::Tensor PadSpatial(const at::Tensor& input, const std::vector<int64_t>& begin, const std::vector<int64_t>& end,
                      double value) {
  std::vector<int64_t> pads;  // LibTorch counts from the last axis
  for (size_t i = begin.size(); i-- > 0;) {
    pads.push_back(begin[i]);
    pads.push_back(end[i]);
  }
  if (std::all_of(pads.begin(), pads.end(), [](int64_t pad) { return pad == 0; })) return input;
  return at::constant_pad_nd(input, pads, value);
}

}  // namespace tandem::interpreter
