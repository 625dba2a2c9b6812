#pragma once
#include <string>

#include "absl/status/statusor.h"

namespace tandem::isolation {

// The path of tandem-launch, which stands beside this process's executable.
absl::StatusOr<std::string> FindLaunch();

}  // namespace tandem::isolation
