#pragma once
// Small models for the tests of this module.
#include <string>
#include <vector>

#include "graph/graph.h"
#include "onnx-ml.pb.h"

namespace tandem::graph {

inline onnx::ValueInfoProto FloatValue(const std::string& name, const Shape& shape) {
  onnx::ValueInfoProto value;
  value.set_name(name);
  auto* type = value.mutable_type()->mutable_tensor_type();
  type->set_elem_type(onnx::TensorProto::FLOAT);
  type->mutable_shape();
  for (int64_t dim : shape) {
    auto* added = type->mutable_shape()->add_dim();
    if (dim >= 0) added->set_dim_value(dim);
  }
  return value;
}

// An otherwise empty model with input "x" of this shape and output "y".
inline onnx::ModelProto EmptyModel(const Shape& input) {
  onnx::ModelProto model;
  model.set_ir_version(8);
  model.add_opset_import()->set_version(17);
  model.mutable_graph()->set_name("test");
  *model.mutable_graph()->add_input() = FloatValue("x", input);
  *model.mutable_graph()->add_output() = FloatValue("y", {-1});
  return model;
}

inline onnx::NodeProto* AddNode(onnx::ModelProto* model, const std::string& op, const std::vector<std::string>& inputs,
                                const std::vector<std::string>& outputs) {
  onnx::NodeProto* node = model->mutable_graph()->add_node();
  node->set_name(outputs.empty() ? op : op + "_" + outputs[0]);
  node->set_op_type(op);
  for (const std::string& input : inputs) node->add_input(input);
  for (const std::string& output : outputs) node->add_output(output);
  return node;
}

inline onnx::TensorProto* AddFloats(onnx::ModelProto* model, const std::string& name, const Shape& shape,
                                    float value = 1.0f) {
  onnx::TensorProto* tensor = model->mutable_graph()->add_initializer();
  tensor->set_name(name);
  tensor->set_data_type(onnx::TensorProto::FLOAT);
  for (int64_t dim : shape) tensor->add_dims(dim);
  const std::vector<float> values(static_cast<size_t>(*ElementCount(shape)), value);
  tensor->set_raw_data(values.data(), values.size() * sizeof(float));
  return tensor;
}

inline onnx::TensorProto* AddInts(onnx::ModelProto* model, const std::string& name,
                                  const std::vector<int64_t>& values) {
  onnx::TensorProto* tensor = model->mutable_graph()->add_initializer();
  tensor->set_name(name);
  tensor->set_data_type(onnx::TensorProto::INT64);
  tensor->add_dims(static_cast<int64_t>(values.size()));
  for (int64_t value : values) tensor->add_int64_data(value);
  return tensor;
}

inline absl::StatusOr<Graph> ParseModel(const onnx::ModelProto& model) {
  return Graph::Parse(model.SerializeAsString(), "test.onnx");
}

// x [N,4,8,8] -> Conv w -> BatchNormalization -> Relu -> y, with distinct initialisers.
inline onnx::ModelProto ConvNormModel() {
  onnx::ModelProto model = EmptyModel({-1, 4, 8, 8});
  AddFloats(&model, "w", {4, 4, 1, 1});
  AddFloats(&model, "gamma", {4});
  AddFloats(&model, "beta", {4}, 0.0f);
  AddFloats(&model, "mean", {4}, 0.0f);
  AddFloats(&model, "var", {4});
  AddNode(&model, "Conv", {"x", "w"}, {"c"});
  AddNode(&model, "BatchNormalization", {"c", "gamma", "beta", "mean", "var"}, {"n"});
  AddNode(&model, "Relu", {"n"}, {"y"});
  return model;
}

}  // namespace tandem::graph
