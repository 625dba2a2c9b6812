#pragma once
// The control loop of jobs: builds a snapshot, asks the policy, applies its actions, and takes in how jobs end.
// Everything that starts or ends a job happens in Step, on one thread; a test steps it by hand. Only the model that a
// job starts from is prepared elsewhere.
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "daemon/governor.h"
#include "daemon/job_events.h"
#include "daemon/job_pauses.h"
#include "daemon/job_runner.h"
#include "daemon/job_starter.h"
#include "jobs/job_store.h"
#include "registry/registry.h"
#include "scheduling/policy.h"
#include "storage/store.h"

namespace tandem::daemon {

struct TrainingSettings {
  int cpus = 1;
  int64_t threads = 1;
  int64_t memory_bytes = 0;
  int max_running_jobs = 1;
  int max_attempts = 3;
};

// What the loop works with; all outlive it.
struct ControlParts {
  Clock* clock;
  storage::Store* store;
  storage::ArtifactStore* artifacts;
  jobs::JobStore* jobs;
  registry::Registry* registry;
  Governor* governor;
  JobStarter* starter;
  JobPauses* pauses;  // knows the jobs that run from their start to their end, by this loop
  JobEvents* events;
  std::function<void()> on_version;  // a job made a version that waits for the deploy rule
};

class ControlLoop {
 public:
  ControlLoop(const ControlParts& parts, const TrainingSettings& settings);
  ~ControlLoop();

  // One round. Call it about every 100 ms, and at once after Wake. One thread.
  void Step();
  // Waits until Wake or timeout_ms. Thread-safe.
  void WaitForWork(int timeout_ms);
  void Wake();

  // Starts nothing any more, asks running jobs to checkpoint and leave. Thread-safe.
  void BeginStop();
  // The job writes a checkpoint, gives everything back and waits in the queue until it is resumed. FailedPrecondition
  // when it does not run. Thread-safe.
  absl::Status Release(int32_t job, std::string_view reason);
  // True once no job runs, and none is about to.
  bool Idle() const;
  // What trainers used so far, by job. Thread-safe.
  std::map<int32_t, isolation::Usage> ReadUsage() const;
  // The same for the accounts: with the last figures of those that ended since the last call, which forgets them.
  struct UsageReading {
    isolation::Usage usage;
    bool ended = false;
  };
  std::map<int32_t, UsageReading> TakeUsage();

 private:
  struct End {
    int32_t job;
    JobOutcome outcome;
  };
  // A job in state starting whose model is being prepared. Destroying it stops that, and waits for it.
  struct Preparing {
    explicit Preparing(const scheduling::StartJob& start) : action(start) {}
    ~Preparing();
    const scheduling::StartJob action;
    std::atomic<bool> stop{false};
    std::thread thread;  // set by Step's thread, and touched by it alone
  };
  struct Prepared {
    int32_t job;
    absl::Status status;
  };
  // Why a running job was asked to leave.
  struct Leaving {
    std::string reason;
    bool expired = false;  // out of time: it ends
  };
  static void Complain(std::string_view what, int32_t job, const absl::Status& status);
  scheduling::Snapshot BuildSnapshot();
  void Apply(const scheduling::Actions& actions);
  void Start(const scheduling::StartJob& action);
  absl::Status Launch(const jobs::JobRecord& record, const scheduling::StartJob& action);
  void Prepare(jobs::JobRecord record, const scheduling::StartJob& action);
  bool IsPreparing(int32_t job) const;
  bool StopPreparing(int32_t job);  // true the first time, of a job that is being prepared
  void TakePrepared();
  void PreparationEnded(const Prepared& prepared);
  void NotStarted(int32_t job, const absl::Status& why);
  void KeepWaiting(const scheduling::JobReason& waiting);
  void PauseJob(const scheduling::JobReason& pause);
  void ResumeJob(const scheduling::JobReason& resume);
  void SettlePauses();
  void Rests(int32_t job);  // on the runner's thread too
  void Leave(int32_t job, Leaving leaving);
  JobRunner* Running(int32_t job);  // null if it does not run
  JobHooks Hooks(int32_t job);
  // On the runner's thread: a copy from disk to disk must not keep the loop.
  void BringResult(int32_t job, JobOutcome* outcome);
  void SendCancels();
  void EndDeafTrainers();
  void TakeEnds();
  void Ended(const End& end);
  absl::Status Finished(const jobs::JobRecord& record, const wire::Finished& finished);
  void FailedAttempt(const jobs::JobRecord& record, const std::string& error, bool retry);
  void Finish(int32_t job, jobs::State state, std::string_view reason);
  void Record(int32_t job, std::function<absl::Status()> write);
  void RecordAgain();

  const ControlParts parts_;
  const TrainingSettings settings_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool woken_ = false, stopping_ = false;                  // guarded by mutex_
  std::deque<End> ends_;                                   // guarded by mutex_
  std::map<int32_t, std::unique_ptr<JobRunner>> running_;  // guarded by mutex_; changed by Step's thread alone
  std::map<int32_t, std::string> told_waiting_;            // Step's thread alone
  std::map<int32_t, int64_t> told_to_leave_nanos_;         // Step's thread alone
  std::map<int32_t, int64_t> queued_since_ms_;             // Step's thread alone
  std::map<int32_t, Leaving> leaving_;                     // Step's thread alone
  std::map<int32_t, UsageReading> ended_usage_;            // guarded by mutex_
  std::map<int32_t, std::string> release_asked_;           // guarded by mutex_
  // What the store did not take about jobs that began or ended. Step's thread alone.
  std::map<int32_t, std::function<absl::Status()>> unrecorded_;
  std::deque<Prepared> prepared_;  // guarded by mutex_
  // Guarded by mutex_; changed by Step's thread alone. The last: their threads use mutex_, wake_ and prepared_.
  std::map<int32_t, std::unique_ptr<Preparing>> preparing_;
};

}  // namespace tandem::daemon
