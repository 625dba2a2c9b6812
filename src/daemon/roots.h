#pragma once
// The folders that each side's files may have elsewhere than in the data folder (serving.folder, training.folder).
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/files.h"
#include "daemon/paths.h"
#include "jobs/job_store.h"
#include "registry/registry.h"
#include "storage/store.h"

namespace tandem::daemon {

const std::vector<storage::Migration>& RootMigrations();  // ids 610..619

struct RootParts {
  storage::Store* store;
  registry::Registry* registry;
  const jobs::JobStore* jobs;
};

// Before anything is made below them: refuses (FailedPrecondition: setting, place, cure) roots that are not there,
// cannot be written, lie inside what tandem keeps for itself, or are another server's; and those in which files that
// the records name are missing, because the root is not the one of before or its disk is not mounted. Then remembers
// them, leads the records of copied data sets to where these are now, and adds sentences on what changed to `notices`.
// Gives the locks of all roots but the data folder itself; each holds `holder` for who is refused.
absl::StatusOr<std::vector<FileLock>> TakeRoots(const Paths& paths, const RootParts& parts, std::string_view holder,
                                                std::vector<std::string>* notices);

}  // namespace tandem::daemon
