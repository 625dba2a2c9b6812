#include <ATen/ops/avg_pool1d.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/avg_pool3d.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/max_pool1d.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/max_pool3d.h>
#include <ATen/ops/ones.h>
#include <c10/util/Exception.h>

#include <limits>
#include <numeric>

#include "interpreter/operators.h"
#include "interpreter/window.h"

namespace tandem::interpreter {
namespace {

at::Tensor TorchMaxPool(const at::Tensor& x, const Window& w, const std::vector<int64_t>& pads) {
  switch (w.kernel.size()) {
    case 1:
      return at::max_pool1d(x, w.kernel, w.strides, pads, w.dilations);
    case 2:
      return at::max_pool2d(x, w.kernel, w.strides, pads, w.dilations);
    default:
      return at::max_pool3d(x, w.kernel, w.strides, pads, w.dilations);
  }
}

at::Tensor TorchAveragePool(const at::Tensor& x, const Window& w, const std::vector<int64_t>& pads, bool count_pads) {
  switch (w.kernel.size()) {
    case 1:
      return at::avg_pool1d(x, w.kernel, w.strides, pads, false, count_pads);
    case 2:
      return at::avg_pool2d(x, w.kernel, w.strides, pads, false, count_pads);
    default:
      return at::avg_pool3d(x, w.kernel, w.strides, pads, false, count_pads);
  }
}

// The windows need nothing but equal pads at both ends, which LibTorch's pools add themselves.
bool IsPlain(const Window& window, bool ceil_mode) {
  return !ceil_mode && window.Symmetric() && window.PadsWithinHalfKernel();
}

double LowestOf(const at::Tensor& x) {
  switch (x.scalar_type()) {
    case at::kChar:
      return std::numeric_limits<int8_t>::lowest();
    case at::kByte:
      return 0;
    default:
      return -std::numeric_limits<double>::infinity();
  }
}

// LibTorch has no pools for bytes, so they pass through float, which holds them exactly.
at::Tensor MaxPool(const at::Tensor& x, const WindowAttributes& attributes) {
  if (at::isIntegralType(x.scalar_type(), false)) {
    TORCH_CHECK(x.element_size() == 1, "takes floats, int8 and uint8, got ", x.scalar_type());
    return MaxPool(x.to(at::kFloat), attributes).to(x.scalar_type());
  }
  const Window window = PlaceWindow(attributes, attributes.kernel, x);
  if (IsPlain(window, attributes.ceil_mode)) return TorchMaxPool(x, window, window.begin);
  const std::vector<int64_t> none(window.kernel.size(), 0);
  return TorchMaxPool(PadSpatial(x, window.begin, window.extent_end, LowestOf(x)), window, none);
}

Kernel MakeMaxPool(Node& node) {
  WindowAttributes attributes = WindowAttributes::Read(node);
  attributes.ceil_mode = node.Int("ceil_mode", 0) != 0;
  node.Int("storage_order", 0);  // matters for the indices only
  if (attributes.kernel.empty()) node.Unsupported("kernel_shape is missing");
  if (node.Uses(1)) node.Unsupported("output Indices");
  return [=](const Inputs& in, const RunState&) -> std::vector<at::Tensor> { return {MaxPool(in[0], attributes)}; };
}

// Sums over windows of any dilation: a convolution with ones, each channel for itself.
at::Tensor WindowSums(const at::Tensor& x, const Window& window) {
  const int64_t channels = x.size(1);
  std::vector<int64_t> shape = {channels, 1};
  shape.insert(shape.end(), window.kernel.begin(), window.kernel.end());
  const std::vector<int64_t> none(window.kernel.size(), 0);
  return at::convolution(x, at::ones(shape, x.options()), {}, window.strides, none, window.dilations, false, none,
                         channels);
}

at::Tensor AveragePool(const at::Tensor& x, const WindowAttributes& attributes, bool count_pads) {
  const Window window = PlaceWindow(attributes, attributes.kernel, x);
  const std::vector<int64_t> none(window.kernel.size(), 0);
  if (!window.Dilated() && IsPlain(window, attributes.ceil_mode)) {
    return TorchAveragePool(x, window, window.begin, count_pads);
  }
  const at::Tensor padded = PadSpatial(x, window.begin, window.extent_end, 0);
  // What counts: the input's elements or, with count_include_pad, also the pads, but not what ceil_mode adds.
  std::vector<int64_t> shape = {1, 1};
  shape.insert(shape.end(), x.sizes().begin() + 2, x.sizes().end());
  at::Tensor counts = at::ones(shape, x.options());
  std::vector<int64_t> rest = window.extent_end;
  if (count_pads) {
    counts = PadSpatial(counts, window.begin, window.end, 1);
    for (size_t i = 0; i < rest.size(); ++i) rest[i] -= window.end[i];
  }
  counts = PadSpatial(counts, count_pads ? none : window.begin, rest, 0);
  if (window.Dilated()) return WindowSums(padded, window).div(WindowSums(counts, window));
  return TorchAveragePool(padded, window, none, true).div(TorchAveragePool(counts, window, none, true));
}

Kernel MakeAveragePool(Node& node) {
  WindowAttributes attributes = WindowAttributes::Read(node);
  attributes.ceil_mode = node.Int("ceil_mode", 0) != 0;
  const bool count_pads = node.Int("count_include_pad", 0) != 0;
  if (attributes.kernel.empty()) node.Unsupported("kernel_shape is missing");
  return [=](const Inputs& in, const RunState&) -> std::vector<at::Tensor> {
    return {AveragePool(in[0], attributes, count_pads)};
  };
}

std::vector<int64_t> SpatialAxes(const at::Tensor& x) {
  TORCH_CHECK(x.dim() >= 3, "takes inputs of rank 3 and more, got rank ", x.dim());
  std::vector<int64_t> axes(static_cast<size_t>(x.dim()) - 2);
  std::iota(axes.begin(), axes.end(), 2);
  return axes;
}

Kernel MakeGlobalAveragePool(Node&) {
  return [](const Inputs& in, const RunState&) -> std::vector<at::Tensor> {
    return {in[0].mean(SpatialAxes(in[0]), true)};
  };
}

Kernel MakeGlobalMaxPool(Node&) {
  return [](const Inputs& in, const RunState&) -> std::vector<at::Tensor> {
    return {in[0].amax(SpatialAxes(in[0]), true)};
  };
}

constexpr Operator kOperators[] = {
    {"AveragePool", 1, 1, 1, MakeAveragePool},
    {"GlobalAveragePool", 1, 1, 1, MakeGlobalAveragePool},
    {"GlobalMaxPool", 1, 1, 1, MakeGlobalMaxPool},
    {"MaxPool", 1, 1, 2, MakeMaxPool},
};

}  // namespace

std::span<const Operator> PoolingOperators() { return kOperators; }

}  // namespace tandem::interpreter
