#pragma once
// Metric families of training jobs, for /metrics.
#include <vector>

#include "jobs/job_store.h"
#include "telemetry/metrics.h"

namespace tandem::daemon {

// Progress of the jobs that run, and how many jobs there are in each state.
void AddTrainingMetrics(const jobs::JobStore& jobs, std::vector<MetricFamily>* families);

}  // namespace tandem::daemon
