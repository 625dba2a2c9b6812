#include "tandem/warm_cpus.h"

#include <pthread.h>
#include <sched.h>

#include <cerrno>
#include <future>

#include "base/fd.h"
#include "base/status.h"

namespace tandem::cli {

absl::StatusOr<std::unique_ptr<WarmCpus>> WarmCpus::Start() {
  cpu_set_t usable;
  if (sched_getaffinity(0, sizeof usable, &usable) != 0) return ErrnoStatus(errno, "read the usable CPUs");
  auto warm = std::make_unique<WarmCpus>();
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &usable)) continue;
    // The class and the CPU are set before the thread spins.
    std::promise<bool> ready;
    std::future<bool> is_idle = ready.get_future();
    warm->threads_.emplace_back([stop = &warm->stop_, cpu, ready = std::move(ready)]() mutable {
      cpu_set_t own;
      CPU_ZERO(&own);
      CPU_SET(cpu, &own);
      pthread_setaffinity_np(pthread_self(), sizeof own, &own);
      sched_param none{};
      bool idle = sched_setscheduler(0, SCHED_IDLE, &none) == 0;
      ready.set_value(idle);
      while (idle && !stop->load(std::memory_order_relaxed)) {
      }
    });
    if (!is_idle.get()) return Unavailable("a thread could not be put into the idle class (SCHED_IDLE)");
  }
  return warm;
}

WarmCpus::~WarmCpus() {
  stop_ = true;
  for (std::thread& thread : threads_) thread.join();
}

}  // namespace tandem::cli
