#include "isolation/scheduling_class.h"

#include <errno.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "isolation/isolation.h"

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

void EnterBackgroundClass() {
  sched_param parameters = {};
  sched_setscheduler(0, SCHED_BATCH, &parameters);
  setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), 19);
}

}  // namespace tandem::isolation
