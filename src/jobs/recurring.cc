#include "jobs/recurring.h"

#include <algorithm>
#include <functional>
#include <map>
#include <mutex>
#include <optional>

#include "base/calendar.h"
#include "base/status.h"
#include "base/text.h"
#include "storage/row_map.h"
#include "telemetry/log.h"

namespace tandem::jobs {
namespace {

using storage::Field;
using storage::Row;
using storage::Value;
using Transaction = storage::Store::Transaction;

constexpr int64_t kOnTimeMs = 60'000;  // so late a run was not missed: a busy loop, a restart
constexpr int64_t kHourMs = 3'600'000;
constexpr int64_t kClockWasWrongMs = 24 * kHourMs;
constexpr size_t kMaxCatchUp = 24;

const storage::RowMap<RecurringRecord>& Columns() {
  static const auto* const kColumns = new storage::RowMap<RecurringRecord>({
      Field("name", &RecurringRecord::name),
      Field("spec", &RecurringRecord::spec),
      Field("submitted_by", &RecurringRecord::submitted_by),
      Field("cron", &RecurringRecord::cron),
      Field("time_zone", &RecurringRecord::time_zone),
      Field("catch_up", &RecurringRecord::catch_up),
      Field("overlap", &RecurringRecord::overlap),
      Field("paused", &RecurringRecord::paused),
      Field("created_ms", &RecurringRecord::created_ms),
      Field("next_ms", &RecurringRecord::next_ms),
      Field("last_ms", &RecurringRecord::last_ms),
      Field("last_job", &RecurringRecord::last_job),
      Field("note", &RecurringRecord::note),
  });
  return *kColumns;
}

absl::Status InsertRecord(Transaction& transaction, RecurringRecord& record) {
  TANDEM_RETURN_IF_ERROR(transaction.Execute(
      StrCat("INSERT INTO recurring_jobs(", Columns().Names(), ") VALUES (", Columns().Marks(), ")"),
      Columns().Values(record)));
  record.id = static_cast<int32_t>(transaction.LastInsertId());
  return absl::OkStatus();
}

absl::Status UpdateRecord(Transaction& transaction, const RecurringRecord& record) {
  std::vector<Value> values = Columns().Values(record);
  values.emplace_back(int64_t{record.id});
  return transaction.Execute(StrCat("UPDATE recurring_jobs SET ", Columns().Names(" = ?"), " WHERE id = ?"), values);
}

absl::Status NoSuchRecurring(int32_t id) {
  return NotFound("there is no recurring job ", id, "; 'tandem recurring list' shows all");
}

absl::StatusOr<Cron> CronOf(const RecurringRecord& record) {
  TANDEM_ASSIGN_OR_RETURN(absl::TimeZone zone, LoadZone(record.time_zone));
  return Cron::Parse(record.cron, zone);
}

absl::Status CheckWord(std::string_view what, const std::string& word, const std::vector<std::string>& known) {
  if (std::ranges::find(known, word) != known.end()) return absl::OkStatus();
  return InvalidArgument(what, " is '", word, "'; it must be one of ", known[0], ", ", known[1], ", ", known[2],
                         DidYouMean(word, known));
}

// All matches of [from_ms, now_ms], oldest first.
std::vector<int64_t> Matches(const Cron& cron, int64_t from_ms, int64_t now_ms) {
  std::vector<int64_t> times;
  for (std::optional<int64_t> at = cron.Next(from_ms - 1); at && *at <= now_ms; at = cron.Next(*at)) {
    times.push_back(*at);
  }
  return times;
}

// The newest matches of [from_ms, now_ms], at most kMaxCatchUp of them, oldest first. Looks back in growing steps, so
// that a minute's cron after a year costs no more than a day's.
std::vector<int64_t> NewestMatches(const Cron& cron, int64_t from_ms, int64_t now_ms) {
  for (int64_t back_ms = kHourMs;; back_ms *= 24) {
    int64_t begin_ms = std::max(from_ms, now_ms - back_ms);
    std::vector<int64_t> times = Matches(cron, begin_ms, now_ms);
    if (times.size() > kMaxCatchUp) times.erase(times.begin(), times.end() - kMaxCatchUp);
    if (times.size() == kMaxCatchUp || begin_ms == from_ms) return times;
  }
}

// A record with its parsed times; nothing where they cannot be computed here.
struct Recurring {
  RecurringRecord record;
  std::optional<Cron> cron;
};

bool ClockWasWrong(const RecurringRecord& record, int64_t now_ms) { return record.last_ms > now_ms + kClockWasWrongMs; }

bool WasMissed(int64_t due_ms, int64_t now_ms) { return now_ms - due_ms > kOnTimeMs; }

// The due times at `now_ms`, oldest first: the heart of this file, pure.
std::vector<int64_t> DueTimes(const Recurring& recurring, int64_t now_ms) {
  const RecurringRecord& record = recurring.record;
  if (record.paused || !recurring.cron) return {};
  if (ClockWasWrong(record, now_ms)) return NewestMatches(*recurring.cron, now_ms - kOnTimeMs, now_ms);
  if (record.next_ms == 0 || record.next_ms > now_ms) return {};
  std::vector<int64_t> times = NewestMatches(*recurring.cron, record.next_ms, now_ms);
  if (times.empty() || (record.catch_up == "all" && record.overlap != "cancel")) return times;
  if (WasMissed(times.back(), now_ms) && record.catch_up == "none") return {};
  return {times.back()};
}

int64_t NextAfter(const Recurring& recurring, int64_t after_ms) {
  return recurring.cron ? recurring.cron->Next(after_ms).value_or(0) : 0;
}

class SqliteRecurringStore : public RecurringStore {
 public:
  SqliteRecurringStore(storage::Store* store, Clock* clock) : store_(store), clock_(clock) {}

  absl::Status Load() {
    std::lock_guard lock(mutex_);
    return store_->Read([&](Transaction& transaction) {
      return transaction.Query(StrCat("SELECT id, ", Columns().Names(), " FROM recurring_jobs"), {},
                               [&](const Row& row) {
                                 RecurringRecord record;
                                 record.id = static_cast<int32_t>(row.Int(0));
                                 Columns().Read(row, 1, record);
                                 Keep(std::move(record));
                               });
    });
  }

  absl::StatusOr<RecurringRecord> Add(RecurringRecord record) override {
    TANDEM_RETURN_IF_ERROR(CheckName("name of the recurring job", record.name));
    TANDEM_RETURN_IF_ERROR(CheckWord("catch_up", record.catch_up, {"none", "one", "all"}));
    TANDEM_RETURN_IF_ERROR(CheckWord("overlap", record.overlap, {"skip", "queue", "cancel"}));
    TANDEM_ASSIGN_OR_RETURN(Cron cron, CronOf(record));
    const int64_t now_ms = clock_->UnixMillis();
    std::lock_guard lock(mutex_);
    record.id = 0;
    record.created_ms = now_ms;
    record.last_ms = 0;
    record.last_job = 0;
    for (const auto& [id, former] : all_) {
      if (former.record.name != record.name || former.record.submitted_by != record.submitted_by) continue;
      record.id = id;
      record.created_ms = former.record.created_ms;
      record.last_ms = former.record.last_ms;
      record.last_job = former.record.last_job;
    }
    int64_t from_ms = ClockWasWrong(record, now_ms) ? now_ms : std::max(now_ms, record.last_ms);
    record.next_ms = cron.Next(from_ms).value_or(0);
    if (record.next_ms == 0) return InvalidArgument("cron '", record.cron, "' never comes; correct the date");
    TANDEM_RETURN_IF_ERROR(store_->Write([&](Transaction& transaction) {
      return record.id == 0 ? InsertRecord(transaction, record) : UpdateRecord(transaction, record);
    }));
    Keep(record);
    return record;
  }

  absl::StatusOr<RecurringRecord> Get(int32_t id) const override {
    std::lock_guard lock(mutex_);
    auto found = all_.find(id);
    if (found == all_.end()) return NoSuchRecurring(id);
    return Shown(found->second);
  }

  std::vector<RecurringRecord> List() const override {
    std::lock_guard lock(mutex_);
    std::vector<RecurringRecord> records;
    records.reserve(all_.size());
    for (const auto& [id, recurring] : all_) records.push_back(Shown(recurring));
    return records;
  }

  absl::Status SetPaused(int32_t id, bool paused) override {
    return Change(id, [&](Recurring& recurring) { recurring.record.paused = paused; });
  }

  absl::Status Delete(int32_t id) override {
    std::lock_guard lock(mutex_);
    if (!all_.contains(id)) return NoSuchRecurring(id);
    TANDEM_RETURN_IF_ERROR(store_->Write([&](Transaction& transaction) {
      return transaction.Execute("DELETE FROM recurring_jobs WHERE id = ?", {int64_t{id}});
    }));
    all_.erase(id);
    return absl::OkStatus();
  }

  std::vector<DueRun> Due() const override {
    const int64_t now_ms = clock_->UnixMillis();
    std::lock_guard lock(mutex_);
    std::vector<DueRun> runs;
    for (const auto& [id, recurring] : all_) {
      const bool makes_up = recurring.record.catch_up == "all";
      for (int64_t due_ms : DueTimes(recurring, now_ms)) {
        runs.push_back(
            {recurring.record, due_ms, StrCat("recurring-", id, "-", due_ms), makes_up && WasMissed(due_ms, now_ms)});
      }
    }
    return runs;
  }

  absl::Status Handled(int32_t id, int64_t due_ms, int32_t job, std::string_view note) override {
    const int64_t now_ms = clock_->UnixMillis();
    return Change(id, [&](Recurring& recurring) {
      RecurringRecord& record = recurring.record;
      if (due_ms <= record.last_ms && !ClockWasWrong(record, now_ms)) return;
      record.last_ms = due_ms;
      record.next_ms = NextAfter(recurring, due_ms);
      if (job != 0) record.last_job = job;
      record.note = note;
    });
  }

 private:
  // REQUIRES: mutex_ is held.
  void Keep(RecurringRecord record) {
    absl::StatusOr<Cron> cron = CronOf(record);
    Recurring& recurring = all_[record.id];
    recurring.cron.reset();
    if (cron.ok()) {
      recurring.cron = *std::move(cron);
    } else {
      record.note = StrCat("never due: ", MessageOf(cron.status()));
      Log(LogLevel::kError, "a recurring job cannot run here",
          {{"recurring", record.id}, {"error", MessageOf(cron.status())}});
    }
    recurring.record = std::move(record);
  }

  // What was missed and will not be made up for is no longer next.
  RecurringRecord Shown(const Recurring& recurring) const {
    const int64_t now_ms = clock_->UnixMillis();
    RecurringRecord record = recurring.record;
    bool passed = record.next_ms != 0 && record.next_ms <= now_ms;
    if ((passed || ClockWasWrong(record, now_ms)) && DueTimes(recurring, now_ms).empty()) {
      record.next_ms = NextAfter(recurring, now_ms);
    }
    return record;
  }

  absl::Status Change(int32_t id, const std::function<void(Recurring&)>& edit) {
    std::lock_guard lock(mutex_);
    auto found = all_.find(id);
    if (found == all_.end()) return NoSuchRecurring(id);
    Recurring changed = found->second;
    edit(changed);
    TANDEM_RETURN_IF_ERROR(
        store_->Write([&](Transaction& transaction) { return UpdateRecord(transaction, changed.record); }));
    found->second = std::move(changed);
    return absl::OkStatus();
  }

  storage::Store* const store_;
  Clock* const clock_;
  mutable std::mutex mutex_;
  std::map<int32_t, Recurring> all_;  // guarded by mutex_
};

}  // namespace

const std::vector<storage::Migration>& RecurringMigrations() {
  static const auto* const kMigrations = new std::vector<storage::Migration>{{120, R"sql(
    CREATE TABLE recurring_jobs(
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      name TEXT NOT NULL, spec TEXT NOT NULL, submitted_by TEXT NOT NULL,
      cron TEXT NOT NULL, time_zone TEXT NOT NULL, catch_up TEXT NOT NULL, overlap TEXT NOT NULL,
      paused INTEGER NOT NULL, created_ms INTEGER NOT NULL, next_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL,
      last_job INTEGER NOT NULL, note TEXT NOT NULL,
      UNIQUE(name, submitted_by)))sql"}};
  return *kMigrations;
}

absl::StatusOr<std::unique_ptr<RecurringStore>> RecurringStore::Open(storage::Store* store, Clock* clock) {
  auto recurring = std::make_unique<SqliteRecurringStore>(store, clock);
  TANDEM_RETURN_IF_ERROR(recurring->Load());
  return recurring;
}

}  // namespace tandem::jobs
