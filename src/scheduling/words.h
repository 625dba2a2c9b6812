#pragma once
// Numbers as reasons say them. Internal to the policies.
#include <string>

#include "absl/strings/str_format.h"

namespace tandem::scheduling {

// 0.3 -> "30 %".
inline std::string Percent(double part) { return absl::StrFormat("%.3g %%", part * 100); }
// 7.21 -> "7.2".
inline std::string Short(double value) {
  return value < 10 ? absl::StrFormat("%.2g", value) : absl::StrFormat("%.0f", value);
}

}  // namespace tandem::scheduling
