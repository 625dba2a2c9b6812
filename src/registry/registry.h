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
  std::string format = "onnx";  // "onnx", "savedmodel" (a tar of the folder), "tflite", "pb": src/engine/model_file.h
  std::string metrics_json = "{}";
  std::string deploy;  // "", "pending", "awaiting_approval", "promoted", "kept", "failed"
  std::string deploy_reason;
  std::string promote_json;  // the deploy rule of a pending version: {"alias","metric","better_than"}; "" = none
  bool wanted = false;       // deployed by hand: served although no alias points to it
  bool quarantined = false;  // was being loaded when the daemon died, or never loaded; not loaded again by itself
  std::string load_error;
  std::string served_engine;  // the last engine that served it, "" = none yet
  std::string approval;       // "", "pending", "approved", "rejected"
  std::string approval_who, approval_comment;
  int64_t approval_ms = 0;
  // What was measured on each engine, "" = nothing yet:
  //   {"chosen": "openvino", "reference": "interpreter",
  //    "engines": [{"engine": "openvino", "ok": true, "error": "", "max_difference": 1e-6,
  //                 "latency_ms": {"1": 0.4, "8": 1.9}}]}
  std::string engine_report;
};

// A part of the requests goes to another version than champion.
struct Split {
  int32_t canary = 0;  // 0 = none
  double canary_percent = 0;
  int64_t canary_since_ms = 0;
  int32_t shadow = 0;  // 0 = none
  double shadow_percent = 0;
  int64_t shadow_since_ms = 0;
};
enum class SplitPart { kCanary, kShadow };

// A load that a former daemon's end cut short, of a version that another engine had served.
struct CutShortLoad {
  std::string model;
  int32_t version = 0;
  std::string engine, former;  // that was loading; that had served it
};
// The load_error of a version that was being loaded when the daemon died.
inline constexpr std::string_view kCutShort =
    "the server ended while it was loading this version; deploy it by hand to try again";

struct Model {
  std::string name;
  int64_t created_ms = 0;
  bool enabled = true;  // false: unloaded by an operator; nothing of it is served
  std::map<std::string, int32_t> aliases;
  std::vector<Version> versions;  // by number
  std::string config;             // YAML of spec::ModelConfig, "" = all defaults; the registry does not read it
  Split split;
};

// Whether StartSplit could begin this, without beginning it.
absl::Status CheckSplit(const Model& model, SplitPart part, int32_t version, double percent);
// "canary", "shadow".
std::string_view PartName(SplitPart part);

// Thread-safe; every change is durable when the call returns.
class Registry {
 public:
  static absl::StatusOr<std::unique_ptr<Registry>> Open(storage::Store* store, Clock* clock);
  virtual ~Registry() = default;

  // Makes the model if needed, and its next version. The (job, attempt) rule: AlreadyExists if it is there.
  virtual absl::StatusOr<Version> AddVersion(Version version) = 0;
  virtual absl::StatusOr<Version> AddVersionInTransaction(storage::Store::Transaction& transaction,
                                                          Version version) = 0;
  // The same under the number that it brings (1 or more; gaps are fine), also one that was deleted. AlreadyExists, with
  // the source of the version that has the number.
  virtual absl::StatusOr<Version> AddNumberedVersion(Version version) = 0;
  // Other content under a number that exists: hash, size, source and who made it. What was found out about the former
  // content (metrics, engines, approval, quarantine) goes with it; aliases, canary and shadow stay.
  virtual absl::StatusOr<Version> ReplaceVersion(Version version) = 0;
  virtual absl::StatusOr<Model> Get(std::string_view model) const = 0;  // NotFound names the nearest known model
  virtual std::vector<Model> List() const = 0;
  virtual absl::StatusOr<Version> GetVersion(std::string_view model, int32_t version) const = 0;
  // alias or version, neither: champion, else the newest.
  virtual absl::StatusOr<Version> Resolve(std::string_view model, std::string_view alias, int32_t version) const = 0;

  // version 0 removes the alias. Moving to where it is already is recorded nowhere and is OK.
  virtual absl::Status SetAlias(std::string_view model, std::string_view alias, int32_t version, std::string_view who,
                                std::string_view why) = 0;
  // Which version RollBack would give now, or its error.
  virtual absl::StatusOr<int32_t> FindRollBack(std::string_view model, std::string_view alias) const = 0;
  // The alias (empty: champion) back to where it was before its last move (of which rollbacks do not count twice).
  // Gives the new version.
  virtual absl::StatusOr<int32_t> RollBack(std::string_view model, std::string_view alias, std::string_view who) = 0;
  virtual std::vector<wire::AliasMove> History(std::string_view model) const = 0;  // newest first
  // Changes of the configuration, the split and approvals, newest first; kept for ever too.
  virtual std::vector<wire::ModelEvent> Events(std::string_view model) const = 0;

  // Kept with who and why; the same text again is recorded nowhere and is OK.
  virtual absl::Status SetConfig(std::string_view model, std::string_view text, std::string_view who,
                                 std::string_view why) = 0;
  // Begins a canary or a shadow, or changes its percent (over 0 to 100). FailedPrecondition without a champion, or
  // where it is the champion. A version has one part: the other one ends. Any move of champion ends both.
  virtual absl::Status StartSplit(SplitPart part, std::string_view model, int32_t version, double percent,
                                  std::string_view who, std::string_view why) = 0;
  // `text` goes into the record: "ended", "rolled back: ...". FailedPrecondition if there is none, or if it is not
  // `version` any more (0 = whichever it is).
  virtual absl::Status EndSplit(SplitPart part, std::string_view model, int32_t version, std::string_view who,
                                std::string_view text) = 0;
  // state: "pending", "approved", "rejected".
  virtual absl::Status SetApproval(std::string_view model, int32_t version, std::string_view state,
                                   std::string_view who, std::string_view comment) = 0;
  virtual absl::Status SetEngineReport(std::string_view model, int32_t version, std::string_view json) = 0;

  virtual absl::Status SetDeploy(std::string_view model, int32_t version, std::string_view deploy,
                                 std::string_view reason) = 0;
  virtual absl::Status SetMetrics(std::string_view model, int32_t version, std::string_view metrics_json) = 0;
  virtual absl::Status SetWanted(std::string_view model, int32_t version, bool wanted) = 0;
  virtual absl::Status SetEnabled(std::string_view model, bool enabled) = 0;
  // A mark that survives the daemon: set before `engine` begins to load the version, taken away when that load ended.
  // `serving`: the engine that serves the version then, "" = none does; served_engine keeps it.
  virtual absl::Status MarkLoading(std::string_view model, int32_t version, std::string_view engine) = 0;
  virtual absl::Status MarkLoaded(std::string_view model, int32_t version, std::string_view serving) = 0;
  // Open() quarantines what still carries the mark, but for what another engine had served: these keep it, and are
  // quarantined no sooner than somebody says so. Who has settled what is to become of them calls MarkLoaded.
  virtual std::vector<CutShortLoad> CutShortAtOpen() const = 0;
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
  virtual absl::Status MoveDataset(std::string_view name, std::string_view path) = 0;  // its files lie there now
  virtual absl::Status DeleteDataset(std::string_view name) = 0;
};

}  // namespace tandem::registry
