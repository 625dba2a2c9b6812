#pragma once
// The scheduling class of one thread.
#include <sys/types.h>

#include "absl/status/status.h"

namespace tandem::isolation {

// SCHED_FIFO; threads and processes that it makes are normal. PermissionDenied without the right.
absl::Status EnterRealtime(pid_t tid, int priority);
// SCHED_OTHER; what it makes stays normal too.
absl::Status LeaveRealtime(pid_t tid);

}  // namespace tandem::isolation
