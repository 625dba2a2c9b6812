#pragma once
#include "absl/status/status.h"

namespace tandem::training {

// A status that stems from std::bad_alloc or from LibTorch's allocator, said so that a user knows what to lower:
// "out of memory: ...; lower batch or micro_batch, or raise resources.memory" (FailedPrecondition: another attempt does
// not help). Any other status as it is.
absl::Status ExplainOutOfMemory(const absl::Status& status);

}  // namespace tandem::training
