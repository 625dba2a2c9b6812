#pragma once
// api::Inference over the serving module: what the doors call for each request.
#include <atomic>

#include "api/service.h"
#include "daemon/model_repository.h"
#include "registry/registry.h"
#include "serving/serving.h"

namespace tandem::daemon {

// Thread-safe. `serving` and `clock` outlive it.
class InferenceService : public api::Inference {
 public:
  InferenceService(serving::Serving* serving, Clock* clock) : serving_(serving), clock_(clock) {}

  absl::StatusOr<std::unique_ptr<api::InferSession>> Open(std::string_view model, std::string_view version) override;
  bool Live() override { return true; }
  bool Ready() override { return ready_; }
  std::vector<std::string> ServedVersions(std::string_view model) override;
  absl::StatusOr<std::vector<api::ModelStatistics>> Statistics(std::string_view model,
                                                               std::string_view version) override;
  std::vector<api::RepositoryEntry> Repository(bool ready_only) override;

  WorkSource* work() override { return serving_->work(); }

  void SetReady(bool ready) { ready_ = ready; }
  // Whose models the index also lists, in service or not. Before the doors open; they outlive this.
  void AttachRegistry(const registry::Registry* registry) { registry_ = registry; }
  void AttachRepository(const ModelRepository* repository) { repository_ = repository; }

 private:
  serving::Serving* const serving_;
  Clock* const clock_;
  const registry::Registry* registry_ = nullptr;
  const ModelRepository* repository_ = nullptr;  // null = there is none
  std::atomic<bool> ready_{false};
};

}  // namespace tandem::daemon
