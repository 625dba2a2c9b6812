#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/tensor.h>
#include <c10/util/Exception.h>

#include "base/strings.h"
#include "graph/graph.h"
#include "interpreter/operators.h"
#include "interpreter/values.h"
#include "onnx-ml.pb.h"

namespace tandem::interpreter {
namespace {

Kernel Always(at::Tensor value) {
  return [value](const Inputs&, const RunState&) -> std::vector<at::Tensor> { return {value}; };
}

// An attribute that holds a tensor; undefined, with the problem noted, if it cannot be had.
at::Tensor TensorAttribute(Node& node, const onnx::AttributeProto& attribute) {
  absl::StatusOr<Tensor> tensor = graph::ToTensor(attribute.t());
  if (!tensor.ok()) {
    node.Unsupported(MessageOf(tensor.status()));
    return {};
  }
  const auto type = ToScalarType(tensor->dtype, node.context().float_type);
  if (!type) {
    node.Unsupported(StrCat("a constant of type ", ProtocolName(tensor->dtype)));
    return {};
  }
  return CopyToTensor(tensor->dtype, tensor->shape, tensor->bytes()).to(*type);
}

Kernel MakeConstant(Node& node) {
  const at::ScalarType type = node.context().float_type;
  if (const auto* value = node.Find("value")) return Always(TensorAttribute(node, *value));
  if (const auto* value = node.Find("value_float")) return Always(at::scalar_tensor(value->f(), type));
  if (const auto* value = node.Find("value_int")) return Always(at::scalar_tensor(value->i(), at::kLong));
  if (const auto* value = node.Find("value_ints")) {
    return Always(FromInts({value->ints().begin(), value->ints().end()}));
  }
  if (const auto* value = node.Find("value_floats")) {
    return Always(at::tensor(std::vector<float>(value->floats().begin(), value->floats().end())).to(type));
  }
  node.Unsupported("a constant that is no dense tensor of numbers");
  return Always({});
}

Kernel MakeConstantOfShape(Node& node) {
  at::Tensor value = at::scalar_tensor(0, node.context().float_type);
  if (const auto* attribute = node.Find("value")) value = TensorAttribute(node, *attribute);
  if (value.defined() && value.numel() != 1) node.Unsupported("value has more than one element");
  // An expanded view: takes no memory, whatever the file asks for.
  return [value](const Inputs& in, const RunState&) -> std::vector<at::Tensor> {
    return {value.reshape({}).expand(ToInts(in[0]))};
  };
}

Kernel MakeCast(Node& node) {
  const auto to = ToScalarType(static_cast<DType>(node.Int("to", 0)), node.context().float_type);
  node.Int("saturate", 1);  // for 8-bit floats only
  if (!to) node.Unsupported(StrCat("to = ", node.Int("to", 0)));
  const at::ScalarType type = to.value_or(at::kFloat);
  return [type](const Inputs& in, const RunState&) -> std::vector<at::Tensor> { return {in[0].to(type)}; };
}

Kernel MakeCastLike(Node& node) {
  node.Int("saturate", 1);
  return [](const Inputs& in, const RunState&) -> std::vector<at::Tensor> { return {in[0].to(in[1].scalar_type())}; };
}

constexpr Operator kOperators[] = {
    {"Cast", 1, 1, 1, MakeCast},
    {"CastLike", 2, 2, 1, MakeCastLike},
    {"Constant", 0, 0, 1, MakeConstant},
    {"ConstantOfShape", 1, 1, 1, MakeConstantOfShape},
};

}  // namespace

std::span<const Operator> ConstantOperators() { return kOperators; }

}  // namespace tandem::interpreter
