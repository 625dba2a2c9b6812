#pragma once
// Small ONNX graphs for tests.
#include <ATen/core/Tensor.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/tensor.h"
#include "graph/graph.h"
#include "onnx-ml.pb.h"

namespace tandem::interpreter {

// Collects nodes and initialisers, then parses them as graph::Graph does a file. Thread-compatible.
class TestModel {
 public:
  explicit TestModel(int64_t opset = 17);
  TestModel& Input(const std::string& name, const Shape& shape, DType dtype = DType::kFloat32);
  TestModel& Output(const std::string& name, DType dtype = DType::kFloat32);
  TestModel& Floats(const std::string& name, const Shape& shape, const std::vector<float>& values);
  TestModel& Ints(const std::string& name, const Shape& shape, const std::vector<int64_t>& values);
  // The node stays valid until the next call.
  onnx::NodeProto& Node(std::string_view op, const std::vector<std::string>& inputs,
                        const std::vector<std::string>& outputs);
  graph::Graph Build() const;

 private:
  onnx::ModelProto model_;
};

onnx::NodeProto& Set(onnx::NodeProto& node, const std::string& name, int64_t value);
onnx::NodeProto& Set(onnx::NodeProto& node, const std::string& name, const std::vector<int64_t>& values);
onnx::NodeProto& SetFloat(onnx::NodeProto& node, const std::string& name, float value);
onnx::NodeProto& SetText(onnx::NodeProto& node, const std::string& name, const std::string& value);

// Numbers between low and high, always the same for the same count and seed.
std::vector<float> Numbers(int64_t count, double low = -1, double high = 1, uint32_t seed = 1);
at::Tensor NumberTensor(const Shape& shape, at::ScalarType type = at::kFloat, double low = -1, double high = 1,
                        uint32_t seed = 1);
at::Tensor FromFloats(const Shape& shape, const std::vector<float>& values);
std::vector<float> ToFloats(const at::Tensor& tensor);

}  // namespace tandem::interpreter
