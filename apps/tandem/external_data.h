#pragma once
#include <string>

#include "absl/status/statusor.h"

namespace tandem::cli {

// True if the ONNX file seems to keep tensors in files beside it: it holds the key "location" of TensorProto's
// external_data as protobuf encodes it. Reads the file in pieces. A wrong "true" costs a needless join only.
absl::StatusOr<bool> HasExternalData(const std::string& file);

}  // namespace tandem::cli
