#include "serving/version_metrics.h"

#include <algorithm>

namespace tandem::serving {
namespace {

double Micros(const Counter& nanos) {
  const uint64_t whole = nanos.Value() / 1000;
  return static_cast<double>(whole);
}
double Count(const Counter& counter) { return static_cast<double>(counter.Value()); }

struct Row {
  const char* name;
  const char* help;
  MetricFamily::Type type;
  double (*read)(const VersionMetrics&);
  const char* reason = nullptr;  // a label
};
using enum MetricFamily::Type;

// Rows of one name stand together.
constexpr Row kRows[] = {
    {"nv_inference_request_success", "Requests answered.", kCounter,
     [](const VersionMetrics& m) { return Count(m.success_count); }},
    {"nv_inference_request_failure", "Requests that failed, by reason.", kCounter,
     [](const VersionMetrics& m) { return Count(m.rejected_count); }, "REJECTED"},
    {"nv_inference_request_failure", "", kCounter, [](const VersionMetrics& m) { return Count(m.backend_fail_count); },
     "BACKEND"},
    {"nv_inference_request_failure", "", kCounter, [](const VersionMetrics& m) { return Count(m.cancelled_count); },
     "CANCELED"},
    {"nv_inference_request_failure", "", kCounter, [](const VersionMetrics& m) { return Count(m.other_fail_count); },
     "OTHER"},
    {"nv_inference_count", "Inferences (rows of a batch each count).", kCounter,
     [](const VersionMetrics& m) { return Count(m.rows); }},
    {"nv_inference_exec_count", "Executions of the model (a batch counts once).", kCounter,
     [](const VersionMetrics& m) { return Count(m.executions); }},
    {"nv_inference_request_duration_us", "Time of answered requests, microseconds.", kCounter,
     [](const VersionMetrics& m) { return Micros(m.success_ns); }},
    {"nv_inference_queue_duration_us", "Time they waited for an instance, microseconds.", kCounter,
     [](const VersionMetrics& m) { return Micros(m.queue_ns); }},
    {"nv_inference_compute_input_duration_us", "Time spent on decoding their inputs, microseconds.", kCounter,
     [](const VersionMetrics& m) { return Micros(m.input_ns); }},
    {"nv_inference_compute_infer_duration_us", "Time the engine ran, microseconds.", kCounter,
     [](const VersionMetrics& m) { return Micros(m.infer_ns); }},
    {"nv_inference_compute_output_duration_us", "Time spent on encoding their outputs, microseconds.", kCounter,
     [](const VersionMetrics& m) { return Micros(m.output_ns); }},
    {"nv_inference_pending_request_count", "Requests waiting for an instance now.", kGauge,
     [](const VersionMetrics& m) { return static_cast<double>(m.pending.load(std::memory_order_relaxed)); }},
    {"nv_cache_num_hits_per_model", "Requests answered from the response cache.", kCounter,
     [](const VersionMetrics& m) { return Count(m.cache_hit_count); }},
    {"nv_cache_hit_duration_per_model", "Time that took, microseconds.", kCounter,
     [](const VersionMetrics& m) { return Micros(m.cache_hit_ns); }},
    {"nv_cache_num_misses_per_model", "Requests that the response cache had no answer for.", kCounter,
     [](const VersionMetrics& m) { return Count(m.cache_miss_count); }},
    {"nv_cache_miss_duration_per_model", "Time spent on looking and on keeping the answer, microseconds.", kCounter,
     [](const VersionMetrics& m) { return Micros(m.cache_miss_ns); }},
    {"nv_model_load_duration_secs", "Time the last load took, seconds.", kGauge,
     [](const VersionMetrics& m) { return m.load_seconds.Value(); }},
};

template <Decision decision>
double CountOf(const VersionMetrics& m) {
  return Count(m.decisions[static_cast<int>(decision)]);
}
constexpr const char* kNotRun = "tandem_requests_not_run_total";
constexpr Row kDecisionRows[] = {
    {kNotRun, "Requests that were not run, by reason.", kCounter, CountOf<Decision::kQueueFull>, "queue_full"},
    {kNotRun, "", kCounter, CountOf<Decision::kShed>, "shed"},
    {kNotRun, "", kCounter, CountOf<Decision::kTooLate>, "would_be_late"},
    {kNotRun, "", kCounter, CountOf<Decision::kExpired>, "expired"},
    {kNotRun, "", kCounter, CountOf<Decision::kCancelled>, "cancelled"},
    {kNotRun, "", kCounter, CountOf<Decision::kBudget>, "cpu_share"},
    {kNotRun, "", kCounter, CountOf<Decision::kSequence>, "sequence"},
};
static_assert(std::size(kDecisionRows) == kDecisions);

struct HistogramRow {
  const char* name;
  const char* help;
  const Histogram VersionMetrics::*histogram;
};
constexpr HistogramRow kHistograms[] = {
    {"tandem_request_duration_seconds", "Time of answered requests.", &VersionMetrics::request_us},
    {"tandem_queue_duration_seconds", "Time they waited for an instance.", &VersionMetrics::queue_us},
    {"tandem_compute_duration_seconds", "Time the engine ran.", &VersionMetrics::compute_us},
};

// Of microseconds.
std::shared_ptr<const HistogramSnapshot> ReadSeconds(const Histogram& histogram) {
  auto snapshot = std::make_shared<HistogramSnapshot>(histogram.Read());
  for (double& bound : snapshot->bounds) bound /= 1e6;
  snapshot->sum /= 1e6;
  return snapshot;
}

Labels LabelsOf(const std::pair<std::string, int32_t>& key) {
  return {{"model", key.first}, {"version", std::to_string(key.second)}};
}

}  // namespace

BatchSums::~BatchSums() {
  for (std::atomic<Chunk*>& chunk : chunks_) delete chunk.load();
}

void BatchSums::Add(int64_t rows, int64_t input_ns, int64_t infer_ns, int64_t output_ns) {
  rows = std::clamp<int64_t>(rows, 0, kMaxRows);
  std::atomic<Chunk*>& place = chunks_[rows / kChunk];
  Chunk* chunk = place.load(std::memory_order_acquire);
  if (chunk == nullptr) {
    auto made = std::make_unique<Chunk>();
    if (place.compare_exchange_strong(chunk, made.get())) chunk = made.release();
  }
  Sums& sums = (*chunk)[rows % kChunk];
  sums.count.fetch_add(1, std::memory_order_relaxed);
  if (input_ns != 0) sums.input_ns.fetch_add(input_ns, std::memory_order_relaxed);
  sums.infer_ns.fetch_add(infer_ns, std::memory_order_relaxed);
  if (output_ns != 0) sums.output_ns.fetch_add(output_ns, std::memory_order_relaxed);
}

std::vector<Statistics::Batch> BatchSums::Read() const {
  std::vector<Statistics::Batch> read;
  for (int64_t rows = 0; rows <= kMaxRows; ++rows) {
    const Chunk* chunk = chunks_[rows / kChunk].load(std::memory_order_acquire);
    if (chunk == nullptr) {
      rows += kChunk - 1 - rows % kChunk;
      continue;
    }
    const Sums& sums = (*chunk)[rows % kChunk];
    const uint64_t count = sums.count.load(std::memory_order_relaxed);
    if (count == 0) continue;
    read.push_back({rows, count, sums.input_ns.load(std::memory_order_relaxed),
                    sums.infer_ns.load(std::memory_order_relaxed), sums.output_ns.load(std::memory_order_relaxed)});
  }
  return read;
}

void VersionMetrics::AddDecision(Decision decision) {
  decisions[static_cast<int>(decision)].Add(1);
  if (decision == Decision::kCancelled) cancelled_unrecorded.fetch_add(1, std::memory_order_relaxed);
}

void VersionMetrics::AddExecution(int64_t row_count, int64_t input, int64_t infer, int64_t output) {
  executions.Add(1);
  busy_ns.Add(input + infer + output);
  batches.Add(row_count, input, infer, output);
}

void VersionMetrics::AddSuccess(int64_t row_count, int64_t total, int64_t queue, int64_t input, int64_t infer,
                                int64_t output) {
  success_count.Add(1);
  success_ns.Add(total);
  queue_ns.Add(queue);
  request_us.Observe(total / 1000);
  if (infer == 0) return;
  compute_count.Add(1);
  input_ns.Add(input);
  infer_ns.Add(infer);
  output_ns.Add(output);
  rows.Add(row_count);
  queue_us.Observe(queue / 1000);
  compute_us.Observe(infer / 1000);
}

void VersionMetrics::AddFailure(int64_t total, int64_t queue, int64_t infer) {
  auto reason = [&]() -> Counter& {
    if (infer > 0) return backend_fail_count;
    if (queue > 0) return rejected_count;
    int cancelled = cancelled_unrecorded.load(std::memory_order_relaxed);
    while (cancelled > 0) {
      if (cancelled_unrecorded.compare_exchange_weak(cancelled, cancelled - 1)) return cancelled_count;
    }
    return other_fail_count;
  };
  reason().Add(1);
  fail_ns.Add(total);
}

uint64_t VersionMetrics::Finished() const {
  return success_count.Value() + rejected_count.Value() + cancelled_count.Value() + backend_fail_count.Value() +
         other_fail_count.Value();
}

Statistics VersionMetrics::Read() const {
  Statistics sums;
  sums.success_count = sums.queue_count = success_count.Value();
  sums.success_ns = success_ns.Value();
  sums.fail_count =
      rejected_count.Value() + cancelled_count.Value() + backend_fail_count.Value() + other_fail_count.Value();
  sums.fail_ns = fail_ns.Value();
  sums.queue_ns = queue_ns.Value();
  sums.compute_input_ns = input_ns.Value();
  sums.compute_infer_ns = infer_ns.Value();
  sums.compute_output_ns = output_ns.Value();
  sums.compute_count = compute_count.Value();
  sums.inference_count = rows.Value();
  sums.execution_count = executions.Value();
  sums.cache_hit_count = cache_hit_count.Value();
  sums.cache_hit_ns = cache_hit_ns.Value();
  sums.cache_miss_count = cache_miss_count.Value();
  sums.cache_miss_ns = cache_miss_ns.Value();
  sums.batches = batches.Read();
  sums.last_inference_ms = last_inference_ms.load(std::memory_order_relaxed);
  return sums;
}

std::shared_ptr<VersionMetrics> MetricsBook::Get(const std::string& model, int32_t version) {
  std::lock_guard lock(mutex_);
  std::shared_ptr<VersionMetrics>& metrics = versions_[{model, version}];
  if (metrics == nullptr) metrics = std::make_shared<VersionMetrics>();
  return metrics;
}

void MetricsBook::ExpectChild(const std::string& model, int32_t version) {
  const std::shared_ptr<VersionMetrics> metrics = Get(model, version);
  std::lock_guard lock(mutex_);
  if (std::ranges::find(in_children_, metrics) == in_children_.end()) in_children_.push_back(metrics);
}

std::vector<VersionUse> MetricsBook::Uses() const {
  std::vector<VersionUse> uses;
  std::lock_guard lock(mutex_);
  for (const auto& [key, metrics] : versions_) {
    uses.push_back({.model = key.first,
                    .version = key.second,
                    .finished = metrics->Finished(),
                    .busy_ns = metrics->busy_ns.Value(),
                    .in_child = metrics->in_child,
                    .child_cpu_ns = static_cast<uint64_t>(metrics->child_cpu.Read().all_ns),
                    .disk_read_bytes = metrics->disk_read_bytes.Value(),
                    .disk_written_bytes = metrics->disk_written_bytes.Value()});
  }
  return uses;
}

int64_t MetricsBook::ChildRequestNanos() const {
  std::lock_guard lock(mutex_);
  int64_t sum = 0;
  for (const auto& metrics : in_children_) sum += metrics->child_cpu.Read().requests_ns;
  return sum;
}

void MetricsBook::Export(std::vector<MetricFamily>* families) const {
  std::lock_guard lock(mutex_);
  if (versions_.empty()) return;
  auto add = [&](const Row& row) {
    if (families->empty() || families->back().name != row.name) {
      families->push_back({row.name, row.help, row.type, {}});
    }
    for (const auto& [key, metrics] : versions_) {
      Labels labels = LabelsOf(key);
      if (row.reason != nullptr) labels.emplace_back("reason", row.reason);
      families->back().samples.push_back({std::move(labels), row.read(*metrics), nullptr});
    }
  };
  std::for_each(std::begin(kRows), std::end(kRows), add);
  std::for_each(std::begin(kDecisionRows), std::end(kDecisionRows), add);
  for (const HistogramRow& row : kHistograms) {
    MetricFamily& family = families->emplace_back();
    family = {row.name, row.help, kHistogram, {}};
    for (const auto& [key, metrics] : versions_) {
      family.samples.push_back({LabelsOf(key), 0, ReadSeconds((*metrics).*row.histogram)});
    }
  }
}

}  // namespace tandem::serving
