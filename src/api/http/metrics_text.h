#pragma once
// The metrics in Prometheus' text format 0.0.4.
#include <string>
#include <vector>

#include "telemetry/metrics.h"

namespace tandem::api::http {

std::string WriteMetricsText(const std::vector<MetricFamily>& families);

}  // namespace tandem::api::http
