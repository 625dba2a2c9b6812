#pragma once
// What served models do now: rates, queues and quantiles over the last second and the last tenth of one.
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "scheduling/policy.h"
#include "scheduling/simulator.h"
#include "serving/serving.h"

namespace tandem::daemon {

using SloLookup = std::function<double(const std::string& model)>;  // target p99, ms; 0 = none

// The model that is nearest to its target, or farthest above it.
struct WorstLoad {
  double ratio = 0;  // p99 / target; 0 = no model with a target has requests
  int64_t requests = 0;
  std::string model;
  double slo_ms = 0;
};

// Thread-safe. Holds no handles, so that versions can be unloaded.
class LoadMeter {
 public:
  explicit LoadMeter(const serving::Serving* serving) : serving_(serving) {}

  // About every 100 ms. Reads histograms only of versions that finished a request since.
  void Sample(int64_t now_nanos);
  // For when nobody samples any more: what was seen last would seem to go on.
  void Forget();
  // Over the last second.
  std::vector<scheduling::ModelLoad> LastSecond(const SloLookup& slo) const;
  // Since the sample before the last (100 to 200 ms).
  WorstLoad Worst(const SloLookup& slo) const;

  // About every second: keeps one line a model, of the newest hour.
  void Record(int64_t unix_ms);
  std::vector<scheduling::LoadPoint> Recorded(int64_t from_unix_ms) const;

 private:
  using Key = std::pair<std::string, int32_t>;
  struct Reading {
    int64_t nanos = 0;
    HistogramSnapshot latency;
  };
  struct Version {
    std::deque<Reading> readings;  // newest last
    uint64_t finished = 0;
    int waiting = 0;
  };
  static constexpr double kUnknownServiceMs = 1;
  struct Recording {
    uint64_t executed = 0, busy_ns = 0;
    int64_t unix_ms = 0;
    double service_ms = kUnknownServiceMs;  // of one request, when one was last run
  };
  HistogramSnapshot ReadLatency(const Key& key) const;

  const serving::Serving* const serving_;
  mutable std::mutex mutex_;
  std::map<Key, Version> versions_;              // guarded by mutex_
  std::map<std::string, Recording> recordings_;  // guarded by mutex_
  std::deque<scheduling::LoadPoint> recorded_;   // guarded by mutex_
};

}  // namespace tandem::daemon
