#pragma once
#include <string>

#include "absl/status/statusor.h"
#include "client/client.h"

namespace tandem::cli {

struct UsageOptions {
  double days = 0;       // 0 = not given
  std::string from, to;  // "2026-11-21", both included
  std::string by = "name", side, kind;
};
// Usage error where the options contradict each other. Days are those of UTC, as they are accounted.
absl::StatusOr<client::UsageQuery> MakeUsageQuery(const UsageOptions& options, double now_unix_ms);

}  // namespace tandem::cli
