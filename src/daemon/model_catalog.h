#pragma once
// Between the registry (what exists) and serving (what is loaded): decides what should be served, tells serving, and
// keeps the marks that survive a crash while loading.
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "registry/registry.h"
#include "serving/serving.h"
#include "spec/model_config.h"
#include "storage/store.h"

namespace tandem::daemon {

struct CatalogSettings {
  std::string engine = "openvino";  // of models that name none, unless a report says which is best
  bool choose = false;              // such models are measured by themselves (engine_choice.h)
  double load_timeout_s = 660;      // for WaitUntilReady: preparing and loading
};

// A canary in service.
struct CanaryInForce {
  std::string model;
  int32_t version = 0;
  spec::CanaryConfig bounds;
};

// A version whose engine can be chosen by measuring.
struct ChoosableVersion {
  registry::Version record;
  spec::ModelConfig config;
  serving::DesiredVersion desired;  // as it is served, or would be
};

// Who chooses. Both are called without a lock of the catalogue's held.
struct ChooserHooks {
  std::function<void()> on_change;  // a Sync, or a load that ended
  // A candidate could not be loaded, why is in `failure`: waits until another engine has, or gives why none can.
  std::function<absl::Status(const std::string& model, int32_t version, const absl::Status& failure)> find_other;
};

// The configuration that the registry keeps for the model; all defaults, with an error in the log, where it cannot be
// read (a newer tandem may have written it).
spec::ModelConfig ConfigOf(const registry::Model& model);

// Whether it leaves the engine to the server.
bool LeavesEngineOpen(const spec::ModelConfig& config);

// How the source begins of versions that came from a repository on disk; its folder follows.
inline constexpr std::string_view kRepositorySource = "repository ";
// Whether the model came from one. A model that was made otherwise is never touched by the repository.
bool FromRepository(const registry::Model& model);
// The key `versions` in force: where a model of a repository has none, the latest one, as config.pbtxt has it.
std::string VersionsOf(const registry::Model& model, const spec::ModelConfig& config);

// Thread-safe.
class ModelCatalog {
 public:
  // All outlive this; AttachServing comes before the first Sync.
  ModelCatalog(registry::Registry* registry, storage::ArtifactStore* artifacts, CatalogSettings settings)
      : registry_(registry), artifacts_(artifacts), settings_(std::move(settings)) {}
  void AttachServing(serving::Serving* serving) { serving_ = serving; }
  // What serving calls while it loads.
  serving::LoadEvents Events();
  // Empty hooks detach; then none of them is being called any more.
  void AttachChooser(ChooserHooks hooks);

  // Pushes what the registry says to serving: the versions of aliases, the former champion (so that a rollback is at
  // once), canary and shadow, those that the configuration's `versions` names, those deployed by hand, and the
  // candidates; not what is quarantined or of a model that was unloaded. Of one model (the time does not grow with the
  // number of others but for a copy of what they want), or of all.
  void Sync(const std::string& model);
  void Sync();

  // Loads a version beside what serves, and waits until it is ready; a quarantine is lifted. Where its engine cannot
  // load it, another one does if the chooser finds one. Whatever it gives, it is followed by one DropCandidate: a
  // version stays a candidate until all that load it have dropped it.
  absl::Status LoadCandidate(const std::string& model, int32_t version);
  void DropCandidate(const std::string& model, int32_t version);

  // Moves an alias and lets serving follow. FailedPrecondition, with what to do, for champion where ApprovalLacking.
  absl::Status MoveAlias(const std::string& model, const std::string& alias, int32_t version, std::string_view who,
                         std::string_view why);
  // Why an operator's word must come before the version becomes champion, and how it is given; "" if nothing is needed.
  absl::StatusOr<std::string> ApprovalLacking(const std::string& model, int32_t version) const;

  // Begins and ends canaries and shadows as registry::Registry does, and lets serving follow.
  absl::Status StartSplit(registry::SplitPart part, const std::string& model, int32_t version, double percent,
                          std::string_view who, std::string_view why);
  absl::Status EndSplit(registry::SplitPart part, const std::string& model, int32_t version, std::string_view who,
                        std::string_view text);
  // As of the last Sync. Waits for nobody.
  std::vector<CanaryInForce> Canaries() const;
  // The target p99 of the model's configuration, or `otherwise` where it gives none; as of the last Sync too.
  double SloOf(const std::string& model, double otherwise) const;

  // As of the last Sync: the ONNX versions that should be served, quarantined ones too, of models that leave the engine
  // open; empty unless the settings say to choose.
  std::vector<ChoosableVersion> Choosable() const;
  // Any version, for measuring on request. FailedPrecondition where there is only one engine for its format.
  absl::StatusOr<ChoosableVersion> FindChoosable(const std::string& model, int32_t version) const;
  // Where what `engine` makes of the version is, or goes.
  std::filesystem::path PreparedFolder(const ChoosableVersion& version, const std::string& engine) const;
  // Whether a version that should be served, as of the last Sync, is loaded from there.
  bool IsUsed(const std::filesystem::path& prepared_folder) const;
  const std::string& default_engine() const { return settings_.engine; }

  // State of a version for people: as serving says, else UNAVAILABLE or QUARANTINED, with the reason.
  std::pair<std::string, std::string> StateOf(const registry::Model& model, const registry::Version& version,
                                              const std::vector<serving::VersionStatus>& loaded) const;

 private:
  serving::DesiredModel Desired(const registry::Model& model, const std::set<int32_t>& candidates,
                                std::vector<ChoosableVersion>* choosable) const;
  // Of which requests that name none may get the newest where there is no champion.
  std::set<int32_t> WantedVersions(const registry::Model& model, const spec::ModelConfig& config) const;
  serving::DesiredVersion DesiredVersionOf(const registry::Version& version, const spec::ModelConfig& config,
                                           const std::filesystem::path& file) const;
  serving::DesiredVersion DesiredOn(const std::string& engine, const registry::Version& version,
                                    const spec::ModelConfig& config, const std::filesystem::path& file) const;
  void Want(const registry::Model& model);  // takes what it wants into wanted_; REQUIRES: mutex_ held
  void Push();                              // what all want; REQUIRES: mutex_ held
  void TellChooser() const;

  registry::Registry* const registry_;
  storage::ArtifactStore* const artifacts_;
  const CatalogSettings settings_;
  serving::Serving* serving_ = nullptr;
  struct Wanted {
    serving::DesiredModel desired;
    std::vector<ChoosableVersion> choosable;
  };
  std::mutex mutex_;                                           // one Sync at a time, so that the newest state wins
  std::map<std::string, Wanted> wanted_;                       // guarded by mutex_; by model
  std::multiset<std::pair<std::string, int32_t>> candidates_;  // guarded by mutex_
  mutable std::mutex in_force_mutex_;
  std::vector<CanaryInForce> canaries_;      // guarded by in_force_mutex_
  std::map<std::string, double> slo_ms_;     // guarded by in_force_mutex_; of models whose configuration gives one
  std::vector<ChoosableVersion> choosable_;  // guarded by in_force_mutex_
  std::set<std::filesystem::path> used_prepared_;  // guarded by in_force_mutex_
  mutable std::shared_mutex hooks_mutex_;          // held, shared, while a hook is called
  ChooserHooks hooks_;                             // guarded by hooks_mutex_
};

}  // namespace tandem::daemon
