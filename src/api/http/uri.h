#pragma once
// Percent-encoding and query strings (RFC 3986).
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace tandem::api::http {

// Replaces `out` by the decoded text; false when a '%' is not followed by two hex digits. '+' stays '+'.
bool PercentDecode(std::string_view text, std::string* out);

// The value of `key` in "a=1&b=2", decoded ('+' is a space); "" when it is missing or has no value.
absl::StatusOr<std::string> QueryText(std::string_view query, std::string_view key);
// The same as a whole number; `missing` when it is not there.
absl::StatusOr<int64_t> QueryInt(std::string_view query, std::string_view key, int64_t missing);
// The same as a number of seconds, 0 or more.
absl::StatusOr<double> QuerySeconds(std::string_view query, std::string_view key, double missing);

}  // namespace tandem::api::http
