#pragma once
#include <string>

#include "absl/status/statusor.h"

namespace tandem::cli {

// Text that goes to the server as a person wrote it.
struct TextFile {
  std::string text;
  std::string source;  // its name for messages
};
// At most 1 MiB of UTF-8; path "-" reads stdin.
absl::StatusOr<TextFile> ReadTextFile(const std::string& path);

}  // namespace tandem::cli
