#pragma once
// Whether an ONNX file can be read, trained and served, asked from the programs that do these things.
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"
#include "tandem/terminal.h"

namespace tandem::cli {

struct PlaceCheck {
  std::string place;  // "graph", "trainer", or an engine's name
  bool ok = false;
  std::vector<std::string> missing;  // operators
  std::string error;
};

// Graph first; when that is bad, nothing else is asked.
absl::StatusOr<std::vector<PlaceCheck>> CheckModelFile(const std::string& file);

// The operators of `used` that `known` lacks.
std::vector<std::string> Missing(const std::vector<std::string>& used, const std::vector<std::string>& known);

nlohmann::json ToJson(const std::vector<PlaceCheck>& checks);
std::string ToText(const std::vector<PlaceCheck>& checks, const Style& style);

}  // namespace tandem::cli
