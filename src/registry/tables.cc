#include "registry/tables.h"

#include <google/protobuf/util/json_util.h>

#include "absl/strings/str_join.h"
#include "base/status.h"
#include "base/text.h"
#include "storage/row_map.h"

namespace tandem::registry {
namespace {

using storage::Field;
using storage::Row;
using storage::Value;

const storage::RowMap<Version>& VersionColumns() {
  static const auto* const kColumns = new storage::RowMap<Version>({
      Field("model", &Version::model),
      Field("version", &Version::version),
      Field("sha256", &Version::sha256),
      Field("bytes", &Version::bytes),
      Field("created_ms", &Version::created_ms),
      Field("source", &Version::source),
      Field("created_by", &Version::created_by),
      Field("job", &Version::job),
      Field("attempt", &Version::attempt),
      Field("precision", &Version::precision),
      Field("format", &Version::format),
      Field("metrics_json", &Version::metrics_json),
      Field("deploy", &Version::deploy),
      Field("deploy_reason", &Version::deploy_reason),
      Field("promote_json", &Version::promote_json),
      Field("wanted", &Version::wanted),
      Field("quarantined", &Version::quarantined),
      Field("load_error", &Version::load_error),
      Field("served_engine", &Version::served_engine),
      Field("approval", &Version::approval),
      Field("approval_who", &Version::approval_who),
      Field("approval_comment", &Version::approval_comment),
      Field("approval_ms", &Version::approval_ms),
      Field("engine_report", &Version::engine_report),
  });
  return *kColumns;
}

// Models whose name matches `where`, complete.
absl::StatusOr<std::vector<Model>> SelectModels(Transaction& transaction, std::string_view where,
                                                const std::vector<Value>& values) {
  std::map<std::string, Model> models;
  TANDEM_RETURN_IF_ERROR(
      transaction.Query(StrCat("SELECT model, created_ms, enabled, config, canary, canary_percent, canary_since_ms, "
                               "shadow, shadow_percent, shadow_since_ms FROM models ",
                               where),
                        values, [&](const Row& row) {
                          Model& model = models[row.Text(0)];
                          model.name = row.Text(0);
                          model.created_ms = row.Int(1);
                          model.enabled = row.Int(2) != 0;
                          model.config = row.Text(3);
                          model.split = {.canary = static_cast<int32_t>(row.Int(4)),
                                         .canary_percent = row.Double(5),
                                         .canary_since_ms = row.Int(6),
                                         .shadow = static_cast<int32_t>(row.Int(7)),
                                         .shadow_percent = row.Double(8),
                                         .shadow_since_ms = row.Int(9)};
                        }));
  TANDEM_RETURN_IF_ERROR(transaction.Query(
      StrCat("SELECT model, alias, version FROM aliases ", where), values,
      [&](const Row& row) { models[row.Text(0)].aliases[row.Text(1)] = static_cast<int32_t>(row.Int(2)); }));
  TANDEM_RETURN_IF_ERROR(
      transaction.Query(StrCat("SELECT ", VersionColumns().Names(), " FROM versions ", where, " ORDER BY version"),
                        values, [&](const Row& row) {
                          Version version;
                          VersionColumns().Read(row, 0, version);
                          models[version.model].versions.push_back(std::move(version));
                        }));
  std::vector<Model> list;
  for (auto& [name, model] : models) list.push_back(std::move(model));
  return list;
}

absl::StatusOr<int32_t> NextNumber(Transaction& transaction, const std::string& model) {
  TANDEM_RETURN_IF_ERROR(
      transaction.Execute("INSERT INTO version_numbers(model, last) VALUES (?, 1) "
                          "ON CONFLICT(model) DO UPDATE SET last = last + 1",
                          {model}));
  int32_t number = 0;
  TANDEM_RETURN_IF_ERROR(transaction.Query("SELECT last FROM version_numbers WHERE model = ?", {model},
                                           [&](const Row& row) { number = static_cast<int32_t>(row.Int(0)); }));
  return number;
}

absl::Status CheckNewAttempt(Transaction& transaction, const Version& version) {
  if (version.job == 0) return absl::OkStatus();
  std::string found;
  TANDEM_RETURN_IF_ERROR(transaction.Query("SELECT model, version FROM versions WHERE job = ? AND attempt = ?",
                                           {int64_t{version.job}, int64_t{version.attempt}},
                                           [&](const Row& row) { found = StrCat(row.Text(0), "/", row.Int(1)); }));
  if (found.empty()) return absl::OkStatus();
  return AlreadyExists("attempt ", version.attempt, " of job ", version.job, " made version ", found, " before");
}

// Checks the version's name and attempt, and makes its model if needed.
absl::Status InsertModel(Transaction& transaction, const Version& version, int64_t now_ms) {
  TANDEM_RETURN_IF_ERROR(CheckName("model name", version.model));
  TANDEM_RETURN_IF_ERROR(CheckNewAttempt(transaction, version));
  return transaction.Execute(
      "INSERT INTO models(model, created_ms, enabled) VALUES (?, ?, 1) "
      "ON CONFLICT(model) DO NOTHING",
      {version.model, now_ms});
}

absl::Status InsertRow(Transaction& transaction, const Version& version) {
  return transaction.Execute(
      StrCat("INSERT INTO versions(", VersionColumns().Names(), ") VALUES (", VersionColumns().Marks(), ")"),
      VersionColumns().Values(version));
}

}  // namespace

const std::vector<storage::Migration>& Migrations() {
  static const auto* const kMigrations = new std::vector<storage::Migration>{{200, R"sql(
    CREATE TABLE models(model TEXT PRIMARY KEY, created_ms INTEGER NOT NULL, enabled INTEGER NOT NULL);
    CREATE TABLE version_numbers(model TEXT PRIMARY KEY, last INTEGER NOT NULL);
    CREATE TABLE versions(
      model TEXT NOT NULL REFERENCES models(model), version INTEGER NOT NULL,
      sha256 TEXT NOT NULL, bytes INTEGER NOT NULL, created_ms INTEGER NOT NULL,
      source TEXT NOT NULL, created_by TEXT NOT NULL, job INTEGER NOT NULL, attempt INTEGER NOT NULL,
      precision TEXT NOT NULL, metrics_json TEXT NOT NULL,
      deploy TEXT NOT NULL, deploy_reason TEXT NOT NULL, promote_json TEXT NOT NULL,
      wanted INTEGER NOT NULL, quarantined INTEGER NOT NULL, load_error TEXT NOT NULL,
      loading INTEGER NOT NULL DEFAULT 0,
      PRIMARY KEY(model, version));
    CREATE UNIQUE INDEX versions_by_attempt ON versions(job, attempt) WHERE job != 0;
    CREATE TABLE aliases(
      model TEXT NOT NULL, alias TEXT NOT NULL, version INTEGER NOT NULL,
      PRIMARY KEY(model, alias), FOREIGN KEY(model, version) REFERENCES versions(model, version));
    CREATE TABLE alias_moves(
      id INTEGER PRIMARY KEY AUTOINCREMENT, model TEXT NOT NULL, alias TEXT NOT NULL,
      from_version INTEGER NOT NULL, to_version INTEGER NOT NULL,
      who TEXT NOT NULL, when_ms INTEGER NOT NULL, why TEXT NOT NULL, rollback INTEGER NOT NULL);
    CREATE INDEX alias_moves_by_model ON alias_moves(model, alias))sql"},
                                                                             {210, R"sql(
    ALTER TABLE models ADD COLUMN config TEXT NOT NULL DEFAULT '';
    ALTER TABLE models ADD COLUMN canary INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE models ADD COLUMN canary_percent REAL NOT NULL DEFAULT 0;
    ALTER TABLE models ADD COLUMN canary_since_ms INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE models ADD COLUMN shadow INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE models ADD COLUMN shadow_percent REAL NOT NULL DEFAULT 0;
    ALTER TABLE models ADD COLUMN shadow_since_ms INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE versions ADD COLUMN approval TEXT NOT NULL DEFAULT '';
    ALTER TABLE versions ADD COLUMN approval_who TEXT NOT NULL DEFAULT '';
    ALTER TABLE versions ADD COLUMN approval_comment TEXT NOT NULL DEFAULT '';
    ALTER TABLE versions ADD COLUMN approval_ms INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE versions ADD COLUMN engine_report TEXT NOT NULL DEFAULT '';
    CREATE TABLE model_events(
      id INTEGER PRIMARY KEY AUTOINCREMENT, model TEXT NOT NULL, kind TEXT NOT NULL, version INTEGER NOT NULL,
      who TEXT NOT NULL, when_ms INTEGER NOT NULL, text TEXT NOT NULL, detail TEXT NOT NULL);
    CREATE INDEX model_events_by_model ON model_events(model))sql"},
                                                                             {220, R"sql(
    ALTER TABLE versions ADD COLUMN format TEXT NOT NULL DEFAULT 'onnx')sql"},
                                                                             {230, R"sql(
    ALTER TABLE versions ADD COLUMN loading_engine TEXT NOT NULL DEFAULT '';
    ALTER TABLE versions ADD COLUMN served_engine TEXT NOT NULL DEFAULT '')sql"},
                                                                             {300, R"sql(
    CREATE TABLE datasets(name TEXT PRIMARY KEY, json TEXT NOT NULL))sql"}};
  return *kMigrations;
}

absl::StatusOr<std::vector<Model>> LoadModels(Transaction& transaction) { return SelectModels(transaction, "", {}); }

absl::StatusOr<Model> LoadModel(Transaction& transaction, std::string_view name) {
  TANDEM_ASSIGN_OR_RETURN(std::vector<Model> models,
                          SelectModels(transaction, "WHERE model = ?1", {std::string(name)}));
  if (!models.empty()) return std::move(models[0]);
  std::vector<std::string> known;
  TANDEM_RETURN_IF_ERROR(
      transaction.Query("SELECT model FROM models", {}, [&](const Row& row) { known.push_back(row.Text(0)); }));
  std::string hint = DidYouMean(name, known);
  return NotFound("there is no model '", name, "'", hint.empty() ? "; 'tandem models list' shows all" : hint);
}

absl::StatusOr<Version> FindVersion(const Model& model, int32_t version) {
  std::vector<int32_t> known;
  for (const Version& candidate : model.versions) {
    if (candidate.version == version) return candidate;
    known.push_back(candidate.version);
  }
  if (known.empty()) return NotFound("model '", model.name, "' has no versions any more");
  if (known.size() > 10) known.erase(known.begin(), known.end() - 10);
  return NotFound("model '", model.name, "' has no version ", version, "; its newest are ", absl::StrJoin(known, ", "));
}

absl::StatusOr<Version> InsertVersion(Transaction& transaction, Version version, int64_t now_ms) {
  TANDEM_RETURN_IF_ERROR(InsertModel(transaction, version, now_ms));
  TANDEM_ASSIGN_OR_RETURN(version.version, NextNumber(transaction, version.model));
  version.created_ms = now_ms;
  TANDEM_RETURN_IF_ERROR(InsertRow(transaction, version));
  return version;
}

absl::StatusOr<Version> InsertNumberedVersion(Transaction& transaction, Version version, int64_t now_ms) {
  TANDEM_RETURN_IF_ERROR(InsertModel(transaction, version, now_ms));
  std::optional<std::string> holder;
  TANDEM_RETURN_IF_ERROR(transaction.Query("SELECT source FROM versions WHERE model = ? AND version = ?",
                                           {version.model, int64_t{version.version}},
                                           [&](const Row& row) { holder = row.Text(0); }));
  if (holder) {
    return AlreadyExists("model '", version.model, "' has a version ", version.version, " already (", *holder, ")");
  }
  TANDEM_RETURN_IF_ERROR(
      transaction.Execute("INSERT INTO version_numbers(model, last) VALUES (?1, ?2) "
                          "ON CONFLICT(model) DO UPDATE SET last = max(last, excluded.last)",
                          {version.model, int64_t{version.version}}));
  version.created_ms = now_ms;
  TANDEM_RETURN_IF_ERROR(InsertRow(transaction, version));
  return version;
}

absl::Status UpdateVersion(Transaction& transaction, const Version& version) {
  std::vector<Value> values = VersionColumns().Values(version);
  values.emplace_back(version.model);
  values.emplace_back(int64_t{version.version});
  return transaction.Execute(
      StrCat("UPDATE versions SET ", VersionColumns().Names(" = ?"), " WHERE model = ? AND version = ?"), values);
}

absl::Status MoveAlias(Transaction& transaction, std::string_view model, const wire::AliasMove& move, bool rollback) {
  std::string name(model);
  if (move.to() == 0) {
    TANDEM_RETURN_IF_ERROR(
        transaction.Execute("DELETE FROM aliases WHERE model = ? AND alias = ?", {name, move.alias()}));
  } else {
    TANDEM_RETURN_IF_ERROR(
        transaction.Execute("INSERT INTO aliases VALUES (?, ?, ?) "
                            "ON CONFLICT(model, alias) DO UPDATE SET version = excluded.version",
                            {name, move.alias(), int64_t{move.to()}}));
  }
  return transaction.Execute(
      "INSERT INTO alias_moves(model, alias, from_version, to_version, who, when_ms, why, rollback) "
      "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
      {name, move.alias(), int64_t{move.from()}, int64_t{move.to()}, move.who(), static_cast<int64_t>(move.when_ms()),
       move.why(), int64_t{rollback}});
}

absl::StatusOr<std::vector<wire::AliasMove>> LoadHistory(Transaction& transaction, std::string_view model) {
  std::vector<wire::AliasMove> history;
  TANDEM_RETURN_IF_ERROR(transaction.Query(
      "SELECT alias, from_version, to_version, who, when_ms, why FROM alias_moves WHERE model = ? ORDER BY id DESC",
      {std::string(model)}, [&](const Row& row) {
        wire::AliasMove& move = history.emplace_back();
        move.set_alias(row.Text(0));
        move.set_from(static_cast<int32_t>(row.Int(1)));
        move.set_to(static_cast<int32_t>(row.Int(2)));
        move.set_who(row.Text(3));
        move.set_when_ms(row.Double(4));
        move.set_why(row.Text(5));
      }));
  return history;
}

absl::StatusOr<std::vector<Move>> LoadMoves(Transaction& transaction, std::string_view model, std::string_view alias) {
  std::vector<Move> moves;
  TANDEM_RETURN_IF_ERROR(transaction.Query(
      "SELECT to_version, rollback FROM alias_moves WHERE model = ? AND alias = ? ORDER BY id",
      {std::string(model), std::string(alias)},
      [&](const Row& row) { moves.push_back({.to = static_cast<int32_t>(row.Int(0)), .rollback = row.Int(1) != 0}); }));
  return moves;
}

absl::Status SaveConfig(Transaction& transaction, std::string_view model, std::string_view text) {
  return transaction.Execute("UPDATE models SET config = ? WHERE model = ?", {std::string(text), std::string(model)});
}

absl::Status SaveSplit(Transaction& transaction, std::string_view model, const Split& split) {
  return transaction.Execute(
      "UPDATE models SET canary = ?, canary_percent = ?, canary_since_ms = ?, "
      "shadow = ?, shadow_percent = ?, shadow_since_ms = ? WHERE model = ?",
      {int64_t{split.canary}, split.canary_percent, split.canary_since_ms, int64_t{split.shadow}, split.shadow_percent,
       split.shadow_since_ms, std::string(model)});
}

absl::Status InsertEvent(Transaction& transaction, std::string_view model, const wire::ModelEvent& event) {
  return transaction.Execute(
      "INSERT INTO model_events(model, kind, version, who, when_ms, text, detail) VALUES (?, ?, ?, ?, ?, ?, ?)",
      {std::string(model), event.kind(), int64_t{event.version()}, event.who(), static_cast<int64_t>(event.when_ms()),
       event.text(), event.detail()});
}

absl::StatusOr<std::vector<wire::ModelEvent>> LoadEvents(Transaction& transaction, std::string_view model) {
  std::vector<wire::ModelEvent> events;
  TANDEM_RETURN_IF_ERROR(transaction.Query(
      "SELECT kind, version, who, when_ms, text, detail FROM model_events WHERE model = ? ORDER BY id DESC",
      {std::string(model)}, [&](const Row& row) {
        wire::ModelEvent& event = events.emplace_back();
        event.set_kind(row.Text(0));
        event.set_version(static_cast<int32_t>(row.Int(1)));
        event.set_who(row.Text(2));
        event.set_when_ms(row.Double(3));
        event.set_text(row.Text(4));
        event.set_detail(row.Text(5));
      }));
  return events;
}

absl::StatusOr<std::vector<wire::Dataset>> LoadDatasets(Transaction& transaction) {
  std::vector<wire::Dataset> datasets;
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  bool readable = true;
  TANDEM_RETURN_IF_ERROR(transaction.Query("SELECT json FROM datasets ORDER BY name", {}, [&](const Row& row) {
    readable =
        google::protobuf::util::JsonStringToMessage(row.Text(0), &datasets.emplace_back(), options).ok() && readable;
  }));
  if (!readable) return Internal("a data set's record in the database cannot be read");
  return datasets;
}

absl::Status InsertDataset(Transaction& transaction, const wire::Dataset& dataset) {
  std::string json;
  if (!google::protobuf::util::MessageToJsonString(dataset, &json).ok()) {
    return InvalidArgument("the record of data set '", dataset.name(), "' cannot be written as JSON");
  }
  return transaction.Execute("INSERT INTO datasets VALUES (?, ?)", {dataset.name(), json});
}

}  // namespace tandem::registry
