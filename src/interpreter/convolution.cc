#include <ATen/ops/conv1d.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/conv3d.h>
#include <c10/util/Exception.h>

#include "base/strings.h"
#include "interpreter/operators.h"
#include "interpreter/window.h"

namespace tandem::interpreter {
namespace {

at::Tensor Convolve(const Inputs& in, const WindowAttributes& attributes, int64_t groups) {
  const at::Tensor& weight = in[1];
  const std::vector<int64_t> kernel(weight.sizes().begin() + 2, weight.sizes().end());
  TORCH_CHECK(attributes.kernel.empty() || attributes.kernel == kernel, "kernel_shape is not the weight's, which is ",
              weight.sizes());
  const Window window = PlaceWindow(attributes, kernel, in[0]);
  const std::vector<int64_t> none(kernel.size(), 0);
  const at::Tensor x = window.Symmetric() ? in[0] : PadSpatial(in[0], window.begin, window.end, 0);
  const std::vector<int64_t>& padding = window.Symmetric() ? window.begin : none;
  // Not at::convolution, which autocast does not know.
  if (kernel.size() == 1) return at::conv1d(x, weight, in.Get(2), window.strides, padding, window.dilations, groups);
  if (kernel.size() == 2) return at::conv2d(x, weight, in.Get(2), window.strides, padding, window.dilations, groups);
  return at::conv3d(x, weight, in.Get(2), window.strides, padding, window.dilations, groups);
}

Kernel MakeConv(Node& node) {
  const WindowAttributes attributes = WindowAttributes::Read(node);
  const int64_t groups = node.Int("group", 1);
  if (groups < 1) node.Unsupported(StrCat("group of ", groups));
  return [=](const Inputs& in, const RunState&) -> std::vector<at::Tensor> {
    TORCH_CHECK(in[1].dim() == in[0].dim() && in[1].dim() >= 3, "input of rank ", in[0].dim(), " with weight of rank ",
                in[1].dim());
    return {Convolve(in, attributes, groups)};
  };
}

constexpr Operator kOperators[] = {{"Conv", 2, 3, 1, MakeConv}};

}  // namespace

std::span<const Operator> ConvolutionOperators() { return kOperators; }

}  // namespace tandem::interpreter
