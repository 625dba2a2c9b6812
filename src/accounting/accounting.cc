#include "accounting/accounting.h"

#include <array>
#include <cmath>
#include <mutex>
#include <utility>

#include "absl/time/time.h"
#include "base/status.h"

namespace tandem::accounting {
namespace {

using storage::Value;
using Transaction = storage::Store::Transaction;

constexpr int64_t kDayMs = 86'400'000;

struct Column {
  std::string_view name;
  double Amount::*member;
};
constexpr std::array<Column, 5> kColumns = {{{"cpu_seconds", &Amount::cpu_seconds},
                                             {"memory_byte_seconds", &Amount::memory_byte_seconds},
                                             {"disk_read_bytes", &Amount::disk_read_bytes},
                                             {"disk_written_bytes", &Amount::disk_written_bytes},
                                             {"requests", &Amount::requests}}};

std::string DayOf(int64_t ms) { return absl::FormatTime("%Y-%m-%d", absl::FromUnixMillis(ms), absl::UTCTimeZone()); }

// What can be added up: the counter of a group that was made anew goes back, and must not spoil a day.
Amount Clean(const Amount& amount) {
  Amount clean = amount;
  for (const Column& column : kColumns) {
    double& value = clean.*column.member;
    if (!std::isfinite(value) || value < 0) value = 0;
  }
  return clean;
}

bool IsNothing(const Amount& amount) {
  for (const Column& column : kColumns) {
    if (amount.*column.member != 0) return false;
  }
  return true;
}

const std::string& UpsertSql() {
  static const auto* const kSql = [] {
    std::string names, marks, sums;
    for (const Column& column : kColumns) {
      StrAppend(&names, ", ", column.name);
      marks += ", ?";
      StrAppend(&sums, sums.empty() ? "" : ", ", column.name, " = ", column.name, " + excluded.", column.name);
    }
    return new std::string(StrCat("INSERT INTO usage_days(day, side, kind, name", names, ") VALUES (?, ?, ?, ?", marks,
                                  ") ON CONFLICT(day, side, kind, name) DO UPDATE SET ", sums));
  }();
  return *kSql;
}

// The statement of a query, with its values.
struct Statement {
  std::string sql;
  std::vector<Value> values;
};

Statement StatementOf(const Query& query) {
  std::string sums, where;
  for (const Column& column : kColumns) StrAppend(&sums, ", sum(", column.name, ")");
  Statement statement;
  auto filter = [&](std::string_view condition, const std::string& value) {
    StrAppend(&where, where.empty() ? " WHERE " : " AND ", condition);
    statement.values.emplace_back(value);
  };
  if (query.from_ms != 0) filter("day >= ?", DayOf(query.from_ms));
  if (query.to_ms != 0) filter("day <= ?", DayOf(query.to_ms - 1));
  if (!query.side.empty()) filter("side = ?", query.side);
  if (!query.kind.empty()) filter("kind = ?", query.kind);
  if (!query.name.empty()) filter("name = ?", query.name);
  statement.sql = StrCat("SELECT ", query.by_day ? "day" : "''", " AS a, side AS b, ", query.by_name ? "kind" : "''",
                         " AS c, ", query.by_name ? "name" : "''", " AS d", sums, " FROM usage_days", where,
                         " GROUP BY a, b, c, d ORDER BY a, b, sum(cpu_seconds) DESC, c, d");
  return statement;
}

// Locks: the store is written to with prune_mutex_ held, so that one call prunes; it has one writer in any case.
class SqliteAccounting : public Accounting {
 public:
  SqliteAccounting(storage::Store* store, int keep_days) : store_(store), keep_days_(keep_days) {}

  absl::Status Add(int64_t now_ms, const std::vector<Entry>& entries) override {
    std::vector<Entry> noted;
    {
      std::lock_guard lock(notes_mutex_);
      noted.swap(notes_);
    }
    std::vector<Entry> used;
    for (const std::vector<Entry>* some : {&entries, &std::as_const(noted)}) {
      for (const Entry& entry : *some) {
        Entry clean = {entry.side, entry.kind, entry.name, Clean(entry.amount)};
        if (!IsNothing(clean.amount)) used.push_back(std::move(clean));
      }
    }
    absl::Status written = used.empty() ? absl::OkStatus() : Write(now_ms, used);
    if (written.ok()) return written;
    std::lock_guard lock(notes_mutex_);
    notes_.insert(notes_.end(), std::make_move_iterator(noted.begin()), std::make_move_iterator(noted.end()));
    return written;
  }

  void Note(Entry entry) override {
    std::lock_guard lock(notes_mutex_);
    notes_.push_back(std::move(entry));
  }

  absl::StatusOr<std::vector<Row>> Read(const Query& query) const override {
    if (query.from_ms < 0 || query.to_ms < 0 || (query.to_ms != 0 && query.to_ms <= query.from_ms)) {
      return InvalidArgument("the time asked for ends before it begins (from ", query.from_ms, " ms to ", query.to_ms,
                             " ms since 1970); give a later end");
    }
    Statement statement = StatementOf(query);
    std::vector<Row> rows;
    TANDEM_RETURN_IF_ERROR(store_->Read([&](Transaction& transaction) {
      return transaction.Query(statement.sql, statement.values, [&](const storage::Row& from) {
        Row row = {from.Text(0), from.Text(1), from.Text(2), from.Text(3), {}};
        int column = 4;
        for (const Column& sum : kColumns) row.amount.*sum.member = from.Double(column++);
        rows.push_back(std::move(row));
      });
    }));
    return rows;
  }

 private:
  // A clock that is years ahead for a moment (a machine that starts without the time) must not cost all accounts: old
  // days go only where there is one that is not, before today.
  absl::Status Prune(int64_t now_ms, Transaction* transaction) const {
    const std::string first_kept = DayOf(now_ms - keep_days_ * kDayMs);
    return transaction->Execute(
        "DELETE FROM usage_days WHERE day < ? AND EXISTS (SELECT 1 FROM usage_days WHERE day >= ? AND day < ?)",
        {first_kept, first_kept, DayOf(now_ms)});
  }

  absl::Status Write(int64_t now_ms, const std::vector<Entry>& used) {
    const std::string today = DayOf(now_ms);
    std::lock_guard lock(prune_mutex_);
    TANDEM_RETURN_IF_ERROR(store_->Write([&](Transaction& transaction) -> absl::Status {
      for (const Entry& entry : used) {
        std::vector<Value> values = {today, entry.side, entry.kind, entry.name};
        for (const Column& column : kColumns) values.emplace_back(entry.amount.*column.member);
        TANDEM_RETURN_IF_ERROR(transaction.Execute(UpsertSql(), values));
      }
      if (today == pruned_on_) return absl::OkStatus();
      return Prune(now_ms, &transaction);
    }));
    pruned_on_ = today;
    return absl::OkStatus();
  }

  storage::Store* const store_;
  const int64_t keep_days_;
  std::mutex prune_mutex_;
  std::string pruned_on_;  // guarded by prune_mutex_; the day of the last pruning
  std::mutex notes_mutex_;
  std::vector<Entry> notes_;  // guarded by notes_mutex_
};

}  // namespace

Entry ModelEntry(std::string_view model, int32_t version, const Amount& amount) {
  return {.side = "serving", .kind = "model", .name = StrCat(model, "/", version), .amount = amount};
}

const std::vector<storage::Migration>& Migrations() {
  static const auto* const kMigrations = new std::vector<storage::Migration>{{500, R"sql(
    CREATE TABLE usage_days(
      day TEXT NOT NULL, side TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL,
      cpu_seconds REAL NOT NULL, memory_byte_seconds REAL NOT NULL,
      disk_read_bytes REAL NOT NULL, disk_written_bytes REAL NOT NULL, requests REAL NOT NULL,
      PRIMARY KEY(day, side, kind, name)) WITHOUT ROWID)sql"}};
  return *kMigrations;
}

absl::StatusOr<std::unique_ptr<Accounting>> Accounting::Open(storage::Store* store, int keep_days) {
  if (keep_days < 1) return InvalidArgument("accounts are to be kept for ", keep_days, " days; keep 1 or more");
  return std::make_unique<SqliteAccounting>(store, keep_days);
}

}  // namespace tandem::accounting
