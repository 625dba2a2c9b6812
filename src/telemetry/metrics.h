#pragma once
// Counters, gauges and histograms. Writing is one relaxed atomic add on a cell of the writing thread's own; reading
// sums the cells. Export formats live in api/http.
//
//   Counter* sent = metrics.AddCounter("tandem_bytes_sent_total", "Bytes sent.", {{"door", "http"}});
//   sent->Add(1);
#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tandem {

using Labels = std::vector<std::pair<std::string, std::string>>;

namespace internal {
constexpr int kMetricShards = 16;
// A small number that stays with the calling thread.
int ThreadShard();
struct alignas(64) Cell {
  std::atomic<uint64_t> value{0};
};
}  // namespace internal

// Only goes up. Thread-safe, wait-free.
class Counter {
 public:
  void Add(uint64_t n) { cells_[internal::ThreadShard()].value.fetch_add(n, std::memory_order_relaxed); }
  uint64_t Value() const;

 private:
  std::array<internal::Cell, internal::kMetricShards> cells_;
};

// Goes up and down. Thread-safe, wait-free.
class Gauge {
 public:
  void Set(double v) { value_.store(v, std::memory_order_relaxed); }
  double Value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

// What a histogram held when it was read. Bounds are upper bounds, the last bucket (+Inf) is implied.
struct HistogramSnapshot {
  std::vector<double> bounds;
  std::vector<uint64_t> counts;  // bounds.size() + 1, not cumulative
  uint64_t count = 0;
  double sum = 0;
  // The q-quantile (0..1), linear inside its bucket; 0 when empty.
  double Quantile(double q) const;
  // This minus an earlier reading of the same histogram.
  HistogramSnapshot Since(const HistogramSnapshot& earlier) const;
};

// Values in whole units (microseconds) over fixed bounds. Thread-safe, wait-free.
class Histogram {
 public:
  explicit Histogram(std::vector<double> bounds);
  void Observe(uint64_t value);
  HistogramSnapshot Read() const;

 private:
  struct Shard {
    std::unique_ptr<std::atomic<uint64_t>[]> counts;
    alignas(64) std::atomic<uint64_t> sum{0};
  };
  std::vector<double> bounds_;
  std::array<Shard, internal::kMetricShards> shards_;
};

// 10 us .. 100 s in steps of about 12 %: fine enough for p99 ratios.
std::vector<double> LatencyBoundsMicros();

struct MetricSample {
  Labels labels;
  double value = 0;
  std::shared_ptr<const HistogramSnapshot> histogram;  // set for histograms only
};
struct MetricFamily {
  enum class Type { kCounter, kGauge, kHistogram };
  std::string name, help;
  Type type = Type::kGauge;
  std::vector<MetricSample> samples;
};

// Owns all metrics of a process. Add* and Read are thread-safe and lock; metrics live as long as the registry, at the
// address given. Adding the same name and labels again gives the same metric.
class Metrics {
 public:
  Counter* AddCounter(std::string_view name, std::string_view help, const Labels& labels = {});
  Gauge* AddGauge(std::string_view name, std::string_view help, const Labels& labels = {});
  Histogram* AddHistogram(std::string_view name, std::string_view help, const Labels& labels = {},
                          std::vector<double> bounds = LatencyBoundsMicros());
  // `read` is called at each Read, on the reading thread: for figures that something else keeps.
  void AddSource(std::function<void(std::vector<MetricFamily>*)> read);
  // All families, by name.
  std::vector<MetricFamily> Read() const;

 private:
  struct Entry {
    Labels labels;
    std::unique_ptr<Counter> counter;
    std::unique_ptr<Gauge> gauge;
    std::unique_ptr<Histogram> histogram;
  };
  struct Family {
    std::string help;
    MetricFamily::Type type;
    std::deque<Entry> entries;
  };
  Entry* Find(std::string_view name, std::string_view help, MetricFamily::Type type, const Labels& labels);

  mutable std::mutex mutex_;
  std::map<std::string, Family> families_;                                // guarded by mutex_
  std::vector<std::function<void(std::vector<MetricFamily>*)>> sources_;  // guarded by mutex_
};

}  // namespace tandem
