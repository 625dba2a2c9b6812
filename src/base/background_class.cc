#include "base/background_class.h"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

namespace tandem {

void EnterBackgroundClass() {
  sched_param parameters = {};
  sched_setscheduler(0, SCHED_BATCH, &parameters);
  setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), 19);  // Linux gives each thread its own nice value
}

}  // namespace tandem
