#pragma once
// A ModelConfig as the clients and repositories of Triton know it, read as tandem's own.
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "spec/document.h"
#include "spec/model_config.h"

namespace tandem::api::v2 {

struct TranslatedConfig {
  spec::ModelConfig config;
  // What the document says of its model, "" where it does not.
  std::string name, platform, backend, default_model_filename;
  std::map<std::string, std::string> label_files;  // output -> name of a file beside the document
  // Keys that have no effect here, as paths ("optimization", "instance_group.0.kind"), for a warning. What would change
  // answers is an error instead.
  std::vector<std::string> ignored;
};

// `root` has the fields of the message inference.ModelConfig by their names in the .proto; repeated fields are lists (a
// single one may stand alone), enums are names. Inputs and outputs are those of the model's file, whatever stands here.
// A parameter "tandem.KEY" sets a key of spec::ModelConfig, after all others. Pure. InvalidArgument with the position
// for wrong values, and for what cannot be served: ensembles and decoupled models.
absl::StatusOr<TranslatedConfig> TranslateModelConfig(const spec::Node& root);

// The same from the message's JSON. `source` begins each position.
absl::StatusOr<TranslatedConfig> TranslateModelConfigJson(std::string_view json, std::string_view source);

}  // namespace tandem::api::v2
