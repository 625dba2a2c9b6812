#pragma once
#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"

namespace tandem::cli {

// "32x48" -> height 32, width 48.
absl::StatusOr<std::pair<int32_t, int32_t>> ParseResize(const std::string& text);

}  // namespace tandem::cli
