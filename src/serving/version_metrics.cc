#include "serving/version_metrics.h"

namespace tandem::serving {
namespace {

double Micros(const Counter& nanos) { return static_cast<double>(nanos.Value() / 1000); }
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
    {"nv_inference_request_failure", "", kCounter, [](const VersionMetrics& m) { return Count(m.other_fail_count); },
     "OTHER"},
    {"nv_inference_count", "Inferences (rows of a batch each count).", kCounter,
     [](const VersionMetrics& m) { return Count(m.rows); }},
    {"nv_inference_exec_count", "Executions of the model (a batch counts once).", kCounter,
     [](const VersionMetrics& m) { return Count(m.success_count); }},
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
    {"nv_model_load_duration_secs", "Time the last load took, seconds.", kGauge,
     [](const VersionMetrics& m) { return m.load_seconds.Value(); }},
};

struct HistogramRow {
  const char* name;
  const char* help;
  const Histogram VersionMetrics::*histogram;
};
constexpr HistogramRow kHistograms[] = {
    {"tandem_request_duration_us", "Time of answered requests, microseconds.", &VersionMetrics::request_us},
    {"tandem_queue_duration_us", "Time they waited for an instance, microseconds.", &VersionMetrics::queue_us},
    {"tandem_compute_duration_us", "Time the engine ran, microseconds.", &VersionMetrics::compute_us},
};

Labels LabelsOf(const std::pair<std::string, int32_t>& key) {
  return {{"model", key.first}, {"version", std::to_string(key.second)}};
}

}  // namespace

void VersionMetrics::AddSuccess(int64_t row_count, int64_t total, int64_t queue, int64_t input, int64_t infer,
                                int64_t output) {
  success_count.Add(1);
  success_ns.Add(total);
  queue_ns.Add(queue);
  input_ns.Add(input);
  infer_ns.Add(infer);
  output_ns.Add(output);
  rows.Add(row_count);
  request_us.Observe(total / 1000);
  queue_us.Observe(queue / 1000);
  compute_us.Observe(infer / 1000);
}

void VersionMetrics::AddFailure(int64_t total, int64_t queue, int64_t infer) {
  Counter& reason = infer > 0 ? backend_fail_count : queue > 0 ? rejected_count : other_fail_count;
  reason.Add(1);
  fail_ns.Add(total);
}

uint64_t VersionMetrics::Finished() const {
  return success_count.Value() + rejected_count.Value() + backend_fail_count.Value() + other_fail_count.Value();
}

Statistics VersionMetrics::Read() const {
  Statistics sums;
  sums.success_count = sums.queue_count = sums.execution_count = success_count.Value();
  sums.success_ns = success_ns.Value();
  sums.fail_count = rejected_count.Value() + backend_fail_count.Value() + other_fail_count.Value();
  sums.fail_ns = fail_ns.Value();
  sums.queue_ns = queue_ns.Value();
  sums.compute_input_ns = input_ns.Value();
  sums.compute_infer_ns = infer_ns.Value();
  sums.compute_output_ns = output_ns.Value();
  sums.inference_count = rows.Value();
  sums.last_inference_ms = last_inference_ms.load(std::memory_order_relaxed);
  return sums;
}

std::shared_ptr<VersionMetrics> MetricsBook::Get(const std::string& model, int32_t version) {
  std::lock_guard lock(mutex_);
  std::shared_ptr<VersionMetrics>& metrics = versions_[{model, version}];
  if (metrics == nullptr) metrics = std::make_shared<VersionMetrics>();
  return metrics;
}

void MetricsBook::Export(std::vector<MetricFamily>* families) const {
  std::lock_guard lock(mutex_);
  if (versions_.empty()) return;
  for (const Row& row : kRows) {
    if (families->empty() || families->back().name != row.name) {
      families->push_back({row.name, row.help, row.type, {}});
    }
    for (const auto& [key, metrics] : versions_) {
      Labels labels = LabelsOf(key);
      if (row.reason != nullptr) labels.emplace_back("reason", row.reason);
      families->back().samples.push_back({std::move(labels), row.read(*metrics), nullptr});
    }
  }
  for (const HistogramRow& row : kHistograms) {
    MetricFamily& family = families->emplace_back();
    family = {row.name, row.help, kHistogram, {}};
    for (const auto& [key, metrics] : versions_) {
      auto snapshot = std::make_shared<HistogramSnapshot>(((*metrics).*row.histogram).Read());
      family.samples.push_back({LabelsOf(key), 0, std::move(snapshot)});
    }
  }
}

}  // namespace tandem::serving
