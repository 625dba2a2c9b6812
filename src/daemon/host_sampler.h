#pragma once
// What the machine does, sampled: CPU split between serving, training and others, memory, disk, steal; and the latency
// of served models over the last seconds.
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "api.pb.h"
#include "base/clock.h"
#include "daemon/control_loop.h"
#include "serving/serving.h"
#include "telemetry/metrics.h"

namespace tandem::daemon {

// CPU seconds of /proc/stat's first line since boot.
struct CpuTimes {
  double user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0;
  double Busy() const { return user + nice + system + irq + softirq; }
  double Total() const { return Busy() + idle + iowait + steal; }
};
CpuTimes ParseProcStat(std::string_view text, double ticks_per_second);

// Sample is called about once a second from one thread; the readers are thread-safe.
class HostSampler {
 public:
  HostSampler(Clock* clock, ControlLoop* loop, serving::Serving* serving)
      : clock_(clock), loop_(loop), serving_(serving) {}

  void Sample();
  // Since the sample before the last.
  wire::CpuSplit Cpu() const;
  // Over the last 10 samples.
  wire::LatencySummary Latency(const std::string& model, int32_t version) const;
  // Families for /metrics, read from the system at the call, but for the share of the CPUs, which is Cpu()'s.
  void AddHostMetrics(std::vector<MetricFamily>* families) const;

 private:
  struct CpuSample {
    CpuTimes machine;
    double serving = 0, training = 0;  // CPU seconds
  };
  struct ServedSample {
    int64_t nanos = 0;
    HistogramSnapshot latency;
    uint64_t failures = 0;
  };
  double TrainingSeconds();

  Clock* const clock_;
  ControlLoop* const loop_;
  serving::Serving* const serving_;
  std::map<int32_t, double> last_usage_;  // by job; Sample's thread alone
  double training_seconds_ = 0;           // of all jobs so far; Sample's thread alone

  mutable std::mutex mutex_;
  std::deque<CpuSample> cpu_;                                                   // guarded by mutex_
  std::map<std::pair<std::string, int32_t>, std::deque<ServedSample>> served_;  // guarded by mutex_
};

}  // namespace tandem::daemon
