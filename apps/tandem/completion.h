#pragma once
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tandem/command.h"

namespace tandem::cli {

// A script that the shell reads once; it does not start tandem again. `nodes` as CommandLine::Nodes gives them.
absl::StatusOr<std::string> CompletionScript(const std::string& shell, const std::vector<CompletionNode>& nodes);

}  // namespace tandem::cli
