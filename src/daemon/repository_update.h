#pragma once
// One model of the repository on disk, brought into the registry.
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "accounting/accounting.h"
#include "daemon/model_catalog.h"
#include "daemon/model_join.h"
#include "daemon/repository_config.h"
#include "daemon/repository_folder.h"
#include "registry/registry.h"
#include "storage/store.h"

namespace tandem::daemon {

struct RepositoryParts {
  Clock* clock;
  registry::Registry* registry;
  storage::ArtifactStore* artifacts;
  accounting::Accounting* accounting;
  // JoinModel: the file is moved away or removed.
  std::function<absl::StatusOr<JoinedModel>(const std::filesystem::path& file)> join;
  // Removes a version from the registry, or says what needs it.
  std::function<absl::Status(const std::string& model, int32_t version)> remove;
  std::function<bool(std::string_view engine)> has_engine;
};

struct UpdateResult {
  absl::Status problem;                      // of the model: nothing of it changed
  std::map<int32_t, absl::Status> versions;  // those that could not be taken in, or taken out
  bool changed = false;                      // the registry says something else than before
};

// Keeps in a file what it found in model files, so that a restart does not read them all again; a lost file costs only
// that. Thread-compatible.
class RepositoryUpdate {
 public:
  RepositoryUpdate(RepositoryParts parts, std::filesystem::path repository, std::filesystem::path memory_file);

  // Takes in what is new or different: versions under the folder's own numbers, the configuration unless it is what was
  // taken in before (so that a change by hand stays until the folder says something new). Takes out the versions of
  // this folder that are gone. A version whose files change meanwhile is not taken in.
  UpdateResult Update(const ModelFolder& folder);
  // The same for a folder that is gone.
  UpdateResult Forget(const std::string& name);
  // Models of the registry that have versions of this repository.
  std::vector<std::string> KnownModels() const;
  // Writes the file, if there is anything new in it.
  void Save();

 private:
  // What a version's file was found to be.
  struct Found {
    std::string stamp;   // of the version's folder, and the model's file in it
    std::string sha256;  // "" = not in the artifact store yet
    std::vector<TensorSignature> inputs, outputs;
    std::filesystem::path file;  // to be adopted; empty = it is in the artifact store
  };
  using FoundVersions = std::map<int32_t, Found>;

  absl::Status CheckOwner(const ModelFolder& folder) const;
  absl::StatusOr<Found> Find(const ModelFolder& folder, int32_t version, const std::string& default_name) const;
  FoundVersions FindAll(const ModelFolder& folder, const FolderConfig& config, UpdateResult* result) const;
  absl::Status Register(const ModelFolder& folder, int32_t number, Found* found, bool* changed);
  absl::Status SetConfig(const ModelFolder& folder, const FolderConfig& config, bool* changed);
  void Remember(const std::string& name, FoundVersions all);
  // Versions of this folder that are not in it any more.
  void TakeOut(const std::string& name, const std::map<int32_t, VersionFolder>& present, UpdateResult* result);
  std::string SourceOf(const std::string& model, int32_t version) const;
  void ReadMemory();

  const RepositoryParts parts_;
  const std::filesystem::path repository_, memory_file_;
  std::map<std::string, FoundVersions> memory_;  // by model
  bool unsaved_ = false;
};

}  // namespace tandem::daemon
