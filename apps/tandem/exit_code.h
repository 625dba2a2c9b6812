#pragma once
// How each command ends: the documented exit codes, and which error gives which.
#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "base/status.h"

namespace tandem::cli {

enum class Exit : int {
  kOk = 0,
  kFailed = 1,
  kUsage = 2,        // the command line is wrong; nothing was done
  kUnreachable = 3,  // no server, or no answer in time
  kNotFound = 4,
  kRefused = 5,    // conflict, in use, not allowed, busy
  kJobFailed = 6,  // the job that was followed failed, timed out or was cancelled
};

// An error of the command line itself.
template <typename... Args>
absl::Status Usage(const Args&... args) {
  absl::Status status = InvalidArgument(args...);
  status.SetPayload("tandem/usage", absl::Cord("1"));
  return status;
}

Exit ExitOf(const absl::Status& status);

}  // namespace tandem::cli
