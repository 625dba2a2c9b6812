#pragma once
// Samples as tensors, read ahead of the step that needs them.
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "data/dataset.h"
#include "training/plan.h"
#include "training/worker_pool.h"

namespace tandem::training {

struct Batch {
  at::Tensor images;  // float32, [samples, ...shape of one sample]
  at::Tensor labels;  // int64, [samples]
};

// Reads samples `indices` in this order. A label outside the set's classes is an error that names the sample.
// Thread-safe.
absl::StatusOr<Batch> ReadBatch(const data::Dataset& dataset, std::span<const int64_t> indices);

// Gives the batches of steps first_step, first_step + 1, ... up to end_step - 1, shuffled and augmented. The pool's
// workers prepare them, kAhead steps before they are asked for, a few samples at a time, when they may begin no
// micro-batch. Everything depends on (seed, epoch, sample) alone. Next is for one thread. Keeps references to its
// arguments.
class BatchLoader {
 public:
  static constexpr size_t kAhead = 2;
  static constexpr int64_t kPiece = 8;  // samples

  BatchLoader(const data::Dataset& dataset, const Plan& plan, const data::Augmentation& augmentation, uint64_t seed,
              int64_t first_step, int64_t end_step, WorkerPool* pool);
  ~BatchLoader();
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;

  // Lets the workers begin on the batches to come. Call it when the step that Next's batch is for has begun: what can
  // wait shall not be in its way.
  void ReadAhead();

  // Waits until the batch is whole. The error of the first sample that failed, then and for ever; Cancelled after the
  // pool's Stop. `on_wake` as in WorkerPool::Work.
  absl::StatusOr<Batch> Next(const std::function<void()>& on_wake);

 private:
  struct Preparing;

  const data::Dataset& dataset_;
  const Plan& plan_;
  const data::Augmentation augmentation_;
  const uint64_t seed_;
  const int64_t end_step_;
  WorkerPool* const pool_;
  int64_t next_step_;  // the first that was not begun
  std::deque<std::unique_ptr<Preparing>> ahead_;
};

}  // namespace tandem::training
