#pragma once
// Metrics of jobs and versions are kept as a JSON object of numbers; the wire has them as a map.
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "google/protobuf/map.h"

namespace tandem::daemon {

// Numbers of a JSON object; what is no number, or no object, is left out.
inline void FillMetrics(std::string_view json_text, google::protobuf::Map<std::string, double>* metrics) {
  nlohmann::json json = nlohmann::json::parse(json_text, nullptr, false);
  if (!json.is_object()) return;
  for (const auto& [name, value] : json.items()) {
    if (value.is_number()) (*metrics)[name] = value;
  }
}

}  // namespace tandem::daemon
