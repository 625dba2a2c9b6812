#pragma once
// A model file from outside, on its way into the artifact store.
#include <filesystem>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/tensor.h"
#include "daemon/children.h"
#include "daemon/paths.h"

namespace tandem::daemon {

// A complete file in the run folder. Whoever holds it last either moves it elsewhere or removes it.
struct JoinedModel {
  std::filesystem::path file;
  std::string format;  // engine/model_file.h
  std::vector<TensorSignature> inputs, outputs;
};

// Checks a file in a child, where a crash costs nothing here. An ONNX file's data files are joined into it;
// TensorFlow's files are copied, and a folder with a SavedModel becomes a tar; ONNX with operators of other domains
// (ai.onnx.ml) is copied if an engine reads it. InvalidArgument with what is wrong with
// the file, which the message names first.
absl::StatusOr<JoinedModel> JoinModel(Children* children, const Paths& paths, const std::filesystem::path& file);

}  // namespace tandem::daemon
