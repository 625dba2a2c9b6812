#pragma once
// Counters and histograms of the versions, exported under the names that dashboards of Triton know.
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "serving/serving.h"
#include "telemetry/metrics.h"

namespace tandem::serving {

// Of one version; outlives it, so that sums never fall when a version is loaded again. Wait-free. Times in nanoseconds.
struct VersionMetrics {
  Counter success_count, success_ns, queue_ns, input_ns, infer_ns, output_ns;
  Counter rejected_count, backend_fail_count, other_fail_count, fail_ns;
  Counter rows;
  Histogram request_us{LatencyBoundsMicros()}, queue_us{LatencyBoundsMicros()}, compute_us{LatencyBoundsMicros()};
  std::atomic<int64_t> last_inference_ms{0};
  std::atomic<int> pending{0};
  Gauge load_seconds;

  void AddSuccess(int64_t row_count, int64_t total, int64_t queue, int64_t input, int64_t infer, int64_t output);
  void AddFailure(int64_t total, int64_t queue, int64_t infer);
  Statistics Read() const;
  uint64_t Finished() const;  // answered or refused
};

// All versions that were ever loaded. Thread-safe.
class MetricsBook {
 public:
  std::shared_ptr<VersionMetrics> Get(const std::string& model, int32_t version);
  void Export(std::vector<MetricFamily>* families) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int32_t>, std::shared_ptr<VersionMetrics>> versions_;  // guarded by mutex_
};

}  // namespace tandem::serving
