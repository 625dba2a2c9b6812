#pragma once
// api::Models over the registry, the artifact store and serving.
#include <functional>
#include <mutex>

#include "api/service.h"
#include "daemon/children.h"
#include "daemon/engine_choice.h"
#include "daemon/housekeeper.h"
#include "daemon/model_catalog.h"
#include "daemon/model_repository.h"
#include "daemon/paths.h"
#include "jobs/job_store.h"

namespace tandem::daemon {

// Thread-safe. All outlive it.
class ModelsService : public api::Models {
 public:
  ModelsService(registry::Registry* registry, storage::ArtifactStore* artifacts, jobs::JobStore* jobs,
                ModelCatalog* catalog, serving::Serving* serving, Children* children, Housekeeper* housekeeper,
                accounting::Accounting* accounting, Paths paths, int usable_cpus)
      : registry_(registry),
        artifacts_(artifacts),
        jobs_(jobs),
        catalog_(catalog),
        serving_(serving),
        children_(children),
        housekeeper_(housekeeper),
        accounting_(accounting),
        paths_(std::move(paths)),
        usable_cpus_(usable_cpus) {}
  // Loads by name then read the model's folder. Before the doors open; it outlives this.
  void AttachRepository(ModelRepository* repository) { repository_ = repository; }

  // Measures on request. Before the doors open; it outlives this.
  void AttachChoice(EngineChoice* choice) { choice_ = choice; }

  absl::StatusOr<wire::ModelVersion> Import(const api::Caller& caller, std::string_view name, std::string_view source,
                                            std::string_view precision, const std::string& file_with_bytes) override;
  wire::ModelList List() override;
  absl::StatusOr<wire::Model> Show(std::string_view model) override;
  absl::StatusOr<wire::ModelVersion> Deploy(const api::Caller& caller, const wire::DeployRequest& request) override;
  absl::StatusOr<wire::ModelVersion> RollBack(const api::Caller& caller, std::string_view model) override;
  absl::StatusOr<wire::ModelVersion> Promote(const api::Caller& caller, const wire::PromoteRequest& request) override;
  absl::StatusOr<wire::TrafficSplit> SetCanary(const api::Caller& caller, const wire::SplitRequest& request) override;
  absl::StatusOr<wire::TrafficSplit> SetShadow(const api::Caller& caller, const wire::SplitRequest& request) override;
  absl::StatusOr<wire::ModelVersion> Approve(const api::Caller& caller, const wire::ApproveRequest& request,
                                             bool approved) override;
  absl::StatusOr<wire::ModelVersion> Measure(const api::Caller& caller, const wire::MeasureRequest& request) override;
  absl::StatusOr<wire::ServingConfig> Config(std::string_view model) override;
  absl::StatusOr<wire::ServingConfig> Configure(const api::Caller& caller,
                                                const wire::ConfigureRequest& request) override;
  absl::Status SetAlias(const api::Caller& caller, const wire::SetAliasRequest& request) override;
  absl::StatusOr<std::string> FileOf(std::string_view model, std::string_view alias, int32_t version) override;
  absl::Status Delete(const api::Caller& caller, std::string_view model, int32_t version) override;
  absl::Status SetEnabled(const api::Caller& caller, std::string_view model, bool enabled) override;
  absl::Status LoadWithOverride(const api::Caller& caller, std::string_view model, const spec::ModelConfig& config,
                                const std::map<std::string, std::string>& files) override;

 private:
  wire::ModelVersion ToWire(const registry::Model& model, const registry::Version& version,
                            const std::vector<serving::VersionStatus>& loaded) const;
  wire::Model ToWire(const registry::Model& model, const std::vector<serving::VersionStatus>& loaded) const;
  absl::StatusOr<wire::ModelVersion> ShowVersion(const std::string& model, int32_t version) const;
  // "1/model.onnx" -> its bytes. Gives the number of the newest version made.
  absl::StatusOr<int32_t> ImportFiles(const api::Caller& caller, std::string_view model,
                                      const std::map<std::string, std::string>& files);
  // Loads the version, then moves the alias to it.
  absl::Status PutInService(const std::string& model, const std::string& alias, int32_t version, std::string_view who,
                            std::string_view why);
  // Loads the version, then has `move` give it an alias. What cannot be loaded takes nothing over.
  absl::Status LoadThenMove(const std::string& model, int32_t version, const std::function<absl::Status()>& move);
  absl::StatusOr<wire::TrafficSplit> SetSplit(registry::SplitPart part, const api::Caller& caller,
                                              const wire::SplitRequest& request);
  absl::Status LoadBeside(registry::SplitPart part, const registry::Model& model, const wire::SplitRequest& request,
                          std::string_view who);
  // The version that waited for approval becomes champion, or is kept.
  absl::Status Decide(const registry::Version& version, std::string_view lacking, std::string_view who,
                      std::string_view comment, bool approved);
  wire::TrafficSplit SplitToWire(const registry::Model& model) const;
  // FailedPrecondition while a job that has not ended starts from this version.
  absl::Status CheckNoJobUses(std::string_view model, int32_t version) const;

  registry::Registry* const registry_;
  storage::ArtifactStore* const artifacts_;
  jobs::JobStore* const jobs_;
  ModelCatalog* const catalog_;
  serving::Serving* const serving_;
  Children* const children_;
  Housekeeper* const housekeeper_;
  accounting::Accounting* const accounting_;
  const Paths paths_;
  const int usable_cpus_;                  // >= 1
  ModelRepository* repository_ = nullptr;  // null = there is none
  EngineChoice* choice_ = nullptr;         // null in tests alone
  std::mutex configure_mutex_;             // held from reading a configuration to writing it
};

}  // namespace tandem::daemon
