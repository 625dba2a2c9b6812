#pragma once
// `tandem jobs explain`: what a job waits for, and what would start it, in words.
#include <vector>

#include "api.pb.h"
#include "daemon/governor.h"
#include "isolation/isolation.h"
#include "jobs/job_store.h"

namespace tandem::daemon {

// `active`: all jobs that have not ended. Pure.
wire::JobExplanation Explain(const jobs::JobRecord& job, const std::vector<jobs::JobRecord>& active,
                             const GovernorView& view, const isolation::Capabilities& capabilities, int64_t now_ms);

}  // namespace tandem::daemon
