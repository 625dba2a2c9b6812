#include "telemetry/metrics.h"

#include <algorithm>
#include <cmath>

namespace tandem {

namespace internal {
int ThreadShard() {
  static std::atomic<int> next{0};
  thread_local int shard = next.fetch_add(1, std::memory_order_relaxed) % kMetricShards;
  return shard;
}
}  // namespace internal

uint64_t Counter::Value() const {
  uint64_t sum = 0;
  for (const internal::Cell& cell : cells_) sum += cell.value.load(std::memory_order_relaxed);
  return sum;
}

double HistogramSnapshot::Quantile(double q) const {
  if (count == 0) return 0;
  double rank = q * static_cast<double>(count);
  uint64_t below = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] != 0 && static_cast<double>(below + counts[i]) >= rank) {
      double low = i == 0 ? 0 : bounds[i - 1];
      if (i == bounds.size()) return low;
      return low + (bounds[i] - low) * (rank - static_cast<double>(below)) / static_cast<double>(counts[i]);
    }
    below += counts[i];
  }
  return bounds.back();
}

HistogramSnapshot HistogramSnapshot::Since(const HistogramSnapshot& earlier) const {
  if (earlier.counts.size() != counts.size()) return *this;
  HistogramSnapshot difference = *this;
  for (size_t i = 0; i < counts.size(); ++i) difference.counts[i] -= earlier.counts[i];
  difference.count -= earlier.count;
  difference.sum -= earlier.sum;
  return difference;
}

Histogram::Histogram(std::vector<double> bounds) : bounds_(std::move(bounds)) {
  for (Shard& shard : shards_) shard.counts = std::make_unique<std::atomic<uint64_t>[]>(bounds_.size() + 1);
}

void Histogram::Observe(uint64_t value) {
  size_t bucket = std::lower_bound(bounds_.begin(), bounds_.end(), static_cast<double>(value)) - bounds_.begin();
  Shard& shard = shards_[internal::ThreadShard()];
  shard.counts[bucket].fetch_add(1, std::memory_order_relaxed);
  shard.sum.fetch_add(value, std::memory_order_relaxed);
}

HistogramSnapshot Histogram::Read() const {
  HistogramSnapshot snapshot;
  snapshot.bounds = bounds_;
  snapshot.counts.assign(bounds_.size() + 1, 0);
  for (const Shard& shard : shards_) {
    for (size_t i = 0; i < snapshot.counts.size(); ++i) {
      uint64_t n = shard.counts[i].load(std::memory_order_relaxed);
      snapshot.counts[i] += n;
      snapshot.count += n;
    }
    snapshot.sum += static_cast<double>(shard.sum.load(std::memory_order_relaxed));
  }
  return snapshot;
}

std::vector<double> LatencyBoundsMicros() {
  std::vector<double> bounds;
  for (double bound = 10; bound < 1e8; bound *= 1.12) bounds.push_back(std::round(bound));
  return bounds;
}

Metrics::Entry* Metrics::Find(std::string_view name, std::string_view help, MetricFamily::Type type,
                              const Labels& labels) {
  Family& family = families_[std::string(name)];
  if (family.entries.empty()) {
    family.help = help;
    family.type = type;
  }
  for (Entry& entry : family.entries) {
    if (entry.labels == labels) return &entry;
  }
  family.entries.emplace_back();
  family.entries.back().labels = labels;
  return &family.entries.back();
}

Counter* Metrics::AddCounter(std::string_view name, std::string_view help, const Labels& labels) {
  std::lock_guard lock(mutex_);
  Entry* entry = Find(name, help, MetricFamily::Type::kCounter, labels);
  if (entry->counter == nullptr) entry->counter = std::make_unique<Counter>();
  return entry->counter.get();
}

Gauge* Metrics::AddGauge(std::string_view name, std::string_view help, const Labels& labels) {
  std::lock_guard lock(mutex_);
  Entry* entry = Find(name, help, MetricFamily::Type::kGauge, labels);
  if (entry->gauge == nullptr) entry->gauge = std::make_unique<Gauge>();
  return entry->gauge.get();
}

Histogram* Metrics::AddHistogram(std::string_view name, std::string_view help, const Labels& labels,
                                 std::vector<double> bounds) {
  std::lock_guard lock(mutex_);
  Entry* entry = Find(name, help, MetricFamily::Type::kHistogram, labels);
  if (entry->histogram == nullptr) entry->histogram = std::make_unique<Histogram>(std::move(bounds));
  return entry->histogram.get();
}

void Metrics::AddSource(std::function<void(std::vector<MetricFamily>*)> read) {
  std::lock_guard lock(mutex_);
  sources_.push_back(std::move(read));
}

std::vector<MetricFamily> Metrics::Read() const {
  std::vector<MetricFamily> result;
  std::vector<std::function<void(std::vector<MetricFamily>*)>> sources;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [name, family] : families_) {
      MetricFamily& out = result.emplace_back();
      out.name = name;
      out.help = family.help;
      out.type = family.type;
      for (const Entry& entry : family.entries) {
        MetricSample& sample = out.samples.emplace_back();
        sample.labels = entry.labels;
        if (entry.counter) sample.value = static_cast<double>(entry.counter->Value());
        if (entry.gauge) sample.value = entry.gauge->Value();
        if (entry.histogram) sample.histogram = std::make_shared<HistogramSnapshot>(entry.histogram->Read());
      }
    }
    sources = sources_;
  }
  for (const auto& source : sources) source(&result);
  std::sort(result.begin(), result.end(), [](const MetricFamily& a, const MetricFamily& b) { return a.name < b.name; });
  return result;
}

}  // namespace tandem
