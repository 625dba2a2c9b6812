#pragma once
// api::Datasets: data sets are referenced in place with their hash, copied, or uploaded.
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "api/service.h"
#include "base/paced_writer.h"
#include "daemon/housekeeper.h"
#include "daemon/paths.h"
#include "jobs/job_store.h"
#include "registry/registry.h"

namespace tandem::daemon {

// Thread-safe. All outlive it.
class DatasetsService : public api::Datasets {
 public:
  // `pace`: of the files that become tandem's own.
  DatasetsService(registry::Registry* registry, jobs::JobStore* jobs, PacedWriter* pace, Housekeeper* housekeeper,
                  Paths paths)
      : registry_(registry), jobs_(jobs), pace_(pace), housekeeper_(housekeeper), paths_(std::move(paths)) {}

  absl::StatusOr<wire::Dataset> Add(const api::Caller& caller, const wire::AddDatasetRequest& request) override;
  absl::StatusOr<wire::Dataset> Upload(const api::Caller& caller, const wire::AddDatasetRequest& request,
                                       const std::string& tar_file) override;
  wire::DatasetList List() override;
  absl::StatusOr<wire::Dataset> Show(std::string_view name) override;
  absl::Status Delete(const api::Caller& caller, std::string_view name) override;

 private:
  // A name that nobody else adds or deletes meanwhile: they share a folder.
  class Claim;
  absl::StatusOr<std::unique_ptr<Claim>> Take(std::string_view name);
  // The same for a name that must be free, checked before anything is read.
  absl::StatusOr<std::unique_ptr<Claim>> TakeNew(std::string_view name);
  absl::StatusOr<wire::Dataset> Register(const api::Caller& caller, wire::Dataset dataset);
  // Puts the files into tandem's own folder by `fill`, then registers them; leaves nothing behind on failure.
  template <typename Fill>
  absl::StatusOr<wire::Dataset> RegisterOwn(const api::Caller& caller, wire::Dataset dataset, Fill fill);

  registry::Registry* const registry_;
  jobs::JobStore* const jobs_;
  PacedWriter* const pace_;
  Housekeeper* const housekeeper_;
  const Paths paths_;
  std::mutex mutex_;
  std::set<std::string, std::less<>> taken_;  // guarded by mutex_: names that a call adds or deletes now
};

}  // namespace tandem::daemon
