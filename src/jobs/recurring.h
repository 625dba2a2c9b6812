#pragma once
// Recurring jobs: a spec that is submitted at the times of a cron expression. Durable; the daemon asks what is due.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "storage/store.h"

namespace tandem::jobs {

struct RecurringRecord {
  int32_t id = 0;
  std::string name, spec, submitted_by;
  std::string cron, time_zone;
  std::string catch_up = "one";  // none, one, all (at most 24): runs missed while the server was down or paused
  std::string overlap = "skip";  // skip, queue, cancel: what happens when the former run has not ended
  bool paused = false;
  int64_t created_ms = 0;
  int64_t next_ms = 0;  // 0 = never again
  int64_t last_ms = 0;  // the time it was last due; 0 = never
  int32_t last_job = 0;
  std::string note;  // what happened then, in words
};

// One submission that is due. The idempotency key is unique for (recurring job, due time), so that a daemon that dies
// between submitting and recording submits once.
struct DueRun {
  RecurringRecord record;
  int64_t due_ms = 0;
  std::string idempotency_key;
  bool made_up = false;  // it was missed, and catch_up is all
};

const std::vector<storage::Migration>& RecurringMigrations();  // ids 120..129

// Thread-safe. Durable when the call returns. Not to be called inside a transaction of the store.
class RecurringStore {
 public:
  static absl::StatusOr<std::unique_ptr<RecurringStore>> Open(storage::Store* store, Clock* clock);
  virtual ~RecurringStore() = default;

  // A record whose zone this machine no longer knows is kept, is never due, and says so in its note.
  // Checks cron and zone, computes next_ms. A record of the same name and owner is replaced (its id stays, and what it
  // last did; it goes on from now).
  virtual absl::StatusOr<RecurringRecord> Add(RecurringRecord record) = 0;
  virtual absl::StatusOr<RecurringRecord> Get(int32_t id) const = 0;
  virtual std::vector<RecurringRecord> List() const = 0;
  virtual absl::Status SetPaused(int32_t id, bool paused) = 0;
  virtual absl::Status Delete(int32_t id) = 0;

  // What is due at the clock's time, by the catch-up rule, to be handled in this order; changes nothing. A run that is
  // at most a minute late was not missed. Of several missed runs, none is due, or the newest one, or all (the newest
  // 24; only the newest where overlap is cancel, since each would cancel the one before). A clock that jumped back
  // makes nothing due twice (last_ms counts); one that jumped forward is a gap that the catch-up rule fills. When the
  // clock is found to be more than a day before last_ms, it was wrong then, and what comes next by the clock is due;
  // the idempotency key keeps the same run from being submitted again.
  virtual std::vector<DueRun> Due() const = 0;
  // The run of due_ms was handled: submitted as `job`, or (0) not, `note` says why. Moves next_ms on. A run before
  // last_ms was handled already: nothing happens.
  virtual absl::Status Handled(int32_t id, int64_t due_ms, int32_t job, std::string_view note) = 0;
};

}  // namespace tandem::jobs
