#include "jobs/job_table.h"

#include <google/protobuf/util/json_util.h>

#include "base/status.h"
#include "storage/row_map.h"

namespace tandem::jobs {
namespace {

using storage::Field;
using storage::Row;
using storage::Value;

State StateIn(const Row& row, int column) { return ParseState(row.Text(column)).value_or(State::kFailed); }

Value KeyValue(const JobRecord& record) {
  // NULL, since empty keys are not unique.
  return record.idempotency_key.empty() ? Value(nullptr) : Value(record.idempotency_key);
}

Value ProgressValue(const JobRecord& record) {
  std::string json;
  bool ok = google::protobuf::util::MessageToJsonString(record.progress, &json).ok();
  return ok ? json : std::string("{}");
}

void SetProgressFrom(JobRecord& record, const Row& row, int column) {
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  if (!google::protobuf::util::JsonStringToMessage(row.Text(column), &record.progress, options).ok()) {
    record.progress.Clear();
  }
}

const storage::RowMap<JobRecord>& Columns() {
  static const auto* const kColumns = new storage::RowMap<JobRecord>({
      Field("name", &JobRecord::name),
      Field("kind", &JobRecord::kind),
      Field("spec", &JobRecord::spec),
      {"idempotency_key", KeyValue, [](JobRecord& r, const Row& row, int c) { r.idempotency_key = row.Text(c); }},
      Field("submitted_by", &JobRecord::submitted_by),
      {"state", [](const JobRecord& r) -> Value { return std::string(StateName(r.state)); },
       [](JobRecord& r, const Row& row, int c) { r.state = StateIn(row, c); }},
      Field("reason", &JobRecord::reason),
      Field("attempt", &JobRecord::attempt),
      Field("failures", &JobRecord::failures),
      Field("priority", &JobRecord::priority),
      Field("cancel_requested", &JobRecord::cancel_requested),
      Field("pause_requested", &JobRecord::pause_requested),
      Field("created_ms", &JobRecord::created_ms),
      Field("started_ms", &JobRecord::started_ms),
      Field("finished_ms", &JobRecord::finished_ms),
      Field("not_before_ms", &JobRecord::not_before_ms),
      {"progress", ProgressValue, SetProgressFrom},
      Field("model", &JobRecord::model),
      Field("version", &JobRecord::version),
      Field("metrics_json", &JobRecord::metrics_json),
      Field("threads", &JobRecord::threads),
      Field("memory_bytes", &JobRecord::memory_bytes),
      Field("release_requested", &JobRecord::release_requested),
      Field("window", &JobRecord::window),
      Field("recurring", &JobRecord::recurring),
      Field("time_limit_ms", &JobRecord::time_limit_ms),
      Field("ran_ms", &JobRecord::ran_ms),
  });
  return *kColumns;
}

JobRecord FromRow(const Row& row) {
  JobRecord record;
  record.id = static_cast<int32_t>(row.Int(0));
  Columns().Read(row, 1, record);
  return record;
}

absl::StatusOr<std::vector<JobRecord>> Select(storage::Store::Transaction& transaction, std::string_view where,
                                              const std::vector<Value>& values) {
  static const std::string kSelect = StrCat("SELECT id, ", Columns().Names(), " FROM jobs ");
  std::vector<JobRecord> records;
  TANDEM_RETURN_IF_ERROR(
      transaction.Query(StrCat(kSelect, where), values, [&](const Row& row) { records.push_back(FromRow(row)); }));
  return records;
}

absl::StatusOr<std::optional<JobRecord>> SelectOne(storage::Store::Transaction& transaction, std::string_view where,
                                                   const Value& value) {
  TANDEM_ASSIGN_OR_RETURN(std::vector<JobRecord> records, Select(transaction, where, {value}));
  return records.empty() ? std::nullopt : std::optional(std::move(records[0]));
}

}  // namespace

const std::vector<storage::Migration>& Migrations() {
  static const auto* const kMigrations = new std::vector<storage::Migration>{{100, R"sql(
    CREATE TABLE jobs(
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      name TEXT NOT NULL, kind TEXT NOT NULL, spec TEXT NOT NULL,
      idempotency_key TEXT UNIQUE,
      submitted_by TEXT NOT NULL,
      state TEXT NOT NULL, reason TEXT NOT NULL,
      attempt INTEGER NOT NULL, failures INTEGER NOT NULL, priority INTEGER NOT NULL,
      cancel_requested INTEGER NOT NULL, pause_requested INTEGER NOT NULL,
      created_ms INTEGER NOT NULL, started_ms INTEGER NOT NULL, finished_ms INTEGER NOT NULL,
      not_before_ms INTEGER NOT NULL,
      progress TEXT NOT NULL,
      model TEXT NOT NULL, version INTEGER NOT NULL, metrics_json TEXT NOT NULL,
      threads INTEGER NOT NULL, memory_bytes INTEGER NOT NULL))sql"},
                                                                             {110, R"sql(
    ALTER TABLE jobs ADD COLUMN release_requested INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN window TEXT NOT NULL DEFAULT '';
    ALTER TABLE jobs ADD COLUMN recurring INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN time_limit_ms INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN ran_ms INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE job_events(
      id INTEGER PRIMARY KEY,
      job INTEGER NOT NULL, when_ms INTEGER NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL);
    CREATE INDEX job_events_of_job ON job_events(job, id))sql"}};
  return *kMigrations;
}

absl::StatusOr<int32_t> InsertJob(storage::Store::Transaction& transaction, const JobRecord& record) {
  TANDEM_RETURN_IF_ERROR(transaction.Execute(
      StrCat("INSERT INTO jobs(", Columns().Names(), ") VALUES (", Columns().Marks(), ")"), Columns().Values(record)));
  return static_cast<int32_t>(transaction.LastInsertId());
}

absl::Status UpdateJob(storage::Store::Transaction& transaction, const JobRecord& record) {
  static const std::string kUpdate = StrCat("UPDATE jobs SET ", Columns().Names(" = ?"), " WHERE id = ?");
  std::vector<Value> values = Columns().Values(record);
  values.emplace_back(int64_t{record.id});
  return transaction.Execute(kUpdate, values);
}

absl::StatusOr<std::optional<JobRecord>> LoadJob(storage::Store::Transaction& transaction, int32_t id) {
  return SelectOne(transaction, "WHERE id = ?", int64_t{id});
}

absl::StatusOr<std::optional<JobRecord>> LoadJobByKey(storage::Store::Transaction& transaction, std::string_view key) {
  return SelectOne(transaction, "WHERE idempotency_key = ?", std::string(key));
}

absl::StatusOr<std::vector<JobRecord>> LoadJobs(storage::Store::Transaction& transaction) {
  return Select(transaction, "ORDER BY id", {});
}

absl::Status AppendEvent(storage::Store::Transaction& transaction, const JobRecord& record, int64_t now_ms) {
  TANDEM_RETURN_IF_ERROR(
      transaction.Execute("INSERT INTO job_events(job, when_ms, state, reason) VALUES (?, ?, ?, ?)",
                          {int64_t{record.id}, now_ms, std::string(StateName(record.state)), record.reason}));
  return transaction.Execute(
      "DELETE FROM job_events WHERE job = ?1 AND id <= "
      "(SELECT id FROM job_events WHERE job = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
      {int64_t{record.id}, kKeptEvents});
}

absl::StatusOr<std::vector<JobEvent>> LoadEvents(storage::Store::Transaction& transaction, int32_t id) {
  std::vector<JobEvent> events;
  TANDEM_RETURN_IF_ERROR(
      transaction.Query("SELECT when_ms, state, reason FROM job_events WHERE job = ? ORDER BY id DESC", {int64_t{id}},
                        [&](const Row& row) {
                          events.push_back({row.Int(0), StateIn(row, 1), row.Text(2)});
                        }));
  return events;
}

absl::Status DeleteJob(storage::Store::Transaction& transaction, int32_t id) {
  TANDEM_RETURN_IF_ERROR(transaction.Execute("DELETE FROM job_events WHERE job = ?", {int64_t{id}}));
  return transaction.Execute("DELETE FROM jobs WHERE id = ?", {int64_t{id}});
}

}  // namespace tandem::jobs
