#pragma once
// Between the registry (what exists) and serving (what is loaded): decides what should be served, tells serving, and
// keeps the marks that survive a crash while loading.
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "registry/registry.h"
#include "serving/serving.h"
#include "storage/store.h"

namespace tandem::daemon {

struct CatalogSettings {
  std::string engine = "openvino";
  double load_timeout_s = 660;  // for WaitUntilReady: preparing and loading
};

// Thread-safe.
class ModelCatalog {
 public:
  // All outlive this; AttachServing comes before the first Sync.
  ModelCatalog(registry::Registry* registry, storage::ArtifactStore* artifacts, CatalogSettings settings)
      : registry_(registry), artifacts_(artifacts), settings_(std::move(settings)) {}
  void AttachServing(serving::Serving* serving) { serving_ = serving; }
  // What serving calls while it loads.
  serving::LoadEvents Events();

  // Pushes what the registry says to serving: the versions of aliases, the former champion (so that a rollback is at
  // once), those deployed by hand, and the candidates; not what is quarantined or of a model that was unloaded.
  void Sync();

  // Loads a version beside what serves, and waits until it is ready; a quarantine is lifted. It stays a candidate until
  // dropped.
  absl::Status LoadCandidate(const std::string& model, int32_t version);
  void DropCandidate(const std::string& model, int32_t version);

  // Moves an alias and lets serving follow.
  absl::Status MoveAlias(const std::string& model, const std::string& alias, int32_t version, std::string_view who,
                         std::string_view why);

  // State of a version for people: as serving says, else UNAVAILABLE or QUARANTINED, with the reason.
  std::pair<std::string, std::string> StateOf(const registry::Model& model, const registry::Version& version,
                                              const std::vector<serving::VersionStatus>& loaded) const;

 private:
  serving::DesiredModel Desired(const registry::Model& model, const std::set<int32_t>& candidates) const;
  std::set<int32_t> WantedVersions(const registry::Model& model, const std::set<int32_t>& candidates) const;

  registry::Registry* const registry_;
  storage::ArtifactStore* const artifacts_;
  const CatalogSettings settings_;
  serving::Serving* serving_ = nullptr;
  std::mutex mutex_;                                      // one Sync at a time, so that the newest state wins
  std::set<std::pair<std::string, int32_t>> candidates_;  // guarded by mutex_
};

}  // namespace tandem::daemon
