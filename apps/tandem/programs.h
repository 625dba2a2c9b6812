#pragma once
// The other executables, which lie beside this one.
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tandem::cli {

// NotFound says where it was looked for.
absl::StatusOr<std::string> ProgramPath(const std::string& name);

// Becomes the program, which keeps this process's id. Returns only if that failed.
absl::Status ExecProgram(const std::string& name, const std::vector<std::string>& arguments);

struct ProgramResult {
  int exit_code = 0;  // 128 + signal if it was killed
  std::string out, err;
};
// Runs it to its end. An exit code other than 0 is no error here.
absl::StatusOr<ProgramResult> RunProgram(const std::string& name, const std::vector<std::string>& arguments);

// What it wrote to stderr, without a leading "error: " or "NAME: " and the line's end; its exit code if it wrote
// nothing.
std::string ErrorText(const ProgramResult& result);

}  // namespace tandem::cli
