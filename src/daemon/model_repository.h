#pragma once
// The model repository on disk (--model-repository): its folders followed, or loaded by name, into the registry and
// from there into service. See repository_folder.h for the layout.
#include <condition_variable>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "api.pb.h"
#include "api/service.h"
#include "daemon/model_catalog.h"
#include "daemon/repository_update.h"

namespace tandem::daemon {

struct RepositorySettings {
  std::filesystem::path folder;
  bool poll = true;  // false: a model is read when it is loaded by name, and only then
  double poll_interval_s = 5;
  std::filesystem::path memory_file;  // its own
  double ready_timeout_s = 660;       // for Load: preparing and loading
};

// Thread-safe. What `parts` points to, `catalog` and `serving` outlive it.
class ModelRepository {
 public:
  // NotFound, PermissionDenied, ... if the folder cannot be read.
  static absl::StatusOr<std::unique_ptr<ModelRepository>> Create(RepositorySettings settings, RepositoryParts parts,
                                                                 ModelCatalog* catalog, serving::Serving* serving);
  ~ModelRepository();

  // Steps on a background thread of its own, at once and then every poll interval.
  void Start();
  // No later Step takes in another model; does not wait for the one in work.
  void Stop();
  // Whether what lay there at the start was looked at.
  bool FirstStepDone() const;

  // Looks at all folders once. A model is taken in when its files are as they were at the step before, or have not
  // changed for a poll interval: files that are being copied are left alone. A problem is kept for Entries and tried
  // again when the files change; what was in service stays there.
  void Step();

  // Takes in the model's folder as it is now, puts the model into service and waits until the versions that its policy
  // names are ready. False, without any effect, where the repository has no such model or the name belongs to a model
  // that was made otherwise.
  absl::StatusOr<bool> Load(std::string_view model);

  // What the repository index says beside what serving and the registry know: what could not be taken in, and what was
  // not loaded, with the reason. Unloaded models are the registry's.
  std::vector<api::RepositoryEntry> Entries() const;
  // For `tandem doctor`.
  void Check(wire::DoctorReport* report) const;

 private:
  struct Followed {
    std::string seen;      // the stamp at the step before; "" = there was none
    int missing = 0;       // steps in a row in which the folder was gone
    std::string taken_in;  // the stamp of the last attempt, whether it went well or not; "" = none
    UpdateResult result;   // of that attempt
    int failures = 0;      // in a row that may pass by themselves
    int64_t retry_ns = 0;  // monotonic, when to try again; 0 = when the files change
  };

  ModelRepository(RepositorySettings settings, RepositoryParts parts, ModelCatalog* catalog, serving::Serving* serving);
  void Work();
  bool Stopping() const;
  // The four below: REQUIRES step_mutex_ held.
  void StepModels(const std::vector<std::string>& names);
  void Follow(const std::string& name);
  void FollowMissing(const std::string& name);
  UpdateResult TakeIn(const ModelFolder& folder);

  Followed Get(const std::string& name) const;
  void Set(const std::string& name, Followed followed);
  void Record(const std::string& name, std::string stamp, UpdateResult result, Followed* followed) const;

  const RepositorySettings settings_;
  Clock* const clock_;
  registry::Registry* const registry_;
  ModelCatalog* const catalog_;
  serving::Serving* const serving_;

  std::mutex step_mutex_;    // held by Step and Load while they read files and change the registry
  RepositoryUpdate update_;  // guarded by step_mutex_

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::map<std::string, Followed> models_;  // guarded by mutex_; written by holders of step_mutex_ only
  absl::Status problem_;                    // guarded by mutex_; of the repository as a whole
  bool stepped_ = false, stop_ = false;     // guarded by mutex_
  std::thread thread_;
};

}  // namespace tandem::daemon
