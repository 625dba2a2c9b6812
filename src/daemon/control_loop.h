#pragma once
// The control loop of jobs: builds a snapshot, asks the policy, applies its actions, and takes in how jobs end.
// Everything that starts or ends a job happens in Step, on one thread; a test steps it by hand.
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "daemon/children.h"
#include "daemon/job_events.h"
#include "daemon/job_runner.h"
#include "daemon/paths.h"
#include "jobs/job_store.h"
#include "registry/registry.h"
#include "scheduling/policy.h"
#include "spec/train_spec.h"
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
  scheduling::Policy* policy;
  isolation::Isolation* isolation;
  Children* children;
  JobEvents* events;
  std::function<void()> on_version;  // a job made a version that waits for the deploy rule
};

class ControlLoop {
 public:
  ControlLoop(const ControlParts& parts, Paths paths, const TrainingSettings& settings);
  ~ControlLoop();

  // One round. Call it about every 100 ms, and at once after Wake. One thread.
  void Step();
  // Waits until Wake or timeout_ms. Thread-safe.
  void WaitForWork(int timeout_ms);
  void Wake();

  // Starts nothing any more, asks running jobs to checkpoint and leave. Thread-safe.
  void BeginStop();
  // True once no job runs.
  bool Idle() const;
  // CPU seconds of running trainers, by job. Thread-safe.
  std::map<int32_t, isolation::Usage> ReadUsage() const;

 private:
  struct End {
    int32_t job;
    JobOutcome outcome;
  };
  scheduling::Snapshot BuildSnapshot() const;
  void Apply(const scheduling::Actions& actions);
  void Start(const scheduling::StartJob& action);
  absl::StatusOr<wire::Assignment> Assign(const jobs::JobRecord& record, int64_t threads);
  absl::Status PlaceStartingModel(const spec::TrainSpec& spec, const std::string& destination);
  JobHooks Hooks(int32_t job);
  void SendCancels();
  void TakeEnds();
  void Ended(const End& end);
  absl::Status Finished(const jobs::JobRecord& record, const wire::Finished& finished);
  void FailedAttempt(const jobs::JobRecord& record, const std::string& error, bool retry);
  void Finish(int32_t job, jobs::State state, std::string_view reason);
  void RecordEnd(int32_t job, std::function<absl::Status()> write);
  void RecordEndsAgain();

  const ControlParts parts_;
  const Paths paths_;
  const TrainingSettings settings_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool woken_ = false, stopping_ = false;                  // guarded by mutex_
  std::deque<End> ends_;                                   // guarded by mutex_
  std::map<int32_t, std::unique_ptr<JobRunner>> running_;  // guarded by mutex_; changed by Step's thread alone
  std::map<int32_t, std::string> told_waiting_;            // Step's thread alone
  std::map<int32_t, int64_t> cancel_sent_nanos_;           // Step's thread alone
  // What a full disk did not take about jobs that have no trainer any more. Step's thread alone.
  std::map<int32_t, std::function<absl::Status()>> unrecorded_;
};

// What a job will need, before it starts: the runtime, the data set in memory, weights with gradients and optimiser
// state, and activations of the micro-batches in flight. A rule of thumb, on the high side.
int64_t EstimateMemoryBytes(const spec::TrainSpec& spec, const wire::Dataset& dataset, int64_t threads,
                            int64_t model_file_bytes);

}  // namespace tandem::daemon
