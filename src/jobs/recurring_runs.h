#pragma once
// The runs of recurring jobs become jobs, by the overlap rule.
#include <functional>

#include "absl/status/statusor.h"
#include "jobs/job_store.h"
#include "jobs/recurring.h"

namespace tandem::jobs {

// Makes a job of a run that is due, with its idempotency key; its number.
using SubmitRun = std::function<absl::StatusOr<int32_t>(const DueRun&)>;

// Handles what is due, oldest first. To be called about once a second, from one thread. While the former run has not
// ended, by the overlap rule:
//   skip    the run is not submitted, ever; but one that is made up for (catch_up: all) waits until the former has
//           ended, and what is due after it waits behind it, so that none skips another and no two run at once
//   queue   it is submitted and stands in the queue of jobs
//   cancel  the former is cancelled; so of missed runs only the newest is due (see RecurringStore::Due)
void SubmitDueRuns(RecurringStore* recurring, JobStore* jobs, const SubmitRun& submit);

}  // namespace tandem::jobs
