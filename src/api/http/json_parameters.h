#pragma once
// Objects of plain values in JSON, as all doors read them: parameters, log settings, descriptions of regions.
#include <functional>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "api/v2/parameters.h"
#include "base/status.h"
#include "simdjson.h"

namespace tandem::api::http {

// InvalidArgument for anything but a text, a number, true or false.
absl::StatusOr<v2::ParameterValue> ReadParameter(std::string_view key, simdjson::dom::element value);

// Calls set(key, value) for each entry, until it gives an error.
template <typename Set>
absl::Status ForEachParameter(simdjson::dom::object parameters, const Set& set) {
  for (auto [key, element] : parameters) {
    TANDEM_ASSIGN_OR_RETURN(v2::ParameterValue value, ReadParameter(key, element));
    TANDEM_RETURN_IF_ERROR(set(key, value));
  }
  return absl::OkStatus();
}

using SetParameter = std::function<absl::Status(std::string_view key, const v2::ParameterValue& value)>;
// For bodies of control requests, which are a JSON object or empty: its own entries, or those of its field
// `parameters`, beside which nothing else has a meaning.
absl::Status ForEachInBody(std::string_view body, const SetParameter& set);
absl::Status ForEachParameterInBody(std::string_view body, const SetParameter& set);

}  // namespace tandem::api::http
