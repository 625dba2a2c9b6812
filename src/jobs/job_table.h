#pragma once
// The `jobs` table: one row per JobRecord. Used by the job store alone.
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

}  // namespace tandem::jobs
