// The watchdog of the latency class. It wakes every half budget by a timer, looks at each thread's CPU clock (one
// system call), and reads more only of a thread that has used half its budget since it was last seen to have waited.
#include <poll.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>

#include "base/status.h"
#include "isolation/kernel_file.h"
#include "isolation/latency_class.h"
#include "isolation/scheduling_class.h"
#include "telemetry/log.h"

namespace tandem::isolation {
namespace {

// How often the thread has given up the CPU by itself; a yield does not count as one, a wait does.
std::optional<int64_t> ReadWaits(pid_t tid) {
  return NumberAfter(ReadKernelFile(StrCat("/proc/self/task/", tid, "/status")), "voluntary_ctxt_switches:");
}

}  // namespace

Overrun::Verdict Overrun::Judge(int64_t cpu_nanos, std::optional<int64_t> waits) {
  if (!demoted_ && cpu_nanos - cpu_at_wait_ < budget_nanos_ / 2) return Verdict::kNone;
  if (!waits) return Verdict::kReadSwitches;
  if (*waits != waits_) {
    waits_ = *waits;
    cpu_at_wait_ = cpu_nanos;
    return std::exchange(demoted_, false) ? Verdict::kRestore : Verdict::kNone;
  }
  if (demoted_ || cpu_nanos - cpu_at_wait_ < budget_nanos_) return Verdict::kNone;
  demoted_ = true;
  return Verdict::kDemote;
}

void LatencyClass::Watch() {
  pthread_setname_np(pthread_self(), "watchdog");
  prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
  const absl::Status status = EnterRealtime(gettid(), 2);
  if (!status.ok())
    Log(LogLevel::kWarning, "the watchdog of real-time threads does not run above them; they may keep it waiting",
        {{"error", MessageOf(status)}});
  const timespec half = {.tv_sec = budget_nanos_ / 2 / 1'000'000'000, .tv_nsec = budget_nanos_ / 2 % 1'000'000'000};
  pollfd woken = {wake_.get(), POLLIN, 0};
  while (true) {
    bool any;
    std::vector<std::string> demoted, restored;
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return;
      any = Sweep(&demoted, &restored);
    }
    // The log's queue is shared with normal threads: only now, when no thread spins above them any more.
    for (const std::string& name : demoted) {
      Log(LogLevel::kWarning, "a request thread ran past its budget without a wait; it loses its real-time class",
          {{"thread", name}, {"budget_ms", static_cast<double>(budget_nanos_) / 1e6}});
    }
    for (const std::string& name : restored)
      Log(LogLevel::kInfo, "a request thread waited again; it is real-time again", {{"thread", name}});
    if (ppoll(&woken, 1, any ? &half : nullptr, nullptr) > 0) {
      uint64_t count;
      if (read(wake_.get(), &count, sizeof count) < 0) continue;  // nothing to take: somebody else took it
    }
  }
}

bool LatencyClass::Sweep(std::vector<std::string>* demoted, std::vector<std::string>* restored) {
  for (Watched& thread : threads_) {
    const int64_t cpu = ClockNanos(thread.clock);
    Overrun::Verdict verdict = thread.overrun.Judge(cpu, std::nullopt);
    if (verdict == Overrun::Verdict::kReadSwitches)
      verdict = thread.overrun.Judge(cpu, ReadWaits(thread.tid).value_or(-1));
    if (verdict == Overrun::Verdict::kDemote) {
      ++thread.demotions;
      LeaveRealtime(thread.tid).IgnoreError();
      demoted->push_back(thread.name);
    } else if (verdict == Overrun::Verdict::kRestore) {
      EnterRealtime(thread.tid, 1).IgnoreError();
      restored->push_back(thread.name);
    }
  }
  return !threads_.empty();
}

}  // namespace tandem::isolation
