#pragma once
// The threads that answer requests: their scheduling class, what they used, and the watchdog that demotes one that
// runs too long.
#include <pthread.h>
#include <time.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "isolation/isolation.h"

namespace tandem::isolation {

// /proc/PID/task/TID/schedstat: "CPU nanoseconds, nanoseconds ready without a CPU, times run".
struct SchedStat {
  int64_t cpu_nanos = 0, delay_nanos = 0, times_run = 0;
};
std::optional<SchedStat> ParseSchedStat(std::string_view text);
std::optional<SchedStat> ReadSchedStat(pid_t tid);

// Of a thread's or a process's CPU clock; 0 when it is gone.
int64_t ClockNanos(clockid_t clock);

// A mutex whose holder runs at the priority of whoever waits: the watchdog must not wait for a normal thread that a
// spinning real-time thread keeps off its CPU.
class InheritingMutex {
 public:
  InheritingMutex();
  ~InheritingMutex() { pthread_mutex_destroy(&mutex_); }
  InheritingMutex(const InheritingMutex&) = delete;
  InheritingMutex& operator=(const InheritingMutex&) = delete;
  void lock() { pthread_mutex_lock(&mutex_); }
  void unlock() { pthread_mutex_unlock(&mutex_); }

 private:
  pthread_mutex_t mutex_;
};

// What the watchdog knows of a thread, and what it makes of a new reading. Pure.
class Overrun {
 public:
  enum class Verdict { kNone, kReadSwitches, kDemote, kRestore };
  Overrun(int64_t budget_nanos, int64_t cpu_nanos, int64_t waits)
      : budget_nanos_(budget_nanos), cpu_at_wait_(cpu_nanos), waits_(waits) {}
  // kReadSwitches: whether the thread has waited decides; ask again with it. That file costs more to read.
  Verdict Judge(int64_t cpu_nanos, std::optional<int64_t> waits);
  bool demoted() const { return demoted_; }

 private:
  int64_t budget_nanos_;
  int64_t cpu_at_wait_;  // when it was last seen to have waited
  int64_t waits_;        // voluntary context switches by then
  bool demoted_ = false;
};

// Thread-safe. Threads that are in the class keep it alive.
class LatencyClass : public std::enable_shared_from_this<LatencyClass> {
 public:
  // With `realtime`, threads become SCHED_FIFO 1 and the watchdog runs, SCHED_FIFO 2; otherwise they are only listed.
  static std::shared_ptr<LatencyClass> Create(bool realtime, double budget_ms);
  ~LatencyClass();
  // Ends the watchdog and puts all threads back into the normal class: nobody watches them now.
  void Stop();

  // The calling thread; once more changes its name. An error where SCHED_FIFO was refused; it is listed all the same.
  absl::Status Enter(const std::string& name);
  std::vector<LatencyThread> Threads() const;
  double CpuSeconds() const;
  // CPU seconds of the watchdog so far.
  double WatchdogSeconds() const;

 private:
  friend struct LatencyRegistration;
  struct Watched {
    std::string name;
    pid_t tid = 0;
    clockid_t clock = 0;
    SchedStat start;
    int64_t demotions = 0;
    Overrun overrun;
  };
  LatencyClass(bool realtime, int64_t budget_nanos) : realtime_(realtime), budget_nanos_(budget_nanos) {}
  void Leave(pid_t tid);
  void Watch();
  // Looks at every thread once, gives the names of those it changed; false when there is none. REQUIRES: mutex_ held.
  bool Sweep(std::vector<std::string>* demoted, std::vector<std::string>* restored);
  void Wake() const;

  const bool realtime_;
  const int64_t budget_nanos_;
  UniqueFd wake_;
  std::thread watchdog_;
  clockid_t watchdog_clock_ = 0;
  mutable InheritingMutex mutex_;
  std::vector<Watched> threads_;  // guarded by mutex_
  bool stopping_ = false;         // guarded by mutex_
};

}  // namespace tandem::isolation
