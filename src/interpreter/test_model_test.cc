// The definitions of test_model.h, which belong to the test program alone.
#include "interpreter/test_model.h"

#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

namespace tandem::interpreter {
namespace {

int64_t Count(const Shape& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

void Describe(onnx::ValueInfoProto* value, const std::string& name, DType dtype) {
  value->set_name(name);
  value->mutable_type()->mutable_tensor_type()->set_elem_type(static_cast<int32_t>(dtype));
}

}  // namespace

TestModel::TestModel(int64_t opset) {
  model_.set_ir_version(8);
  model_.add_opset_import()->set_version(opset);
  model_.mutable_graph()->set_name("test");
}

TestModel& TestModel::Input(const std::string& name, const Shape& shape, DType dtype) {
  auto* input = model_.mutable_graph()->add_input();
  Describe(input, name, dtype);
  auto* dims = input->mutable_type()->mutable_tensor_type()->mutable_shape();
  for (const int64_t size : shape) {
    auto* dim = dims->add_dim();
    if (size >= 0) {
      dim->set_dim_value(size);
    } else {
      dim->set_dim_param("N");
    }
  }
  return *this;
}

TestModel& TestModel::Output(const std::string& name, DType dtype) {
  Describe(model_.mutable_graph()->add_output(), name, dtype);
  return *this;
}

TestModel& TestModel::Floats(const std::string& name, const Shape& shape, const std::vector<float>& values) {
  auto* tensor = model_.mutable_graph()->add_initializer();
  tensor->set_name(name);
  tensor->set_data_type(onnx::TensorProto::FLOAT);
  for (const int64_t size : shape) tensor->add_dims(size);
  tensor->set_raw_data(values.data(), values.size() * sizeof(float));
  return *this;
}

TestModel& TestModel::Ints(const std::string& name, const Shape& shape, const std::vector<int64_t>& values) {
  auto* tensor = model_.mutable_graph()->add_initializer();
  tensor->set_name(name);
  tensor->set_data_type(onnx::TensorProto::INT64);
  for (const int64_t size : shape) tensor->add_dims(size);
  tensor->set_raw_data(values.data(), values.size() * sizeof(int64_t));
  return *this;
}

onnx::NodeProto& TestModel::Node(std::string_view op, const std::vector<std::string>& inputs,
                                 const std::vector<std::string>& outputs) {
  auto* node = model_.mutable_graph()->add_node();
  node->set_op_type(std::string(op));
  node->set_name(std::string(op) + std::to_string(model_.graph().node_size()));
  for (const auto& input : inputs) node->add_input(input);
  for (const auto& output : outputs) node->add_output(output);
  return *node;
}

graph::Graph TestModel::Build() const {
  auto graph = graph::Graph::Parse(model_.SerializeAsString(), "test");
  if (!graph.ok()) throw std::runtime_error(graph.status().ToString());
  return std::move(graph).value();
}

onnx::NodeProto& Set(onnx::NodeProto& node, const std::string& name, int64_t value) {
  auto* attribute = node.add_attribute();
  attribute->set_name(name);
  attribute->set_type(onnx::AttributeProto::INT);
  attribute->set_i(value);
  return node;
}

onnx::NodeProto& Set(onnx::NodeProto& node, const std::string& name, const std::vector<int64_t>& values) {
  auto* attribute = node.add_attribute();
  attribute->set_name(name);
  attribute->set_type(onnx::AttributeProto::INTS);
  for (const int64_t value : values) attribute->add_ints(value);
  return node;
}

onnx::NodeProto& SetFloat(onnx::NodeProto& node, const std::string& name, float value) {
  auto* attribute = node.add_attribute();
  attribute->set_name(name);
  attribute->set_type(onnx::AttributeProto::FLOAT);
  attribute->set_f(value);
  return node;
}

onnx::NodeProto& SetText(onnx::NodeProto& node, const std::string& name, const std::string& value) {
  auto* attribute = node.add_attribute();
  attribute->set_name(name);
  attribute->set_type(onnx::AttributeProto::STRING);
  attribute->set_s(value);
  return node;
}

std::vector<float> Numbers(int64_t count, double low, double high, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> numbers(static_cast<size_t>(count));
  for (float& number : numbers) number = static_cast<float>(low + (high - low) * (random() / 4294967296.0));
  return numbers;
}

at::Tensor FromFloats(const Shape& shape, const std::vector<float>& values) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  std::copy(values.begin(), values.end(), tensor.mutable_data_ptr<float>());
  return tensor;
}

at::Tensor NumberTensor(const Shape& shape, at::ScalarType type, double low, double high, uint32_t seed) {
  return FromFloats(shape, Numbers(Count(shape), low, high, seed)).to(type);
}

std::vector<float> ToFloats(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.detach().to(at::kFloat).contiguous();
  return {flat.const_data_ptr<float>(), flat.const_data_ptr<float>() + flat.numel()};
}

}  // namespace tandem::interpreter
