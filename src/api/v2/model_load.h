#pragma once
// The extension model_repository: parameters of load and unload, whatever door they came through.
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "api/service.h"
#include "api/v2/parameters.h"

namespace tandem::api::v2 {

struct LoadParameters {
  std::optional<std::string> config;         // JSON of a ModelConfig
  std::map<std::string, std::string> files;  // "1/model.onnx" -> its bytes
};
// "config", and "file:<version>/<name>" with the bytes themselves, or as base64 where the door carries text only.
// InvalidArgument for other names and for values that are wrong.
absl::Status SetLoadParameter(std::string_view key, const ParameterValue& value, bool base64,
                              LoadParameters* parameters);
// "unload_dependents": a bool. No model depends on another one here, so it changes nothing.
absl::Status CheckUnloadParameter(std::string_view key, const ParameterValue& value);

// Serves the model again as it is, or with what the parameters override; what they say without effect is logged.
absl::Status LoadModel(Models* models, const Caller& caller, std::string_view model, const LoadParameters& parameters);

}  // namespace tandem::api::v2
