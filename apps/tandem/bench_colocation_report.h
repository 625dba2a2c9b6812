#pragma once
// The result of `tandem bench colocation` summed up: per mode and load, as goals, as text, JSON and a picture. Pure.
#include <optional>
#include <string>
#include <vector>

#include "tandem/bench_colocation.h"
#include "tandem/bench_statistics.h"
#include "tandem/terminal.h"

namespace tandem::cli {

// A median over the rounds of what a mode's window gave / what the other's gave in the same round.
struct Ratio {
  int rounds = 0;  // 0 = there is nothing to compare
  double median = 0;
  std::optional<Interval> interval;
};

// One mode at one load. Figures are medians over the rounds where nothing else is said.
struct ColocationSummary {
  std::string mode;
  double load = 0;
  int windows = 0;
  int64_t requests = 0, failures = 0;  // sums
  double offered_per_s = 0, answered_per_s = 0;
  double p50_ms = 0, p99_ms = 0, p999_ms = 0;
  double max_ms = 0;                    // the largest
  double slo_ms = 0, slo_attained = 0;  // of all requests
  double delay_p50_us = 0, delay_p99_us = 0;
  double waited = 0;                                       // of all requests: no connection was free
  double client = 0, serving = 0, training = 0, idle = 0;  // of all CPUs' time
  double other = 0;       // what remains: the kernel, other programs, the threads that keep the CPUs awake
  double most_steal = 0;  // the largest
  double conservation = -1, images_per_s = -1, run_delay_us = -1;
  Ratio p50_warm, p99_warm, p999_warm;     // against alone_warm
  Ratio p50_alone, p99_alone, p999_alone;  // against alone
};
std::vector<ColocationSummary> Summarise(const ColocationResult& result);

struct ColocationGoal {
  std::string name;
  double value = 0, bound = 0;
  bool at_least = false;
  std::optional<Interval> interval;
  bool reached() const { return at_least ? value >= bound : value <= bound; }
};
// Only those whose modes were measured.
std::vector<ColocationGoal> Goals(const ColocationResult& result, const std::vector<ColocationSummary>& summaries);

std::string ColocationText(const ColocationResult& result, const Style& style);
std::string ColocationJson(const ColocationResult& result);
// p50, p99 and p99.9 by mode and load, on a logarithmic axis; a whole SVG file.
std::string ColocationSvg(const ColocationResult& result);

}  // namespace tandem::cli
