#pragma once
// A repository's config.pbtxt: a ModelConfig in protobuf's text format.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "api/v2/model_config.h"
#include "base/tensor.h"

namespace tandem::api::v2 {

// What the document says of an input or output.
struct DeclaredTensor {
  std::string path;  // "input.0", for messages
  std::string where;
  std::string name;
  DType dtype = DType::kInvalid;  // kInvalid: not said
  bool has_dims = false;
  Shape dims;  // -1 = any; without the batch's dimension when max_batch_size > 0
};

struct PbtxtConfig {
  TranslatedConfig translated;
  std::vector<DeclaredTensor> inputs, outputs;
  std::string max_batch_size_where;
  // One for each key without effect, with its position: "config.pbtxt:12:3: optimization".
  std::vector<std::string> ignored;
};

// As TranslateModelConfig. Pure. InvalidArgument with file, line and column.
absl::StatusOr<PbtxtConfig> TranslateModelConfigText(std::string_view text, std::string_view source);

// InvalidArgument if the document contradicts the model's own signature: names, types, dimensions. The message names
// the field and both sides.
absl::Status CheckAgainstModel(const PbtxtConfig& config, const std::vector<TensorSignature>& inputs,
                               const std::vector<TensorSignature>& outputs);

}  // namespace tandem::api::v2
