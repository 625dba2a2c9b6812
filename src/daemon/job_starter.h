#pragma once
// From a job's record to a running trainer: the assignment, the group's limits, the model to start from.
#include <cstdint>
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

// Thread-compatible.
class JobStarter {
 public:
  JobStarter(const StarterParts& parts, Paths paths) : parts_(parts), paths_(std::move(paths)) {}

  // `weight`: among training jobs (isolation.h).
  absl::StatusOr<std::unique_ptr<JobRunner>> Start(const jobs::JobRecord& record, int64_t threads, int64_t weight,
                                                   JobHooks hooks);

 private:
  absl::StatusOr<wire::Assignment> Assign(const jobs::JobRecord& record, const spec::TrainSpec& spec, int64_t threads);
  absl::Status PlaceStartingModel(const spec::TrainSpec& spec, const std::string& destination);

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
