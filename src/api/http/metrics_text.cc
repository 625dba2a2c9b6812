#include "api/http/metrics_text.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <limits>

#include "api/http/handlers.h"

namespace tandem::api::http {
namespace {

prometheus::MetricType TypeOf(MetricFamily::Type type) {
  switch (type) {
    case MetricFamily::Type::kCounter:
      return prometheus::MetricType::Counter;
    case MetricFamily::Type::kHistogram:
      return prometheus::MetricType::Histogram;
    case MetricFamily::Type::kGauge:
      break;
  }
  return prometheus::MetricType::Gauge;
}

void FillHistogram(const HistogramSnapshot& snapshot, prometheus::ClientMetric::Histogram* out) {
  out->sample_count = snapshot.count;
  out->sample_sum = snapshot.sum;
  uint64_t below = 0;
  for (size_t i = 0; i < snapshot.counts.size(); ++i) {
    below += snapshot.counts[i];
    double bound = i < snapshot.bounds.size() ? snapshot.bounds[i] : std::numeric_limits<double>::infinity();
    out->bucket.push_back({below, bound});
  }
}

prometheus::ClientMetric Convert(const MetricSample& sample, MetricFamily::Type type) {
  prometheus::ClientMetric metric;
  for (const auto& [name, value] : sample.labels) metric.label.push_back({name, value});
  if (type == MetricFamily::Type::kCounter) metric.counter.value = sample.value;
  if (type == MetricFamily::Type::kGauge) metric.gauge.value = sample.value;
  if (sample.histogram != nullptr) FillHistogram(*sample.histogram, &metric.histogram);
  return metric;
}

}  // namespace

std::string WriteMetricsText(const std::vector<MetricFamily>& families) {
  std::vector<prometheus::MetricFamily> converted;
  converted.reserve(families.size());
  for (const MetricFamily& family : families) {
    prometheus::MetricFamily& out = converted.emplace_back();
    out.name = family.name;
    out.help = family.help;
    out.type = TypeOf(family.type);
    for (const MetricSample& sample : family.samples) out.metric.push_back(Convert(sample, family.type));
  }
  return prometheus::TextSerializer().Serialize(converted);
}

absl::StatusOr<Reply> MetricsText(const Services& services, const Request&) {
  Reply reply;
  reply.content_type = "text/plain; version=0.0.4; charset=utf-8";
  reply.body = WriteMetricsText(services.metrics->Read());
  return reply;
}

}  // namespace tandem::api::http
