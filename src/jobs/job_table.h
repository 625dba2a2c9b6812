#pragma once
// The `jobs` table: one row per JobRecord; `job_events`: the newest events of each. Used by the job store alone.
#include <optional>
#include <vector>

#include "jobs/job_store.h"

namespace tandem::jobs {

absl::StatusOr<int32_t> InsertJob(storage::Store::Transaction& transaction, const JobRecord& record);
// Writes the whole row of record.id.
absl::Status UpdateJob(storage::Store::Transaction& transaction, const JobRecord& record);
absl::StatusOr<std::optional<JobRecord>> LoadJob(storage::Store::Transaction& transaction, int32_t id);
absl::StatusOr<std::optional<JobRecord>> LoadJobByKey(storage::Store::Transaction& transaction, std::string_view key);
absl::StatusOr<std::vector<JobRecord>> LoadJobs(storage::Store::Transaction& transaction);

inline constexpr int64_t kKeptEvents = 100;  // of each job

// That the job came to record.state for record.reason; removes its oldest events beyond kKeptEvents.
absl::Status AppendEvent(storage::Store::Transaction& transaction, const JobRecord& record, int64_t now_ms);
absl::StatusOr<std::vector<JobEvent>> LoadEvents(storage::Store::Transaction& transaction, int32_t id);
// The job and its events.
absl::Status DeleteJob(storage::Store::Transaction& transaction, int32_t id);

}  // namespace tandem::jobs
