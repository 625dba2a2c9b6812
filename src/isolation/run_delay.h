#pragma once
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "isolation/isolation.h"

namespace tandem::isolation {

// Starts `busy` children in `group` that compute for about `ms`, and beside them a thread that calls `enter` first and
// then sleeps 1 ms and wakes, over and over. Blocks.
absl::StatusOr<RunDelay> MeasureBeside(ResourceGroup* group, int busy, int ms, const std::function<void()>& enter);

// Quantiles (the smallest value that is not below the share q of all) of waits in nanoseconds.
RunDelay Summarize(std::vector<int64_t> delay_nanos, int busy);

}  // namespace tandem::isolation
