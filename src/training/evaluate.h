#pragma once
// How good given weights are on a split.
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

// Runs the model in inference mode, in the weights' precision, over all samples, as pieces that the pool's workers take
// when they may begin no micro-batch. Sums in sample order: equal for any number of threads. Thread-compatible.
class Evaluator {
 public:
  static constexpr int64_t kPiece = 20;  // samples; part of the result, which is summed by pieces

  // `values`: what the model's initialisers are; nobody may change the tensors while this lives (a copy, or nobody
  // trains meanwhile). Keeps references to the others.
  Evaluator(const Model& model, interpreter::Values values, const data::Dataset& dataset, WorkerPool* pool);

  bool done() const { return filler_.done(); }
  // Waits for the rest, on which all workers are put. Cancelled when the pool was stopped. `on_wake` as in
  // WorkerPool::Work. REQUIRES: no work in progress in the pool.
  absl::StatusOr<Evaluation> Finish(const std::function<void()>& on_wake);

 private:
  struct Part {
    double loss = 0;
    int64_t correct = 0;
  };
  absl::StatusOr<Part> RunPiece(int64_t piece) const;

  const Model& model_;
  const interpreter::Values values_;
  const data::Dataset& dataset_;
  WorkerPool* const pool_;
  std::vector<absl::StatusOr<Part>> parts_;  // one a piece, each written by who did it
  WorkerPool::Filler filler_;                // last: its pieces use the rest
};

}  // namespace tandem::training
