#pragma once
// The data of a TensorProto, whichever of its fields they stand in.
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/tensor.h"

namespace onnx {
class GraphProto;
class TensorProto;
}  // namespace onnx

namespace tandem::graph {

// Type and shape, known and sane: no negative dimension, and data of at most 2 GB.
absl::StatusOr<TensorSignature> CheckedSignature(const onnx::TensorProto& proto);

// CheckedSignature, and data inside the message that are just as large as the shape says.
absl::Status CheckTensor(const onnx::TensorProto& proto);

// The data as little-endian, row-major bytes; strings as DType::kString says. REQUIRES: CheckTensor(proto).
std::string DataBytes(const onnx::TensorProto& proto);

// All tensors of a graph: initialisers and those in attributes, each with a label for messages.
struct LabelledTensor {
  std::string label;
  onnx::TensorProto* tensor;
};
std::vector<LabelledTensor> AllTensors(onnx::GraphProto* graph);

}  // namespace tandem::graph
