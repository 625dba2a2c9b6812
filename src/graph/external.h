#pragma once
// Tensors whose data stand in files beside the model (what PyTorch writes as model.onnx.data).
#include <filesystem>

#include "absl/status/status.h"

namespace onnx {
class ModelProto;
}

namespace tandem::graph {

bool HasExternalData(const onnx::ModelProto& model);

// Moves all external data into the model. Only regular files in `folder` or below it are read: absolute paths, ".." and
// links that lead out are refused, and each piece must fit its tensor and its file. All is checked before any memory is
// taken.
absl::Status JoinExternalData(const std::filesystem::path& folder, onnx::ModelProto* model);

}  // namespace tandem::graph
