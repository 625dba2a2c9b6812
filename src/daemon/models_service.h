#pragma once
// api::Models over the registry, the artifact store and serving.
#include "api/service.h"
#include "daemon/children.h"
#include "daemon/model_catalog.h"
#include "daemon/paths.h"
#include "jobs/job_store.h"

namespace tandem::daemon {

// Thread-safe. All outlive it.
class ModelsService : public api::Models {
 public:
  ModelsService(registry::Registry* registry, storage::ArtifactStore* artifacts, jobs::JobStore* jobs,
                ModelCatalog* catalog, serving::Serving* serving, Children* children, Paths paths)
      : registry_(registry),
        artifacts_(artifacts),
        jobs_(jobs),
        catalog_(catalog),
        serving_(serving),
        children_(children),
        paths_(std::move(paths)) {}

  absl::StatusOr<wire::ModelVersion> Import(const api::Caller& caller, std::string_view name, std::string_view source,
                                            const std::string& file_with_bytes) override;
  wire::ModelList List() override;
  absl::StatusOr<wire::Model> Show(std::string_view model) override;
  absl::StatusOr<wire::ModelVersion> Deploy(const api::Caller& caller, const wire::DeployRequest& request) override;
  absl::StatusOr<wire::ModelVersion> RollBack(const api::Caller& caller, std::string_view model) override;
  absl::Status SetAlias(const api::Caller& caller, const wire::SetAliasRequest& request) override;
  absl::StatusOr<std::string> FileOf(std::string_view model, std::string_view alias, int32_t version) override;
  absl::Status Delete(const api::Caller& caller, std::string_view model, int32_t version) override;
  absl::Status SetEnabled(const api::Caller& caller, std::string_view model, bool enabled) override;

 private:
  wire::ModelVersion ToWire(const registry::Model& model, const registry::Version& version,
                            const std::vector<serving::VersionStatus>& loaded) const;
  wire::Model ToWire(const registry::Model& model, const std::vector<serving::VersionStatus>& loaded) const;
  absl::StatusOr<wire::ModelVersion> ShowVersion(const std::string& model, int32_t version) const;
  // FailedPrecondition while a job that has not ended starts from this version.
  absl::Status CheckNoJobUses(std::string_view model, int32_t version) const;

  registry::Registry* const registry_;
  storage::ArtifactStore* const artifacts_;
  jobs::JobStore* const jobs_;
  ModelCatalog* const catalog_;
  serving::Serving* const serving_;
  Children* const children_;
  const Paths paths_;
};

}  // namespace tandem::daemon
