#pragma once
// Counters and histograms of the versions, exported under the names that dashboards of Triton know.
#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "engine/child_cpu.h"
#include "serving/serving.h"
#include "telemetry/metrics.h"

namespace tandem::serving {

// Why a request was not run.
enum class Decision {
  kQueueFull,  // no room in the queue
  kShed,       // its place went to a more urgent request
  kTooLate,    // its deadline could not be met
  kExpired,    // its deadline passed while it waited
  kCancelled,  // its client gave it up
  kBudget,     // serving had used its share of the CPU
  kSequence,   // its sequence could not go on, or there was no room for another
};
constexpr int kDecisions = 7;

// Sums by the number of rows of a run, 0..kMaxRows (more count as kMaxRows). Wait-free but for the first run of a size.
class BatchSums {
 public:
  static constexpr int64_t kMaxRows = 4096;
  BatchSums() = default;
  ~BatchSums();
  void Add(int64_t rows, int64_t input_ns, int64_t infer_ns, int64_t output_ns);
  std::vector<Statistics::Batch> Read() const;

 private:
  static constexpr int64_t kChunk = 16;
  struct Sums {
    std::atomic<uint64_t> count{0}, input_ns{0}, infer_ns{0}, output_ns{0};
  };
  using Chunk = std::array<Sums, kChunk>;
  std::array<std::atomic<Chunk*>, kMaxRows / kChunk + 1> chunks_{};  // made when first used
};

// Of one version; outlives it, so that sums never fall when a version is loaded again. Wait-free. Times in nanoseconds.
struct VersionMetrics {
  Counter success_count, success_ns, queue_ns, input_ns, infer_ns, output_ns;
  Counter rejected_count, cancelled_count, backend_fail_count, other_fail_count, fail_ns;
  Counter rows, executions, busy_ns;
  Counter compute_count, cache_hit_count, cache_hit_ns, cache_miss_count, cache_miss_ns;
  std::array<Counter, kDecisions> decisions;
  BatchSums batches;
  Histogram request_us{LatencyBoundsMicros()}, queue_us{LatencyBoundsMicros()}, compute_us{LatencyBoundsMicros()};
  std::atomic<int64_t> last_inference_ms{0};
  std::atomic<int> pending{0};
  // Cancelled requests that the door has not recorded yet: their failures are no others.
  std::atomic<int> cancelled_unrecorded{0};
  Gauge load_seconds;

  // For the accounts alone.
  Counter disk_read_bytes, disk_written_bytes;
  engine::ChildCpu child_cpu;
  std::atomic<bool> in_child{false};  // the last load that succeeded gave it a process of its own

  // infer 0 = answered from the response cache.
  void AddSuccess(int64_t row_count, int64_t total, int64_t queue, int64_t input, int64_t infer, int64_t output);
  void AddFailure(int64_t total, int64_t queue, int64_t infer);
  void AddDecision(Decision decision);
  void AddExecution(int64_t row_count, int64_t input, int64_t infer, int64_t output);
  Statistics Read() const;
  uint64_t Finished() const;  // answered or refused
};

// All versions that were ever loaded. Thread-safe.
class MetricsBook {
 public:
  std::shared_ptr<VersionMetrics> Get(const std::string& model, int32_t version);
  void Export(std::vector<MetricFamily>* families) const;

  // The version is about to be loaded into a process of its own.
  void ExpectChild(const std::string& model, int32_t version);
  std::vector<VersionUse> Uses() const;
  // What requests used in processes of engines; costs nothing for versions that never had one.
  int64_t ChildRequestNanos() const;

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, int32_t>, std::shared_ptr<VersionMetrics>> versions_;  // guarded by mutex_
  std::vector<std::shared_ptr<VersionMetrics>> in_children_;  // guarded by mutex_; that ever were
};

}  // namespace tandem::serving
