#pragma once
// Model files that are not ONNX: told by their first bytes, and a SavedModel out of the archive that it is kept in.
#include <filesystem>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/paced_writer.h"

namespace tandem::engine {

inline constexpr std::string_view kOnnx = "onnx";
inline constexpr std::string_view kSavedModel = "savedmodel";  // TensorFlow's folder, or a tar of it
inline constexpr std::string_view kTflite = "tflite";
inline constexpr std::string_view kFrozenGraph = "pb";  // TensorFlow's GraphDef

// What reads all but ONNX.
inline constexpr std::string_view kTensorFlowEngine = "openvino";

// Of a file or folder, by its first bytes alone: what is none of the others counts as ONNX. NotFound.
absl::StatusOr<std::string_view> FormatOf(const std::filesystem::path& path);

// Unpacks a tar into `folder` as UnpackTar does, at most 10,000 entries, and gives the folder in it that holds
// saved_model.pb: the uppermost one, or the only one there (else InvalidArgument). The archive may be hostile.
absl::StatusOr<std::filesystem::path> UnpackSavedModel(const std::filesystem::path& archive,
                                                       const std::filesystem::path& folder, PacedWriter* pace);

}  // namespace tandem::engine
