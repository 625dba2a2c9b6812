#pragma once
// Job records and their state machine: store first, memory second. Knows kinds only as strings.
//
//            submit                start              spawned
//   (none) ----------> queued ---------------> starting --------> running
//                        |  ^                    |                 |  |  \_________ pausing -> paused -> running
//                 cancel |  | retry, requeue,    | failed to start |  |
//                        |  | daemon restart     v                 |  v   cancel, release, time limit, server stops
//                        |  +--------------------+<----------------+ stopping (checkpointing to leave)
//                        v                                         |
//                    cancelled      succeeded | failed | cancelled | timed_out   (ends; never left)
//
// A release (window's edge, pre-empted, asked for): starting, running, pausing or paused -> stopping -> queued; the
// checkpoint is kept, no failure is counted. Every arrow that is taken is kept as an event, the newest 100 of each job.
#include <cstdint>
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

namespace tandem::jobs {

enum class State {
  kQueued,
  kStarting,
  kRunning,
  kPausing,
  kPaused,
  kStopping,
  kSucceeded,
  kFailed,
  kCancelled,
  kTimedOut
};
std::string_view StateName(State state);
absl::StatusOr<State> ParseState(std::string_view name);
bool IsEnd(State state);
// Whether the diagram above has this arrow.
bool CanMove(State from, State to);

const std::vector<storage::Migration>& Migrations();  // ids 100..119

// Everything about one job. Durable fields are written through JobStore; progress, pid and phase live in memory and are
// written at checkpoints and at the end.
struct JobRecord {
  int32_t id = 0;
  std::string name, kind, spec, idempotency_key, submitted_by;
  State state = State::kQueued;
  std::string reason;
  int32_t attempt = 0;   // 1 for the first start
  int32_t failures = 0;  // attempts that failed of their own; a restart of the daemon does not count
  int64_t priority = 0;
  bool cancel_requested = false, pause_requested = false;
  bool release_requested = false;  // on its way back to the queue
  int64_t created_ms = 0, started_ms = 0, finished_ms = 0, not_before_ms = 0;
  int32_t pid = 0;
  wire::Progress progress;
  std::string model;  // made by it
  int32_t version = 0;
  std::string metrics_json;  // final metrics
  int64_t threads = 0, memory_bytes = 0;
  std::string window;         // runs only while it is open; "" = whenever training may run
  int32_t recurring = 0;      // the recurring job that submitted it; 0 = none
  int64_t time_limit_ms = 0;  // of ran_ms; 0 = none
  int64_t ran_ms = 0;         // all attempts together, pauses apart; durable at every move and checkpoint
};

// One arrow of the diagram that a job took.
struct JobEvent {
  int64_t when_ms = 0;
  State state = State::kQueued;  // that it came to
  std::string reason;
};

// Thread-safe. All changes are durable when the call returns, except SetProgress.
class JobStore {
 public:
  // Loads all jobs. Jobs that a dead daemon left active become queued again ("the server restarted; goes on from step
  // N"); one whose cancel was asked for becomes cancelled. What was changed is told in `recovered`, one sentence each.
  static absl::StatusOr<std::unique_ptr<JobStore>> Open(storage::Store* store, Clock* clock,
                                                        std::vector<std::string>* recovered);
  virtual ~JobStore() = default;

  // The same idempotency key gives the job that is there already.
  virtual absl::StatusOr<JobRecord> Submit(JobRecord record) = 0;
  virtual absl::StatusOr<JobRecord> Get(int32_t id) const = 0;  // NotFound names the id and how to list
  virtual std::vector<JobRecord> List() const = 0;              // newest first
  // Jobs that have not ended, oldest first, without spec and metrics_json: cheap, for a loop.
  virtual std::vector<JobRecord> Active() const = 0;
  virtual absl::StatusOr<std::vector<JobEvent>> Events(int32_t id) const = 0;  // newest first
  // FailedPrecondition when the diagram has no such arrow.
  virtual absl::Status Move(int32_t id, State to, std::string_view reason) = 0;
  virtual absl::Status Starting(int32_t id) = 0;  // attempt + 1, state starting
  virtual absl::Status RequestCancel(int32_t id) = 0;
  virtual absl::Status RequestPause(int32_t id, bool pause) = 0;
  // To stopping, with release_requested until it is queued again (Move) or ends. Nothing happens when it is on its way
  // already; FailedPrecondition when it holds nothing or leaves for another reason.
  virtual absl::Status Release(int32_t id, std::string_view reason) = 0;
  // Back to the queue, not before `delay_ms`: it could not be started, which was no fault of its own.
  virtual absl::Status Postpone(int32_t id, std::string_view reason, int64_t delay_ms) = 0;
  // The same after a failure, which is counted.
  virtual absl::Status Retry(int32_t id, std::string_view reason, int64_t delay_ms) = 0;
  virtual void SetPid(int32_t id, int32_t pid) = 0;
  virtual void SetProgress(int32_t id, const wire::Progress& progress) = 0;
  // Makes progress and running time durable: at a checkpoint.
  virtual absl::Status KeepProgress(int32_t id) = 0;
  virtual absl::Status SetMetrics(int32_t id, std::string_view metrics_json) = 0;
  // Ends the job as succeeded inside a transaction of the caller's, unique on (job, attempt): AlreadyExists when this
  // attempt was finished before. Memory follows when the caller calls Reload(id) after the commit.
  virtual absl::Status FinishInTransaction(storage::Store::Transaction& transaction, int32_t id, int32_t attempt,
                                           std::string_view model, int32_t version, std::string_view metrics_json) = 0;
  virtual absl::Status Reload(int32_t id) = 0;
  // Ended jobs only; its events go with it.
  virtual absl::Status Delete(int32_t id) = 0;
};

}  // namespace tandem::jobs
