#pragma once
// How a model of the repository is served: its config.pbtxt with the labels that it names.
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "api/v2/config_pbtxt.h"
#include "daemon/repository_folder.h"
#include "spec/model_config.h"

namespace tandem::daemon {

struct FolderConfig {
  // With the labels, the engine, and the version policy: latest 1 where the document gives none.
  spec::ModelConfig config;
  api::v2::PbtxtConfig document;      // empty if there is no config.pbtxt
  std::vector<std::string> warnings;  // what has no effect, with lines
};

// InvalidArgument with file and line for what is wrong or cannot be served. `has_engine` says which plug-ins are here.
absl::StatusOr<FolderConfig> ReadFolderConfig(const ModelFolder& folder,
                                              const std::function<bool(std::string_view)>& has_engine);

}  // namespace tandem::daemon
