#pragma once
// From a job's record to a running trainer: the model to start from, the assignment, the group's limits.
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "daemon/children.h"
#include "daemon/governor.h"
#include "daemon/job_runner.h"
#include "daemon/paths.h"
#include "jobs/job_store.h"
#include "registry/registry.h"
#include "spec/train_spec.h"
#include "storage/store.h"

namespace tandem::daemon {

struct StarterParts {  // all outlive it
  storage::ArtifactStore* artifacts;
  registry::Registry* registry;
  isolation::Isolation* isolation;
  Governor* governor;
  Children* children;
};

// Thread-safe, for different jobs.
class JobStarter {
 public:
  JobStarter(const StarterParts& parts, Paths paths) : parts_(parts), paths_(std::move(paths)) {}

  // Whether Prepare is needed before Start.
  absl::StatusOr<bool> NeedsPreparing(const jobs::JobRecord& record) const;
  // Makes the copy of the model file that the job starts from, in a helper: for a large file it takes minutes. Once
  // `stop` is true it ends within 100 ms or so: Cancelled. Unavailable when the server stops.
  absl::Status Prepare(const jobs::JobRecord& record, const std::atomic<bool>& stop) const;
  // REQUIRES: not NeedsPreparing. `weight`: among training jobs (isolation.h).
  absl::StatusOr<std::unique_ptr<JobRunner>> Start(const jobs::JobRecord& record, int64_t threads, int64_t weight,
                                                   JobHooks hooks) const;

 private:
  // A copy of the job's own: what the owner of the file changes or deletes later changes no attempt.
  std::filesystem::path StartingModel(int32_t job) const { return paths_.JobFolder(job) / "start.onnx"; }
  // What a helper that was killed left of it.
  void RemoveUnfinished(int32_t job) const;
  absl::StatusOr<std::string> SourceOf(const spec::ModelSpec& model) const;
  absl::StatusOr<wire::Assignment> Assign(const jobs::JobRecord& record, const spec::TrainSpec& spec,
                                          int64_t threads) const;

  const StarterParts parts_;
  const Paths paths_;
};

// Lets trainers that a killed daemon left stopped in the middle of a pause notice that it is gone, and leave.
void WakeFormerTrainers(const Paths& paths);

// What a job will need, before it starts: the runtime, the data set in memory, weights with gradients and optimiser
// state, and activations of the micro-batches in flight. A rule of thumb, on the high side.
int64_t EstimateMemoryBytes(const spec::TrainSpec& spec, const wire::Dataset& dataset, int64_t threads,
                            int64_t model_file_bytes);

}  // namespace tandem::daemon
