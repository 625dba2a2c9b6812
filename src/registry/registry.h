#pragma once
// Models, versions, aliases and their history; data set records. What exists, not what is loaded. Every alias move is
// kept for ever.
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "api.pb.h"
#include "base/clock.h"
#include "storage/store.h"

namespace tandem::registry {

const std::vector<storage::Migration>& Migrations();

struct Version {
  std::string model;
  int32_t version = 0;  // 1, 2, 3 ... within the model
  std::string sha256;
  int64_t bytes = 0;
  int64_t created_ms = 0;
  std::string source, created_by;  // "import fashion.onnx", "job 3"
  int32_t job = 0, attempt = 0;    // unique together when job != 0
  std::string precision = "f32";
  std::string metrics_json = "{}";
  std::string deploy;  // "", "pending", "promoted", "kept", "failed"
  std::string deploy_reason;
  std::string promote_json;  // the deploy rule of a pending version: {"alias","metric","better_than"}; "" = none
  bool wanted = false;       // deployed by hand: served although no alias points to it
  bool quarantined = false;  // was being loaded when the daemon died, or never loaded; not loaded again by itself
  std::string load_error;
};

struct Model {
  std::string name;
  int64_t created_ms = 0;
  bool enabled = true;  // false: unloaded by an operator; nothing of it is served
  std::map<std::string, int32_t> aliases;
  std::vector<Version> versions;  // by number
};

// Thread-safe; every change is durable when the call returns.
class Registry {
 public:
  static absl::StatusOr<std::unique_ptr<Registry>> Open(storage::Store* store, Clock* clock);
  virtual ~Registry() = default;

  // Makes the model if needed, and its next version. The (job, attempt) rule: AlreadyExists if it is there.
  virtual absl::StatusOr<Version> AddVersion(Version version) = 0;
  virtual absl::StatusOr<Version> AddVersionInTransaction(storage::Store::Transaction& transaction,
                                                          Version version) = 0;
  virtual absl::StatusOr<Model> Get(std::string_view model) const = 0;  // NotFound names the nearest known model
  virtual std::vector<Model> List() const = 0;
  virtual absl::StatusOr<Version> GetVersion(std::string_view model, int32_t version) const = 0;
  // alias or version, neither: champion, else the newest.
  virtual absl::StatusOr<Version> Resolve(std::string_view model, std::string_view alias, int32_t version) const = 0;

  // version 0 removes the alias. Moving to where it is already is recorded nowhere and is OK.
  virtual absl::Status SetAlias(std::string_view model, std::string_view alias, int32_t version, std::string_view who,
                                std::string_view why) = 0;
  // champion back to where it was before its last move (of which rollbacks do not count twice). Gives the new version.
  virtual absl::StatusOr<int32_t> RollBack(std::string_view model, std::string_view alias, std::string_view who) = 0;
  virtual std::vector<wire::AliasMove> History(std::string_view model) const = 0;  // newest first

  virtual absl::Status SetDeploy(std::string_view model, int32_t version, std::string_view deploy,
                                 std::string_view reason) = 0;
  virtual absl::Status SetMetrics(std::string_view model, int32_t version, std::string_view metrics_json) = 0;
  virtual absl::Status SetWanted(std::string_view model, int32_t version, bool wanted) = 0;
  virtual absl::Status SetEnabled(std::string_view model, bool enabled) = 0;
  // A mark that survives the daemon: set before a load begins, taken away when it ended. Open() quarantines what still
  // carries it.
  virtual absl::Status MarkLoading(std::string_view model, int32_t version, bool loading) = 0;
  virtual absl::Status SetQuarantine(std::string_view model, int32_t version, bool quarantined,
                                     std::string_view error) = 0;
  // What Open() quarantined: "model/3".
  virtual std::vector<std::string> QuarantinedAtOpen() const = 0;
  // FailedPrecondition while an alias points to it (named) or it is wanted.
  virtual absl::Status DeleteVersion(std::string_view model, int32_t version) = 0;
  virtual absl::Status DeleteModel(std::string_view model) = 0;
  // Hashes that some version uses.
  virtual std::vector<std::string> UsedArtifacts() const = 0;

  virtual absl::Status AddDataset(const wire::Dataset& dataset) = 0;  // AlreadyExists
  virtual absl::StatusOr<wire::Dataset> GetDataset(std::string_view name) const = 0;
  virtual std::vector<wire::Dataset> ListDatasets() const = 0;
  virtual absl::Status DeleteDataset(std::string_view name) = 0;
};

}  // namespace tandem::registry
