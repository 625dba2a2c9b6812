#pragma once
// Whether a model is one that tandem can work with. Messages name the node or value, not the file.
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/tensor.h"

namespace onnx {
class ModelProto;
class ValueInfoProto;
}  // namespace onnx

namespace tandem::graph {

// Checks versions, nodes, names, order and tensors; returns the opset of the default domain.
absl::StatusOr<int64_t> CheckModel(const onnx::ModelProto& model);

// A graph input or output as a signature; symbolic and unknown dimensions are -1, an unknown rank gives an empty shape.
absl::StatusOr<TensorSignature> SignatureOf(const onnx::ValueInfoProto& value);

}  // namespace tandem::graph
