#include "registry/registry.h"

#include <functional>
#include <mutex>
#include <set>

#include "absl/strings/str_join.h"
#include "base/status.h"
#include "base/text.h"
#include "registry/rollback.h"
#include "registry/split.h"
#include "registry/tables.h"
#include "telemetry/log.h"

namespace tandem::registry {
namespace {

constexpr std::string_view kChampion = "champion";

absl::Status NoSuchAlias(const Model& model, std::string_view alias) {
  std::vector<std::string> known;
  for (const auto& [name, version] : model.aliases) known.push_back(name);
  std::string hint = DidYouMean(alias, known);
  if (hint.empty()) hint = known.empty() ? "; it has none" : StrCat("; it has ", absl::StrJoin(known, ", "));
  return NotFound("model '", model.name, "' has no alias '", alias, "'", hint);
}

// What keeps a version from being deleted: "alias 'champion'"; "" if nothing does.
std::string UserOf(const Model& model, const Version& version) {
  for (const auto& [alias, target] : model.aliases) {
    if (target == version.version) return StrCat("alias '", alias, "' points to it; move or remove the alias first");
  }
  for (auto [part, target] :
       {std::pair(SplitPart::kCanary, model.split.canary), {SplitPart::kShadow, model.split.shadow}}) {
    if (target != version.version) continue;
    return StrCat("it is the ", PartName(part), "; end that first: tandem models ", PartName(part), " ", model.name,
                  " --stop");
  }
  return version.wanted ? "it was deployed by hand; unload it first" : "";
}

absl::Status CheckUnused(const Model& model, const Version& version) {
  std::string user = UserOf(model, version);
  if (user.empty()) return absl::OkStatus();
  return FailedPrecondition("model '", model.name, "' version ", version.version, " is in use: ", user);
}

struct RollBackStep {
  int32_t from = 0, to = 0;  // versions; from 0: the alias is gone
};

absl::StatusOr<RollBackStep> PlanRollBack(Transaction& transaction, const Model& model, const std::string& alias) {
  TANDEM_ASSIGN_OR_RETURN(std::vector<Move> moves, LoadMoves(transaction, model.name, alias));
  if (moves.empty()) return NoSuchAlias(model, alias);
  auto exists = [&](int32_t version) { return FindVersion(model, version).ok(); };
  std::optional<int32_t> target = RollBackTarget(moves, exists);
  if (!target) {
    return FailedPrecondition("there is nothing to roll back to: alias '", alias, "' of model '", model.name,
                              "' pointed to no other version before that still exists");
  }
  return RollBackStep{moves.back().to, *target};
}

absl::Status DeleteRow(Transaction& transaction, const Version& version) {
  return transaction.Execute("DELETE FROM versions WHERE model = ? AND version = ?",
                             {version.model, int64_t{version.version}});
}

// All state is in the store; each call is one transaction. mutex_ guards only what stands in for the lists when the
// store cannot be read: an empty list would unload models and let the garbage collector remove their files.
class SqliteRegistry : public Registry {
 public:
  SqliteRegistry(storage::Store* store, Clock* clock) : store_(store), clock_(clock) {}

  // Versions that a dead daemon was loading are not loaded again by themselves.
  absl::Status Recover() {
    TANDEM_RETURN_IF_ERROR(store_->Write([&](Transaction& transaction) -> absl::Status {
      TANDEM_RETURN_IF_ERROR(transaction.Query(
          "SELECT model, version, loading_engine, served_engine FROM versions WHERE loading = 1 "
          "ORDER BY model, version",
          {}, [&](const storage::Row& row) {
            CutShortLoad load{row.Text(0), static_cast<int32_t>(row.Int(1)), row.Text(2), row.Text(3)};
            if (load.former.empty() || load.former == load.engine) {
              quarantined_at_open_.push_back(StrCat(load.model, "/", load.version));
            } else {
              cut_short_at_open_.push_back(std::move(load));
            }
          }));
      return transaction.Execute(
          "UPDATE versions SET loading = 0, loading_engine = '', quarantined = 1, load_error = ? "
          "WHERE loading = 1 AND served_engine IN ('', loading_engine)",
          {std::string(kCutShort)});
    }));
    return ReadModels().status();
  }

  absl::StatusOr<Version> AddVersion(Version version) override {
    TANDEM_RETURN_IF_ERROR(store_->Write([&](Transaction& transaction) -> absl::Status {
      TANDEM_ASSIGN_OR_RETURN(version, AddVersionInTransaction(transaction, std::move(version)));
      return absl::OkStatus();
    }));
    return version;
  }

  absl::StatusOr<Version> AddVersionInTransaction(Transaction& transaction, Version version) override {
    Remember(version);
    return InsertVersion(transaction, std::move(version), clock_->UnixMillis());
  }

  absl::StatusOr<Version> AddNumberedVersion(Version version) override {
    if (version.version < 1) {
      return InvalidArgument("model '", version.model, "': version number ", version.version, " must be 1 or more");
    }
    Remember(version);
    TANDEM_RETURN_IF_ERROR(store_->Write([&](Transaction& transaction) -> absl::Status {
      TANDEM_ASSIGN_OR_RETURN(version, InsertNumberedVersion(transaction, std::move(version), clock_->UnixMillis()));
      return absl::OkStatus();
    }));
    return version;
  }

  absl::StatusOr<Version> ReplaceVersion(Version version) override {
    Remember(version);
    TANDEM_RETURN_IF_ERROR(
        ChangeModel(version.model, [&](Transaction& transaction, const Model& model) -> absl::Status {
          TANDEM_ASSIGN_OR_RETURN(Version former, FindVersion(model, version.version));
          version.created_ms = clock_->UnixMillis();
          version.wanted = former.wanted;
          return UpdateVersion(transaction, version);
        }));
    return version;
  }

  absl::StatusOr<Model> Get(std::string_view name) const override {
    Model model;
    TANDEM_RETURN_IF_ERROR(store_->Read([&](Transaction& transaction) -> absl::Status {
      TANDEM_ASSIGN_OR_RETURN(model, LoadModel(transaction, name));
      return absl::OkStatus();
    }));
    return model;
  }

  std::vector<Model> List() const override {
    absl::StatusOr<std::vector<Model>> models = ReadModels();
    if (models.ok()) return *std::move(models);
    Log(LogLevel::kError, "the models could not be read; the last list stands in",
        {{"error", MessageOf(models.status())}});
    std::lock_guard lock(mutex_);
    return last_models_;
  }

  absl::StatusOr<Version> GetVersion(std::string_view name, int32_t version) const override {
    TANDEM_ASSIGN_OR_RETURN(Model model, Get(name));
    return FindVersion(model, version);
  }

  absl::StatusOr<Version> Resolve(std::string_view name, std::string_view alias, int32_t version) const override {
    if (!alias.empty() && version != 0) {
      return InvalidArgument("model '", name, "': give an alias or a version, not both");
    }
    TANDEM_ASSIGN_OR_RETURN(Model model, Get(name));
    if (version != 0) return FindVersion(model, version);
    auto found = model.aliases.find(std::string(alias.empty() ? kChampion : alias));
    if (found != model.aliases.end()) return FindVersion(model, found->second);
    if (!alias.empty()) return NoSuchAlias(model, alias);
    return FindVersion(model, model.versions.empty() ? 0 : model.versions.back().version);
  }

  absl::Status SetAlias(std::string_view name, std::string_view alias, int32_t version, std::string_view who,
                        std::string_view why) override {
    // One that was made before numbers were refused can be removed.
    TANDEM_RETURN_IF_ERROR(version == 0 ? CheckName("alias", alias) : CheckAlias(alias));
    return ChangeModel(name, [&](Transaction& transaction, const Model& model) -> absl::Status {
      auto found = model.aliases.find(std::string(alias));
      int32_t from = found == model.aliases.end() ? 0 : found->second;
      if (version == 0 && from == 0) return NoSuchAlias(model, alias);
      if (version != 0) TANDEM_RETURN_IF_ERROR(FindVersion(model, version).status());
      if (version == from) return absl::OkStatus();
      return MoveWith(transaction, model, MakeMove(alias, from, version, who, why), /*rollback=*/false);
    });
  }

  absl::StatusOr<int32_t> FindRollBack(std::string_view name, std::string_view alias) const override {
    const std::string wanted(alias.empty() ? kChampion : alias);
    RollBackStep step;
    absl::Status read = store_->Read([&](Transaction& transaction) -> absl::Status {
      TANDEM_ASSIGN_OR_RETURN(Model model, LoadModel(transaction, name));
      TANDEM_ASSIGN_OR_RETURN(step, PlanRollBack(transaction, model, wanted));
      return absl::OkStatus();
    });
    if (!read.ok()) return read;
    return step.to;
  }

  absl::StatusOr<int32_t> RollBack(std::string_view name, std::string_view alias, std::string_view who) override {
    const std::string wanted(alias.empty() ? kChampion : alias);
    RollBackStep step;
    TANDEM_RETURN_IF_ERROR(ChangeModel(name, [&](Transaction& transaction, const Model& model) -> absl::Status {
      TANDEM_ASSIGN_OR_RETURN(step, PlanRollBack(transaction, model, wanted));
      std::string why = step.from == 0 ? "rolled back" : StrCat("rolled back from ", step.from);
      return MoveWith(transaction, model, MakeMove(wanted, step.from, step.to, who, why), true);
    }));
    return step.to;
  }

  std::vector<wire::AliasMove> History(std::string_view model) const override {
    std::vector<wire::AliasMove> history;
    absl::Status read = store_->Read([&](Transaction& transaction) -> absl::Status {
      TANDEM_ASSIGN_OR_RETURN(history, LoadHistory(transaction, model));
      return absl::OkStatus();
    });
    if (!read.ok())
      Log(LogLevel::kError, "the history could not be read", {{"model", model}, {"error", MessageOf(read)}});
    return history;
  }

  std::vector<wire::ModelEvent> Events(std::string_view model) const override {
    std::vector<wire::ModelEvent> events;
    absl::Status read = store_->Read([&](Transaction& transaction) -> absl::Status {
      TANDEM_ASSIGN_OR_RETURN(events, LoadEvents(transaction, model));
      return absl::OkStatus();
    });
    if (!read.ok())
      Log(LogLevel::kError, "the events could not be read", {{"model", model}, {"error", MessageOf(read)}});
    return events;
  }

  absl::Status SetConfig(std::string_view name, std::string_view text, std::string_view who,
                         std::string_view why) override {
    return ChangeModel(name, [&](Transaction& transaction, const Model& model) -> absl::Status {
      if (model.config == text) return absl::OkStatus();
      TANDEM_RETURN_IF_ERROR(SaveConfig(transaction, name, text));
      wire::ModelEvent event = MakeEvent("config", 0, who, why);
      event.set_detail(std::string(text));
      return InsertEvent(transaction, name, event);
    });
  }

  absl::Status StartSplit(SplitPart part, std::string_view name, int32_t version, double percent, std::string_view who,
                          std::string_view why) override {
    return ChangeModel(name, [&](Transaction& transaction, const Model& model) {
      return StartPart(transaction, model, part, version, percent, {who, clock_->UnixMillis()}, why);
    });
  }
  absl::Status EndSplit(SplitPart part, std::string_view name, int32_t version, std::string_view who,
                        std::string_view text) override {
    return ChangeModel(name, [&](Transaction& transaction, const Model& model) {
      return EndPart(transaction, model, part, version, {who, clock_->UnixMillis()}, text);
    });
  }

  absl::Status SetApproval(std::string_view name, int32_t version, std::string_view state, std::string_view who,
                           std::string_view comment) override {
    return ChangeModel(name, [&](Transaction& transaction, const Model& model) -> absl::Status {
      TANDEM_ASSIGN_OR_RETURN(Version record, FindVersion(model, version));
      record.approval = state;
      record.approval_who = who;
      record.approval_comment = comment;
      record.approval_ms = clock_->UnixMillis();
      TANDEM_RETURN_IF_ERROR(UpdateVersion(transaction, record));
      return InsertEvent(transaction, name,
                         MakeEvent("approval", version, who, StrCat(state, comment.empty() ? "" : ": ", comment)));
    });
  }

  absl::Status SetEngineReport(std::string_view model, int32_t version, std::string_view json) override {
    return ChangeVersion(model, version, [&](Version& record) { record.engine_report = json; });
  }

  absl::Status SetDeploy(std::string_view model, int32_t version, std::string_view deploy,
                         std::string_view reason) override {
    return ChangeVersion(model, version, [&](Version& record) {
      record.deploy = deploy;
      record.deploy_reason = reason;
    });
  }
  absl::Status SetMetrics(std::string_view model, int32_t version, std::string_view metrics_json) override {
    return ChangeVersion(model, version, [&](Version& record) { record.metrics_json = metrics_json; });
  }
  absl::Status SetWanted(std::string_view model, int32_t version, bool wanted) override {
    return ChangeVersion(model, version, [&](Version& record) { record.wanted = wanted; });
  }
  absl::Status SetQuarantine(std::string_view model, int32_t version, bool quarantined,
                             std::string_view error) override {
    return ChangeVersion(model, version, [&](Version& record) {
      record.quarantined = quarantined;
      record.load_error = error;
    });
  }

  absl::Status SetEnabled(std::string_view name, bool enabled) override {
    return ChangeModel(name, [&](Transaction& transaction, const Model&) {
      return transaction.Execute("UPDATE models SET enabled = ? WHERE model = ?",
                                 {int64_t{enabled}, std::string(name)});
    });
  }

  absl::Status MarkLoading(std::string_view name, int32_t version, std::string_view engine) override {
    return ChangeModel(name, [&](Transaction& transaction, const Model& model) -> absl::Status {
      TANDEM_RETURN_IF_ERROR(FindVersion(model, version).status());
      return transaction.Execute("UPDATE versions SET loading = 1, loading_engine = ? WHERE model = ? AND version = ?",
                                 {std::string(engine), std::string(name), int64_t{version}});
    });
  }

  absl::Status MarkLoaded(std::string_view name, int32_t version, std::string_view serving) override {
    return ChangeModel(name, [&](Transaction& transaction, const Model& model) -> absl::Status {
      TANDEM_ASSIGN_OR_RETURN(Version record, FindVersion(model, version));
      const std::string served = serving.empty() ? record.served_engine : std::string(serving);
      return transaction.Execute(
          "UPDATE versions SET loading = 0, loading_engine = '', served_engine = ? WHERE model = ? AND version = ?",
          {served, std::string(name), int64_t{version}});
    });
  }

  std::vector<CutShortLoad> CutShortAtOpen() const override { return cut_short_at_open_; }

  std::vector<std::string> QuarantinedAtOpen() const override { return quarantined_at_open_; }

  absl::Status DeleteVersion(std::string_view name, int32_t version) override {
    return ChangeModel(name, [&](Transaction& transaction, const Model& model) -> absl::Status {
      TANDEM_ASSIGN_OR_RETURN(Version record, FindVersion(model, version));
      TANDEM_RETURN_IF_ERROR(CheckUnused(model, record));
      TANDEM_RETURN_IF_ERROR(DeleteRow(transaction, record));
      if (model.versions.size() > 1) return absl::OkStatus();
      return transaction.Execute("DELETE FROM models WHERE model = ?", {std::string(name)});
    });
  }

  absl::Status DeleteModel(std::string_view name) override {
    return ChangeModel(name, [&](Transaction& transaction, const Model& model) -> absl::Status {
      for (const Version& version : model.versions) {
        TANDEM_RETURN_IF_ERROR(CheckUnused(model, version));
        TANDEM_RETURN_IF_ERROR(DeleteRow(transaction, version));
      }
      return transaction.Execute("DELETE FROM models WHERE model = ?", {std::string(name)});
    });
  }

  std::vector<std::string> UsedArtifacts() const override {
    absl::StatusOr<std::vector<Model>> models = ReadModels();
    std::set<std::string> used;
    if (models.ok()) {
      for (const Model& model : *models) {
        for (const Version& version : model.versions) used.insert(version.sha256);
      }
    } else {
      std::lock_guard lock(mutex_);
      used = artifacts_;
    }
    return {used.begin(), used.end()};
  }

  absl::Status AddDataset(const wire::Dataset& dataset) override {
    TANDEM_RETURN_IF_ERROR(CheckName("data set name", dataset.name()));
    wire::Dataset record = dataset;
    if (record.created_ms() == 0) record.set_created_ms(static_cast<double>(clock_->UnixMillis()));
    absl::Status added = store_->Write([&](Transaction& transaction) { return InsertDataset(transaction, record); });
    if (!absl::IsAlreadyExists(added)) return added;
    return AlreadyExists("there is a data set '", dataset.name(), "' already; choose another name or delete it first");
  }

  absl::StatusOr<wire::Dataset> GetDataset(std::string_view name) const override {
    TANDEM_ASSIGN_OR_RETURN(std::vector<wire::Dataset> datasets, ReadDatasets());
    std::vector<std::string> known;
    for (wire::Dataset& dataset : datasets) {
      if (dataset.name() == name) return std::move(dataset);
      known.push_back(dataset.name());
    }
    std::string hint = DidYouMean(name, known);
    return NotFound("there is no data set '", name, "'", hint.empty() ? "; 'tandem dataset list' shows all" : hint);
  }

  std::vector<wire::Dataset> ListDatasets() const override {
    absl::StatusOr<std::vector<wire::Dataset>> datasets = ReadDatasets();
    if (datasets.ok()) return *std::move(datasets);
    Log(LogLevel::kError, "the data sets could not be read", {{"error", MessageOf(datasets.status())}});
    return {};
  }

  absl::Status MoveDataset(std::string_view name, std::string_view path) override {
    TANDEM_ASSIGN_OR_RETURN(wire::Dataset dataset, GetDataset(name));
    dataset.set_path(std::string(path));
    return store_->Write([&](Transaction& transaction) {
      TANDEM_RETURN_IF_ERROR(transaction.Execute("DELETE FROM datasets WHERE name = ?", {std::string(name)}));
      return InsertDataset(transaction, dataset);
    });
  }

  absl::Status DeleteDataset(std::string_view name) override {
    TANDEM_RETURN_IF_ERROR(GetDataset(name).status());
    return store_->Write([&](Transaction& transaction) {
      return transaction.Execute("DELETE FROM datasets WHERE name = ?", {std::string(name)});
    });
  }

 private:
  // Before its record is written: its file is in use from then on.
  void Remember(const Version& version) {
    std::lock_guard lock(mutex_);
    artifacts_.insert(version.sha256);
  }

  absl::StatusOr<std::vector<Model>> ReadModels() const {
    std::vector<Model> models;
    TANDEM_RETURN_IF_ERROR(store_->Read([&](Transaction& transaction) -> absl::Status {
      TANDEM_ASSIGN_OR_RETURN(models, LoadModels(transaction));
      return absl::OkStatus();
    }));
    std::lock_guard lock(mutex_);
    last_models_ = models;
    for (const Model& model : models) {
      for (const Version& version : model.versions) artifacts_.insert(version.sha256);
    }
    return models;
  }

  absl::StatusOr<std::vector<wire::Dataset>> ReadDatasets() const {
    std::vector<wire::Dataset> datasets;
    TANDEM_RETURN_IF_ERROR(store_->Read([&](Transaction& transaction) -> absl::Status {
      TANDEM_ASSIGN_OR_RETURN(datasets, LoadDatasets(transaction));
      return absl::OkStatus();
    }));
    return datasets;
  }

  wire::AliasMove MakeMove(std::string_view alias, int32_t from, int32_t to, std::string_view who,
                           std::string_view why) const {
    wire::AliasMove move;
    move.set_alias(std::string(alias));
    move.set_from(from);
    move.set_to(to);
    move.set_who(std::string(who));
    move.set_why(std::string(why));
    move.set_when_ms(static_cast<double>(clock_->UnixMillis()));
    return move;
  }

  wire::ModelEvent MakeEvent(std::string_view kind, int32_t version, std::string_view who,
                             std::string_view text) const {
    wire::ModelEvent event;
    event.set_kind(std::string(kind));
    event.set_version(version);
    event.set_who(std::string(who));
    event.set_when_ms(static_cast<double>(clock_->UnixMillis()));
    event.set_text(std::string(text));
    return event;
  }

  // What is compared with champion ends when champion moves.
  absl::Status MoveWith(Transaction& transaction, const Model& model, const wire::AliasMove& move, bool rollback) {
    TANDEM_RETURN_IF_ERROR(MoveAlias(transaction, model.name, move, rollback));
    if (move.alias() != kChampion) return absl::OkStatus();
    std::string text = move.to() == 0 ? "ended: there is no champion any more"
                                      : StrCat("ended: version ", move.to(), " is champion now");
    return EndParts(transaction, model, {move.who(), clock_->UnixMillis()}, text);
  }

  absl::Status ChangeModel(std::string_view name,
                           const std::function<absl::Status(Transaction&, const Model&)>& change) {
    return store_->Write([&](Transaction& transaction) -> absl::Status {
      TANDEM_ASSIGN_OR_RETURN(Model model, LoadModel(transaction, name));
      return change(transaction, model);
    });
  }

  absl::Status ChangeVersion(std::string_view name, int32_t version, const std::function<void(Version&)>& edit) {
    return ChangeModel(name, [&](Transaction& transaction, const Model& model) -> absl::Status {
      TANDEM_ASSIGN_OR_RETURN(Version record, FindVersion(model, version));
      edit(record);
      return UpdateVersion(transaction, record);
    });
  }

  storage::Store* const store_;
  Clock* const clock_;
  std::vector<std::string> quarantined_at_open_;
  std::vector<CutShortLoad> cut_short_at_open_;
  mutable std::mutex mutex_;
  mutable std::vector<Model> last_models_;   // guarded by mutex_
  mutable std::set<std::string> artifacts_;  // guarded by mutex_; all that were ever seen
};

}  // namespace

absl::StatusOr<std::unique_ptr<Registry>> Registry::Open(storage::Store* store, Clock* clock) {
  auto registry = std::make_unique<SqliteRegistry>(store, clock);
  TANDEM_RETURN_IF_ERROR(registry->Recover());
  return registry;
}

}  // namespace tandem::registry
