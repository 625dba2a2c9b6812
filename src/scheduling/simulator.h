#pragma once
// The real policies on recorded or synthetic load: weeks in seconds. Pure; the caller reads the file and prints.
//
// The model. One server of `cpus` CPUs; the policy every 100 ms, the gate every 20 ms. A model's requests arrive as a
// Poisson process of the recorded rate (seeded; above 50,000/s in groups) and need `service_ms` of one CPU each; they
// are served first come first served, and refused when they would wait for longer than a second. Training takes up to
// its threads of what is left, stops when its micro-batches end, and costs requests that run beside it what was
// measured for `strength` (docs/isolation.md). SLO attainment is the part of requests that end within the target.
//
// Weeks in seconds: of a stretch in which rates and windows stay the same, a part is run (a fiftieth, 2 to 60 s, after
// what the policy needs to come to rest) and the rest is taken to be like it.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "scheduling/policy.h"

namespace tandem::scheduling {

// One line of a load file: "unix_ms,model,requests_per_s,service_ms" (header line first; # comments), what
// `tandem policy record` writes. A rate holds until the model's next line. service_ms may be 0 where the rate is.
constexpr double kMostServiceMs = 10'000;
struct LoadPoint {
  int64_t unix_ms = 0;
  std::string model;
  double requests_per_s = 0;
  double service_ms = 1;
};
// Lines in any order of models, rising in time; the last time is the end. Messages name source and line.
absl::StatusOr<std::vector<LoadPoint>> ParseLoad(std::string_view csv, std::string_view source);
std::string LoadHeader();
std::string ToCsv(const LoadPoint& point);  // one line, without its end

struct SimulationOptions {
  int cpus = 2;
  Strength strength = Strength::kRealtime;
  // By model, > 0; others have `default_slo_ms`. Models without load may be among them: the rules of a server name all.
  std::vector<std::pair<std::string, double>> slo_ms;
  double default_slo_ms = 10;  // > 0
  int jobs = 1;                // that always have work
  double micro_batch_ms = 20;  // one thread
  uint64_t seed = 1;
  double training_share = 1;  // 0..1: where latency_first begins
  bool automatic = true;      // false: it stays there
};
struct ModelResult {
  std::string model;
  int64_t requests = 0;  // answered and refused
  int64_t refused = 0;
  double attainment = 1;  // 0..1; refused requests miss
  double p99_ms = 0;      // of the answered ones, within 5 %
};
struct SimulationResult {
  std::string policy;
  double hours = 0;
  std::vector<ModelResult> models;
  double attainment = 1;  // of all requests
  double training_cpu_hours = 0;
  double training_fraction = 0;  // of the CPU time that serving left, 0..1
  int64_t decisions = 0;
};
// InvalidArgument: no load, less than two times in it, options out of range.
absl::StatusOr<SimulationResult> Simulate(const std::vector<LoadPoint>& load, const Policy& policy,
                                          const Sharing& sharing, const SimulationOptions& options);

// The best fixed split in hindsight: among training shares 0, 5, ... 100 %, the one with most training of those whose
// attainment is at least `attainment`; without one, the one of the best attainment.
struct BestSplit {
  double training_share = 0;
  SimulationResult result;
};
absl::StatusOr<BestSplit> FindBestStaticSplit(const std::vector<LoadPoint>& load, double attainment,
                                              const SimulationOptions& options);

}  // namespace tandem::scheduling
