#pragma once
// One step: the gradient of a batch, computed micro-batch by micro-batch on any number of threads, then the update.
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "training/batch.h"
#include "training/model.h"
#include "training/optimizer.h"
#include "training/plan.h"
#include "training/precision.h"
#include "training/statistics.h"
#include "training/worker_pool.h"

namespace tandem::training {

struct StepOptions {
  Precision precision;
  uint64_t seed = 0;
  double label_smoothing = 0;
  std::function<void()> on_wake;  // of WorkerPool::Work
};

// What the samples of a batch say, folded in micro-batch order: equal bytes for any number of threads.
struct Gradients {
  double loss = 0;                    // mean over the batch
  std::vector<at::Tensor> sum;        // one a trained tensor, with its strides; undefined if the loss ignores it
  std::vector<StatisticsOfRun> runs;  // one a micro-batch
};

// The gradients of one batch, computed by the pool's threads from construction on; changes nothing. The driver may do
// other things meanwhile that leave the weights as they are. Keeps references to its arguments but `options`.
class GradientWork {
 public:
  GradientWork(const Model& model, const Batch& batch, const Plan& plan, int64_t step, StepOptions options,
               WorkerPool* pool);
  ~GradientWork();  // what was not finished is dropped
  GradientWork(const GradientWork&) = delete;
  GradientWork& operator=(const GradientWork&) = delete;

  // Waits for the rest. Cancelled when the pool was stopped. REQUIRES: called once.
  absl::StatusOr<Gradients> Finish();

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

// GradientWork in one call.
absl::StatusOr<Gradients> ComputeGradients(const Model& model, const Batch& batch, const Plan& plan, int64_t step,
                                           const StepOptions& options, WorkerPool* pool);

// Updates weights and BatchNorm statistics; is not interrupted.
absl::Status ApplyGradients(const Gradients& gradients, int64_t step, double lr, const Model& model,
                            Optimizer* optimizer, WorkerPool* pool);

}  // namespace tandem::training
