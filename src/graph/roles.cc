#include "graph/roles.h"

#include <algorithm>
#include <array>

#include "base/status.h"
#include "onnx-ml.pb.h"

namespace tandem::graph {
namespace {

template <size_t kN>
bool IsOneOf(std::string_view op, const std::array<std::string_view, kN>& ops) {
  return std::find(ops.begin(), ops.end(), op) != ops.end();
}

// Their first input comes out with the same elements, in another order, shape or type.
constexpr std::array<std::string_view, 10> kPassThrough = {"Identity", "Transpose", "Reshape",  "Squeeze", "Unsqueeze",
                                                           "Flatten",  "Cast",      "CastLike", "Expand",  "Dropout"};

// What may stand between the input and the first layer: on such values arithmetic with constants is normalisation.
constexpr std::array<std::string_view, 17> kPreprocessing = {
    "Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast", "CastLike", "Expand",
    "Dropout",  "Add",       "Sub",     "Mul",     "Div",       "Clip",    "Pad",  "Concat"};

// They read no more than the shape of their inputs, or make values from nothing.
constexpr std::array<std::string_view, 5> kShapeReaders = {"Shape", "Size", "ConstantOfShape", "Range", "Constant"};

struct WeightSlots {
  std::string_view op;
  int first, last;
};
constexpr WeightSlots kWeightSlots[] = {
    {"Conv", 1, 2},
    {"ConvTranspose", 1, 2},
    {"Gemm", 0, 2},
    {"MatMul", 0, 1},
    {"BatchNormalization", 1, 2},
    {"LayerNormalization", 1, 2},
    {"InstanceNormalization", 1, 2},
    {"GroupNormalization", 1, 2},
    {"PRelu", 1, 1},
    {"Gather", 0, 0},
    {"Einsum", 0, 1},
    {"RNN", 1, 3},
    {"GRU", 1, 3},
    {"LSTM", 1, 3},
};

constexpr std::array<std::string_view, 3> kLinear = {"MatMul", "Conv", "ConvTranspose"};

bool PassesThrough(const onnx::NodeProto& node, int slot) {
  return slot == 0 && node.output_size() > 0 && IsOneOf(node.op_type(), kPassThrough);
}

}  // namespace

bool IsFloat(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kFloat64 || dtype == DType::kFloat16 || dtype == DType::kBFloat16;
}

Roles::Roles(const onnx::GraphProto& graph) {
  FindSources(graph);
  by_input_.resize(graph.node_size());
  // Readers come after what they read, so that a value's role is known when its maker is reached from behind.
  for (int i = graph.node_size() - 1; i >= 0; --i) {
    const onnx::NodeProto& node = graph.node(i);
    for (int slot = 0; slot < node.input_size(); ++slot) {
      const Role role = PassesThrough(node, slot) ? OfValue(node.output(0)) : DirectRole(node, slot);
      by_input_[i].push_back(role);
      Role& of_value = by_value_.try_emplace(node.input(slot), Role::kShape).first->second;
      of_value = std::max(of_value, role);
    }
  }
}

Role Roles::OfValue(std::string_view value) const {
  const auto found = by_value_.find(value);
  return found == by_value_.end() ? Role::kShape : found->second;
}

const Roles::Source& Roles::SourceOf(std::string_view value) const {
  static const Source kUnknown;
  const auto found = sources_.find(value);
  return found == sources_.end() ? kUnknown : found->second;
}

void Roles::FindSources(const onnx::GraphProto& graph) {
  for (const onnx::ValueInfoProto& input : graph.input()) sources_[input.name()] = {Origin::kRawInput};
  for (const onnx::TensorProto& tensor : graph.initializer()) {
    Shape& shape = initializer_shapes_[tensor.name()];
    shape.assign(tensor.dims().begin(), tensor.dims().end());
    sources_[tensor.name()] = {Origin::kConstant, &shape};
  }
  for (const onnx::NodeProto& node : graph.node()) {
    Source source{OriginOf(node), nullptr, &node};
    if (node.input_size() > 0 && PassesThrough(node, 0)) source.initializer = SourceOf(node.input(0)).initializer;
    for (const std::string& output : node.output()) sources_[output] = source;
  }
}

Roles::Origin Roles::OriginOf(const onnx::NodeProto& node) const {
  if (IsOneOf(node.op_type(), kShapeReaders)) return Origin::kConstant;
  Origin highest = Origin::kConstant;
  for (const std::string& input : node.input()) {
    if (!input.empty()) highest = std::max(highest, SourceOf(input).origin);
  }
  if (highest == Origin::kRawInput && !IsOneOf(node.op_type(), kPreprocessing)) return Origin::kActivation;
  return highest;
}

Role Roles::DirectRole(const onnx::NodeProto& node, int slot) const {
  const std::string& op = node.op_type();
  if (IsOneOf(op, kShapeReaders) || (op == "CastLike" && slot == 1)) return Role::kShape;
  if (op == "BatchNormalization" && (slot == 3 || slot == 4)) return Role::kStatistic;
  if (op == "Add" || op == "Mul" || op == "Sum") return AddendRole(node, slot);
  for (const WeightSlots& row : kWeightSlots) {
    if (row.op == op && slot >= row.first && slot <= row.last) return Role::kWeight;
  }
  return Role::kConstant;
}

// Biases and scales have an element per channel. A single number is an epsilon or a factor, unless it is the bias of a
// layer with one output; and on the raw input it is normalisation.
Role Roles::AddendRole(const onnx::NodeProto& node, int slot) const {
  const Shape* shape = SourceOf(node.input(slot)).initializer;
  if (shape == nullptr) return Role::kConstant;
  bool on_activation = false;
  bool behind_linear = false;
  for (int other = 0; other < node.input_size(); ++other) {
    const Source& source = SourceOf(node.input(other));
    if (other == slot || source.origin != Origin::kActivation) continue;
    on_activation = true;
    behind_linear = behind_linear || (source.maker != nullptr && IsOneOf(source.maker->op_type(), kLinear));
  }
  if (!on_activation || shape->empty()) return Role::kConstant;
  const bool single = ElementCount(*shape).value_or(0) <= 1;
  return !single || (behind_linear && node.op_type() != "Mul") ? Role::kWeight : Role::kConstant;
}

}  // namespace tandem::graph
