#include "isolation/scheduling_class.h"

#include <errno.h>
#include <sched.h>

#include "base/fd.h"

namespace tandem::isolation {

absl::Status EnterRealtime(pid_t tid, int priority) {
  sched_param parameters = {};
  parameters.sched_priority = priority;
  if (sched_setscheduler(tid, SCHED_FIFO | SCHED_RESET_ON_FORK, &parameters) != 0)
    return ErrnoStatus(errno, "set SCHED_FIFO");
  return absl::OkStatus();
}

absl::Status LeaveRealtime(pid_t tid) {
  sched_param parameters = {};
  // The flag stays: without CAP_SYS_NICE nobody may take it off.
  if (sched_setscheduler(tid, SCHED_OTHER | SCHED_RESET_ON_FORK, &parameters) != 0)
    return ErrnoStatus(errno, "set SCHED_OTHER");
  return absl::OkStatus();
}

}  // namespace tandem::isolation
