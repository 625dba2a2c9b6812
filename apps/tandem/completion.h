#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "tandem/command.h"

namespace tandem::cli {

// "bash", ...
std::vector<std::string> CompletionShells();

// A script that the shell reads once; it does not start tandem again. `nodes` as CommandLine::Nodes gives them.
absl::StatusOr<std::string> CompletionScript(const std::string& shell, const std::vector<CompletionNode>& nodes);

// Adds the options of a command that another program parses, as they stand in what it prints for --help: each begins an
// indented line with its names ("-f,--file"), after one blank follows what stands for its value, if it takes one.
void AddOptionsOfHelp(std::string_view help, CompletionNode* node);

}  // namespace tandem::cli
