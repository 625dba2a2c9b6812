#include "jobs/job_store.h"

#include <functional>
#include <map>
#include <mutex>
#include <set>

#include "base/status.h"
#include "jobs/job_table.h"
#include "telemetry/log.h"

namespace tandem::jobs {
namespace {

using Transaction = storage::Store::Transaction;

absl::Status NoSuchJob(int32_t id) { return NotFound("there is no job ", id, "; 'tandem jobs list' shows all"); }

absl::Status CheckArrow(const JobRecord& record, State to) {
  if (CanMove(record.state, to)) return absl::OkStatus();
  return FailedPrecondition("job ", record.id, " is ", StateName(record.state), " and cannot become ", StateName(to));
}

bool HasTrainer(State state) { return state != State::kQueued && !IsEnd(state); }
// Whether time in this state counts as running.
bool Runs(State state) { return HasTrainer(state) && state != State::kPaused; }

// The one place that changes the state; what belongs to a state comes and goes with it.
void EnterState(JobRecord& record, State to, std::string_view reason, int64_t now_ms) {
  record.state = to;
  record.reason = reason;
  if (!HasTrainer(to)) {
    record.pid = 0;
    record.release_requested = false;
  }
  if (to == State::kQueued) record.not_before_ms = 0;
  if (to == State::kStarting && record.started_ms == 0) record.started_ms = now_ms;
  if (IsEnd(to)) {
    record.finished_ms = now_ms;
    record.pause_requested = false;
  }
}

// What a job that a dead daemon left becomes; false if it stays as it is.
bool Recover(JobRecord& record, int64_t now_ms) {
  bool waiting = record.state == State::kQueued;
  if (IsEnd(record.state) || (waiting && !record.cancel_requested)) return false;
  if (record.cancel_requested) {
    EnterState(record, State::kCancelled, "cancelled; the server restarted meanwhile", now_ms);
    return true;
  }
  std::string from = record.progress.step() > 0
                         ? StrCat("goes on from its last checkpoint (step ", record.progress.step(), ")")
                         : "goes on from its last checkpoint, if it had one";
  EnterState(record, State::kQueued, StrCat("the server restarted; ", from), now_ms);
  return true;
}

// Locks: change_mutex_ is held over a change of the store and of the memory after it, so that both see changes in the
// same order. mutex_ guards the memory and is never held over a call of the store, so that FinishInTransaction, which
// runs inside another one's transaction, may take it.
class SqliteJobStore : public JobStore {
 public:
  SqliteJobStore(storage::Store* store, Clock* clock) : store_(store), clock_(clock) {}

  absl::Status Load(std::vector<std::string>* recovered) {
    return store_->Write([&](Transaction& transaction) -> absl::Status {
      TANDEM_ASSIGN_OR_RETURN(std::vector<JobRecord> records, LoadJobs(transaction));
      for (JobRecord& record : records) {
        std::string_view before = StateName(record.state);
        if (Recover(record, clock_->UnixMillis())) {
          TANDEM_RETURN_IF_ERROR(UpdateJob(transaction, record));
          TANDEM_RETURN_IF_ERROR(AppendEvent(transaction, record, clock_->UnixMillis()));
          recovered->push_back(StrCat("job ", record.id, " (", record.name, ") was ", before, ", is now ",
                                      StateName(record.state), ": ", record.reason));
        }
        std::lock_guard lock(mutex_);
        Keep(std::move(record), 0);
      }
      return absl::OkStatus();
    });
  }

  absl::StatusOr<JobRecord> Submit(JobRecord record) override {
    record.state = State::kQueued;
    record.created_ms = clock_->UnixMillis();
    std::lock_guard change(change_mutex_);
    TANDEM_RETURN_IF_ERROR(store_->Write([&](Transaction& transaction) -> absl::Status {
      if (!record.idempotency_key.empty()) {
        TANDEM_ASSIGN_OR_RETURN(std::optional<JobRecord> same, LoadJobByKey(transaction, record.idempotency_key));
        if (same) {
          record.id = same->id;
          return absl::OkStatus();
        }
      }
      TANDEM_ASSIGN_OR_RETURN(record.id, InsertJob(transaction, record));
      return AppendEvent(transaction, record, record.created_ms);
    }));
    std::lock_guard lock(mutex_);
    if (!jobs_.contains(record.id)) Keep(record, 0);
    return Whole(jobs_[record.id]);
  }

  absl::StatusOr<JobRecord> Get(int32_t id) const override {
    std::lock_guard lock(mutex_);
    auto found = jobs_.find(id);
    if (found == jobs_.end()) return NoSuchJob(id);
    return Whole(found->second);
  }

  std::vector<JobRecord> List() const override {
    std::lock_guard lock(mutex_);
    std::vector<JobRecord> records;
    records.reserve(jobs_.size());
    for (auto it = jobs_.rbegin(); it != jobs_.rend(); ++it) records.push_back(Whole(it->second));
    return records;
  }

  std::vector<JobRecord> Active() const override {
    std::lock_guard lock(mutex_);
    std::vector<JobRecord> records;
    records.reserve(active_.size());
    for (int32_t id : active_) records.push_back(Now(jobs_.at(id)));
    return records;
  }

  absl::StatusOr<std::vector<JobEvent>> Events(int32_t id) const override {
    std::vector<JobEvent> events;
    TANDEM_RETURN_IF_ERROR(store_->Read([&](Transaction& transaction) -> absl::Status {
      TANDEM_ASSIGN_OR_RETURN(events, LoadEvents(transaction, id));
      return absl::OkStatus();
    }));
    std::lock_guard lock(mutex_);
    if (!jobs_.contains(id)) return NoSuchJob(id);
    return events;
  }

  absl::Status Move(int32_t id, State to, std::string_view reason) override {
    if (SetReasonOnly(id, to, reason)) return absl::OkStatus();
    return Change(id, [&](JobRecord& record) {
      TANDEM_RETURN_IF_ERROR(CheckArrow(record, to));
      EnterState(record, to, reason, clock_->UnixMillis());
      return absl::OkStatus();
    });
  }

  absl::Status Starting(int32_t id) override {
    return Change(id, [&](JobRecord& record) {
      TANDEM_RETURN_IF_ERROR(CheckArrow(record, State::kStarting));
      if (record.cancel_requested) return FailedPrecondition("job ", id, " is to be cancelled and cannot start");
      EnterState(record, State::kStarting, "", clock_->UnixMillis());
      ++record.attempt;
      record.progress.clear_phase();  // the former attempt's last word
      return absl::OkStatus();
    });
  }

  absl::Status RequestCancel(int32_t id) override {
    return Change(id, [&](JobRecord& record) {
      if (IsEnd(record.state)) return FailedPrecondition("job ", id, " has ended already: ", StateName(record.state));
      record.cancel_requested = true;
      return absl::OkStatus();
    });
  }

  absl::Status RequestPause(int32_t id, bool pause) override {
    return Change(id, [&](JobRecord& record) {
      if (IsEnd(record.state)) return FailedPrecondition("job ", id, " has ended already: ", StateName(record.state));
      record.pause_requested = pause;
      return absl::OkStatus();
    });
  }

  absl::Status Release(int32_t id, std::string_view reason) override {
    return Change(id, [&](JobRecord& record) {
      if (record.release_requested) return absl::OkStatus();
      if (record.state == State::kQueued) return FailedPrecondition("job ", id, " is queued and holds nothing");
      TANDEM_RETURN_IF_ERROR(CheckArrow(record, State::kStopping));
      EnterState(record, State::kStopping, reason, clock_->UnixMillis());
      record.release_requested = true;
      return absl::OkStatus();
    });
  }

  absl::Status Postpone(int32_t id, std::string_view reason, int64_t delay_ms) override {
    return QueueAgain(id, reason, delay_ms, 0);
  }
  absl::Status Retry(int32_t id, std::string_view reason, int64_t delay_ms) override {
    return QueueAgain(id, reason, delay_ms, 1);
  }

  void SetPid(int32_t id, int32_t pid) override {
    std::lock_guard lock(mutex_);
    auto found = jobs_.find(id);
    if (found != jobs_.end()) found->second.record.pid = pid;
  }

  void SetProgress(int32_t id, const wire::Progress& progress) override {
    bool checkpoint = false;
    {
      std::lock_guard lock(mutex_);
      auto found = jobs_.find(id);
      if (found == jobs_.end()) return;
      wire::Progress& known = found->second.record.progress;
      checkpoint = progress.phase() == "checkpointing" && known.phase() != progress.phase();
      known = progress;
    }
    if (!checkpoint) return;
    absl::Status kept = KeepProgress(id);
    if (!kept.ok()) Log(LogLevel::kWarning, "progress was not kept", {{"job", id}, {"error", MessageOf(kept)}});
  }

  absl::Status KeepProgress(int32_t id) override {
    return Change(id, [](JobRecord&) { return absl::OkStatus(); });
  }

  absl::Status SetMetrics(int32_t id, std::string_view metrics_json) override {
    return Change(id, [&](JobRecord& record) {
      record.metrics_json = metrics_json;
      return absl::OkStatus();
    });
  }

  absl::Status FinishInTransaction(Transaction& transaction, int32_t id, int32_t attempt, std::string_view model,
                                   int32_t version, std::string_view metrics_json) override {
    TANDEM_ASSIGN_OR_RETURN(JobRecord record, LoadWithMemory(transaction, id, clock_->MonotonicNanos()));
    if (record.state == State::kSucceeded && record.attempt == attempt) {
      return AlreadyExists("attempt ", attempt, " of job ", id, " was finished before");
    }
    TANDEM_RETURN_IF_ERROR(CheckArrow(record, State::kSucceeded));
    if (record.attempt != attempt) {
      return FailedPrecondition("job ", id, " is at attempt ", record.attempt, "; the result of attempt ", attempt,
                                " comes too late");
    }
    EnterState(record, State::kSucceeded, "", clock_->UnixMillis());
    record.model = model;
    record.version = version;
    record.metrics_json = metrics_json;
    TANDEM_RETURN_IF_ERROR(UpdateJob(transaction, record));
    return AppendEvent(transaction, record, record.finished_ms);
  }

  absl::Status Reload(int32_t id) override {
    std::lock_guard change(change_mutex_);
    std::optional<JobRecord> record;
    TANDEM_RETURN_IF_ERROR(store_->Read([&](Transaction& transaction) -> absl::Status {
      TANDEM_ASSIGN_OR_RETURN(record, LoadJob(transaction, id));
      return absl::OkStatus();
    }));
    if (!record) return NoSuchJob(id);
    std::lock_guard lock(mutex_);
    const Held& before = jobs_[id];
    if (HasTrainer(record->state)) record->pid = before.record.pid;
    Keep(*std::move(record), before.since_nanos);
    return absl::OkStatus();
  }

  absl::Status Delete(int32_t id) override {
    std::lock_guard change(change_mutex_);
    TANDEM_RETURN_IF_ERROR(store_->Write([&](Transaction& transaction) -> absl::Status {
      TANDEM_ASSIGN_OR_RETURN(std::optional<JobRecord> record, LoadJob(transaction, id));
      if (!record) return NoSuchJob(id);
      if (!IsEnd(record->state)) {
        return FailedPrecondition("job ", id, " is ", StateName(record->state),
                                  "; cancel it first (tandem jobs cancel ", id, ")");
      }
      return DeleteJob(transaction, id);
    }));
    std::lock_guard lock(mutex_);
    jobs_.erase(id);
    return absl::OkStatus();
  }

 private:
  // A job in memory. What is long stands apart, so that Active need not copy it.
  struct Held {
    JobRecord record;  // without the next two
    std::string spec, metrics_json;
    int64_t since_nanos = 0;  // until then the running time is in record.ran_ms
  };

  absl::Status QueueAgain(int32_t id, std::string_view reason, int64_t delay_ms, int32_t failures) {
    return Change(id, [&](JobRecord& record) {
      TANDEM_RETURN_IF_ERROR(CheckArrow(record, State::kQueued));
      EnterState(record, State::kQueued, reason, clock_->UnixMillis());
      record.not_before_ms = clock_->UnixMillis() + delay_ms;
      record.failures += failures;
      return absl::OkStatus();
    });
  }

  // REQUIRES: mutex_ is held. `since_nanos`: until when record.ran_ms counts.
  void Keep(JobRecord record, int64_t since_nanos) {
    Held& held = jobs_[record.id];
    if (IsEnd(record.state)) {
      active_.erase(record.id);
    } else {
      active_.insert(record.id);
    }
    held.spec = std::move(record.spec);
    held.metrics_json = std::move(record.metrics_json);
    held.since_nanos = since_nanos;
    held.record = std::move(record);
    held.record.spec.clear();
    held.record.metrics_json.clear();
  }

  // REQUIRES: mutex_ is held, in the next two too.
  JobRecord Now(const Held& held) const {
    JobRecord record = held.record;
    record.ran_ms += RunningMs(held, clock_->MonotonicNanos());
    return record;
  }
  JobRecord Whole(const Held& held) const {
    JobRecord record = Now(held);
    record.spec = held.spec;
    record.metrics_json = held.metrics_json;
    return record;
  }

  static int64_t RunningMs(const Held& held, int64_t now_nanos) {
    return Runs(held.record.state) ? (now_nanos - held.since_nanos) / 1'000'000 : 0;
  }

  // A new reason for the state that the job has is told, not stored: the control loop makes it anew.
  bool SetReasonOnly(int32_t id, State to, std::string_view reason) {
    std::lock_guard lock(mutex_);
    auto found = jobs_.find(id);
    if (found == jobs_.end() || found->second.record.state != to || IsEnd(to)) return false;
    found->second.record.reason = reason;
    return true;
  }

  // The stored record with what only the memory knows, at `now_nanos`.
  absl::StatusOr<JobRecord> LoadWithMemory(Transaction& transaction, int32_t id, int64_t now_nanos) const {
    TANDEM_ASSIGN_OR_RETURN(std::optional<JobRecord> record, LoadJob(transaction, id));
    if (!record) return NoSuchJob(id);
    std::lock_guard lock(mutex_);
    auto found = jobs_.find(id);
    if (found != jobs_.end()) {
      const JobRecord& memory = found->second.record;
      record->pid = memory.pid;
      record->progress = memory.progress;
      if (Runs(record->state)) record->ran_ms += RunningMs(found->second, now_nanos);
      if (memory.state == record->state) record->reason = memory.reason;
    }
    return *std::move(record);
  }

  absl::Status Change(int32_t id, const std::function<absl::Status(JobRecord&)>& edit) {
    std::lock_guard change(change_mutex_);
    const int64_t now_nanos = clock_->MonotonicNanos();
    JobRecord record;
    TANDEM_RETURN_IF_ERROR(store_->Write([&](Transaction& transaction) -> absl::Status {
      TANDEM_ASSIGN_OR_RETURN(record, LoadWithMemory(transaction, id, now_nanos));
      State before = record.state;
      TANDEM_RETURN_IF_ERROR(edit(record));
      TANDEM_RETURN_IF_ERROR(UpdateJob(transaction, record));
      return record.state == before ? absl::OkStatus() : AppendEvent(transaction, record, clock_->UnixMillis());
    }));
    std::lock_guard lock(mutex_);
    const JobRecord& memory = jobs_[id].record;
    // What arrived meanwhile is newer.
    record.progress = memory.progress;
    if (HasTrainer(record.state)) record.pid = memory.pid;
    Keep(std::move(record), now_nanos);
    return absl::OkStatus();
  }

  storage::Store* const store_;
  Clock* const clock_;
  std::mutex change_mutex_;
  mutable std::mutex mutex_;
  std::map<int32_t, Held> jobs_;  // guarded by mutex_, as the next
  std::set<int32_t> active_;      // have not ended
};

}  // namespace

absl::StatusOr<std::unique_ptr<JobStore>> JobStore::Open(storage::Store* store, Clock* clock,
                                                         std::vector<std::string>* recovered) {
  auto jobs = std::make_unique<SqliteJobStore>(store, clock);
  TANDEM_RETURN_IF_ERROR(jobs->Load(recovered));
  return jobs;
}

}  // namespace tandem::jobs
