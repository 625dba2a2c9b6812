#pragma once
// Writes ONNX graphs of ordinary layers, with seeded initial weights.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/tensor.h"
#include "onnx-ml.pb.h"

namespace tandem::graph {

// A value inside the graph: name and shape without the batch dimension.
struct Value {
  std::string name;
  Shape shape;
};

// Each method adds nodes named after `name` ("stage1.block1.conv1") and initialisers ("<name>.weight"), and returns the
// value they make. The first error is kept and given by Finish. Thread-compatible.
class ModelBuilder {
 public:
  ModelBuilder(std::string_view graph_name, uint64_t seed);

  // The input, batch dimension "N", and normalisation to (x - 0.5) / 0.25, which takes 0..1 to -2..2: near mean 0 and
  // variance 1 for photographs, whatever the data set. The constants are initialisers of Sub and Div, not trainable.
  Value Input(const Shape& shape);
  Value Convolve(const std::string& name, const Value& x, int64_t channels, int64_t kernel, int64_t stride, int64_t pad,
                 bool bias);
  Value Normalise(const std::string& name, const Value& x);  // BatchNormalization: 1, 0, mean 0, variance 1
  Value Relu(const std::string& name, const Value& x);
  Value Add(const std::string& name, const Value& a, const Value& b);
  Value MaxPool(const std::string& name, const Value& x, int64_t kernel, int64_t stride, int64_t pad);
  Value GlobalAveragePool(const std::string& name, const Value& x);
  Value Flatten(const std::string& name, const Value& x);
  // x * weight^T + bias. `relu_follows`: He initialisation, else variance 1 / features for the last layer.
  Value Linear(const std::string& name, const Value& x, int64_t features, bool relu_follows);

  // Ends the graph with `logits` as the output "logits" and returns the file.
  absl::StatusOr<std::string> Finish(const Value& logits);

 private:
  onnx::NodeProto* AddNode(const std::string& name, std::string_view op, std::vector<std::string> inputs);
  // Uniform in +-sqrt(3 * variance): the same bits on every machine, which a normal distribution's logarithm is not.
  void AddRandom(const std::string& name, const Shape& shape, double variance);
  void AddConstant(const std::string& name, const Shape& shape, float value);
  onnx::TensorProto* AddInitializer(const std::string& name, const Shape& shape, int64_t* elements);

  uint64_t seed_;
  int64_t bytes_ = 0;  // of all initialisers
  absl::Status status_;
  onnx::ModelProto model_;
};

}  // namespace tandem::graph
