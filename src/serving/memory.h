#pragma once
// Whether one more version fits into memory, and who goes if it does not. Pure.
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "serving/serving.h"

namespace tandem::serving {

// A version that holds memory now.
struct MemoryUser {
  VersionStatus status;
  bool evictable = false;  // lazy, and no request is with it
  int64_t last_used_nanos = 0;
};

// ResourceExhausted when `needed` bytes do not fit beside `users`; the message names them. limit 0 = none.
absl::Status CheckMemory(std::string_view model, int32_t version, int64_t needed, int64_t limit,
                         const std::vector<MemoryUser>& users);

// Indexes into `users` of the evictable ones that must go, the least recently used first, so that `needed` fit; those
// that are being unloaded count as gone. Empty if nobody has to go, or if it would not help.
std::vector<size_t> ChooseEvictions(int64_t needed, int64_t limit, const std::vector<MemoryUser>& users);

}  // namespace tandem::serving
