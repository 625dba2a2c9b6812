#include <ATen/autocast_mode.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/conv3d.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty_like.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>

#include <array>
#include <optional>

#include "base/strings.h"
#include "interpreter/operators.h"
#include "interpreter/window.h"

namespace tandem::interpreter {
namespace {

// One convolution of one run.
struct Call : torch::CustomClassHolder {
  std::vector<int64_t> strides, padding, dilations;
  int64_t groups = 1;
  bool has_bias = false;
  at::ScalarType input_type = at::kFloat, weight_type = at::kFloat;  // before autocast
  Assistant* assistant = nullptr;
};

using Tensors = torch::autograd::variable_list;

// As LibTorch's own, but that the weight's gradient, for which nothing else of the backward pass waits, is offered to
// an assistant. It is computed apart from the input's in any case, so that its bits do not depend on who computes it.
class AssistedConvolution : public torch::autograd::Function<AssistedConvolution> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& input,
                            const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                            const c10::intrusive_ptr<Call>& call) {
    const at::Tensor x = AsAutocastWould(input), w = AsAutocastWould(weight);
    context->save_for_backward({x, w});
    context->saved_data["call"] = c10::IValue::make_capsule(call);
    const std::vector<int64_t> none(call->strides.size(), 0);
    const at::Tensor b = bias ? AsAutocastWould(*bias) : at::Tensor();
    return at::convolution(x, w, b, call->strides, call->padding, call->dilations, false, none, call->groups);
  }

  static Tensors backward(torch::autograd::AutogradContext* context, const Tensors& outputs) {
    const auto call = c10::static_intrusive_pointer_cast<Call>(context->saved_data["call"].toCapsule());
    const Tensors saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &w = saved[1], &dy = outputs[0];
    // What an assistant fills in.
    const auto options = w.options().dtype(call->weight_type);
    at::Tensor dw = at::empty_like(w, options);
    at::Tensor db = call->has_bias ? at::empty({w.size(0)}, options) : at::Tensor();
    const bool taken = call->assistant->Offer([call, x, w, dy, dw, db] {
      const c10::NoGradGuard no_grad;
      const auto [none, weight, bias] = Backward(*call, dy, x, w, {false, true, call->has_bias});
      dw.copy_(weight);
      if (db.defined()) db.copy_(bias);
    });
    at::Tensor dx;
    if (context->needs_input_grad(0)) {
      dx = std::get<0>(Backward(*call, dy, x, w, {true, false, false})).to(call->input_type);
    }
    if (!taken) {
      const auto [none, weight, bias] = Backward(*call, dy, x, w, {false, true, call->has_bias});
      dw = weight.to(call->weight_type);
      if (call->has_bias) db = bias.to(call->weight_type);
    }
    return {dx, dw, db, at::Tensor()};
  }

 private:
  static at::Tensor AsAutocastWould(const at::Tensor& tensor) {
    if (!at::autocast::is_autocast_enabled(at::kCPU)) return tensor;
    return at::autocast::cached_cast(at::autocast::get_autocast_dtype(at::kCPU), tensor, at::kCPU);
  }

  static std::tuple<at::Tensor, at::Tensor, at::Tensor> Backward(const Call& call, const at::Tensor& dy,
                                                                 const at::Tensor& x, const at::Tensor& w,
                                                                 std::array<bool, 3> wanted) {
    const std::vector<int64_t> none(call.strides.size(), 0);
    at::OptionalIntArrayRef bias_sizes;
    const std::array<int64_t, 1> channels = {w.size(0)};
    if (call.has_bias) bias_sizes = channels;
    return at::convolution_backward(dy, x, w, bias_sizes, call.strides, call.padding, call.dilations, false, none,
                                    call.groups, wanted);
  }
};

struct Geometry {
  WindowAttributes attributes;
  int64_t groups;
  bool owns_weights;  // weight and bias are initialisers that no other node reads
};

// Who sums gradients of a shared weight reads them at once: those cannot be left to an assistant.
bool MayBeAssisted(const Inputs& in, const Geometry& geometry, const RunState& state) {
  if (state.options.assistant == nullptr || !geometry.owns_weights || !c10::GradMode::is_enabled()) return false;
  auto is_leaf = [](const at::Tensor& tensor) { return tensor.is_leaf() && tensor.requires_grad(); };
  return is_leaf(in[1]) && (!in.Has(2) || is_leaf(in[2]));
}

at::Tensor Convolve(const Inputs& in, const Geometry& geometry, const RunState& state) {
  const WindowAttributes& attributes = geometry.attributes;
  const at::Tensor& weight = in[1];
  const std::vector<int64_t> kernel(weight.sizes().begin() + 2, weight.sizes().end());
  TORCH_CHECK(attributes.kernel.empty() || attributes.kernel == kernel, "kernel_shape is not the weight's, which is ",
              weight.sizes());
  const Window window = PlaceWindow(attributes, kernel, in[0]);
  const std::vector<int64_t> none(kernel.size(), 0);
  const at::Tensor x = window.Symmetric() ? in[0] : PadSpatial(in[0], window.begin, window.end, 0);
  const std::vector<int64_t>& padding = window.Symmetric() ? window.begin : none;
  const int64_t groups = geometry.groups;
  if (MayBeAssisted(in, geometry, state)) {
    auto call = c10::make_intrusive<Call>();
    call->strides = window.strides;
    call->padding = padding;
    call->dilations = window.dilations;
    call->groups = groups;
    call->has_bias = in.Has(2);
    call->input_type = x.scalar_type();
    call->weight_type = weight.scalar_type();
    call->assistant = state.options.assistant;
    return AssistedConvolution::apply(x, weight, in.Has(2) ? std::optional(in[2]) : std::nullopt, call);
  }
  // Not at::convolution, which autocast does not know.
  if (kernel.size() == 1) return at::conv1d(x, weight, in.Get(2), window.strides, padding, window.dilations, groups);
  if (kernel.size() == 2) return at::conv2d(x, weight, in.Get(2), window.strides, padding, window.dilations, groups);
  return at::conv3d(x, weight, in.Get(2), window.strides, padding, window.dilations, groups);
}

Kernel MakeConv(Node& node) {
  const Geometry geometry{.attributes = WindowAttributes::Read(node),
                          .groups = node.Int("group", 1),
                          .owns_weights = node.Owns(1) && (node.context().own.size() < 3 || node.Owns(2))};
  if (geometry.groups < 1) node.Unsupported(StrCat("group of ", geometry.groups));
  return [=](const Inputs& in, const RunState& state) -> std::vector<at::Tensor> {
    TORCH_CHECK(in[1].dim() == in[0].dim() && in[1].dim() >= 3, "input of rank ", in[0].dim(), " with weight of rank ",
                in[1].dim());
    return {Convolve(in, geometry, state)};
  };
}

constexpr Operator kOperators[] = {{"Conv", 2, 3, 1, MakeConv}};

}  // namespace

std::span<const Operator> ConvolutionOperators() { return kOperators; }

}  // namespace tandem::interpreter
