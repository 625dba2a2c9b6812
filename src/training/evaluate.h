#pragma once
// How good the present weights are on a split.
#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "data/dataset.h"
#include "training/model.h"
#include "training/worker_pool.h"

namespace tandem::training {

struct Evaluation {
  double loss = 0;      // mean cross-entropy, without label smoothing
  double accuracy = 0;  // 0..1
  int64_t samples = 0;
};

// Runs the model in inference mode, in the weights' precision, over all samples; the pool's threads read and compute
// batches side by side. Sums in sample order: equal for any number of threads. Cancelled when the pool was stopped.
absl::StatusOr<Evaluation> Evaluate(const Model& model, const data::Dataset& dataset,
                                    const std::function<void()>& on_wake, WorkerPool* pool);

}  // namespace tandem::training
