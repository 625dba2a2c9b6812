#pragma once
// What the kernel says about where CPU time went, read before and after a window. Linux's /proc only.
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace tandem::cli {

// The first line of /proc/stat, in clock ticks since boot, of all CPUs together.
struct CpuTicks {
  int64_t total = 0, idle = 0, iowait = 0, steal = 0;
};
absl::StatusOr<CpuTicks> ParseCpuTicks(std::string_view proc_stat);

// utime + stime of /proc/PID/stat, in clock ticks. The name in it may hold blanks and brackets.
absl::StatusOr<int64_t> ParseProcessTicks(std::string_view stat);

// /proc/PID/task/TID/schedstat: time on a CPU, time ready but not on a CPU, times put on a CPU.
struct ThreadTimes {
  int64_t run_nanos = 0, delay_nanos = 0, times_run = 0;
};
absl::StatusOr<ThreadTimes> ParseSchedstat(std::string_view schedstat);

// All counters at one moment.
struct HostReading {
  int64_t nanos = 0;  // monotonic
  CpuTicks cpu;
  double serving_s = 0, training_s = 0;  // CPU seconds of the daemon, of the trainers
  ThreadTimes latency_threads;           // sums over the daemon's threads that answer requests
  int latency_thread_count = 0;
};
// Processes that are gone count as 0.
absl::StatusOr<HostReading> ReadHost(pid_t daemon, const std::vector<pid_t>& trainers);

// A window between two readings. CPU parts are fractions of all CPUs' time.
struct HostWindow {
  double seconds = 0;
  double steal = 0, idle = 0, serving = 0, training = 0;  // idle with iowait; the rest is other programs and the kernel
  double conservation = -1;                               // training / (training + idle + iowait); -1 without trainers
  double run_delay_us = -1;  // mean, per time that a request thread was put on a CPU; -1 = the kernel does not tell
  int64_t times_run = 0;
};
HostWindow Between(const HostReading& before, const HostReading& after, bool training);

// Who measured, for the result.
struct HostFacts {
  std::string kernel, cpu_model, governor;  // "" where it cannot be read
  int cpus = 0;                             // usable by this process
  bool root = false;
  bool steal_reported = true;  // false: not one tick since boot, so either none or not told
};
HostFacts ReadHostFacts();

}  // namespace tandem::cli
