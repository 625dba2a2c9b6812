#pragma once
// Samples as tensors, read ahead of the step that needs them.
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <thread>

#include "absl/status/statusor.h"
#include "base/sync.h"
#include "data/dataset.h"
#include "training/plan.h"

namespace tandem::training {

struct Batch {
  at::Tensor images;  // float32, [samples, ...shape of one sample]
  at::Tensor labels;  // int64, [samples]
};

// Reads samples `indices` in this order. A label outside the set's classes is an error that names the sample.
// Thread-safe.
absl::StatusOr<Batch> ReadBatch(const data::Dataset& dataset, std::span<const int64_t> indices);

// Gives the batches of steps first_step, first_step + 1, ..., shuffled and augmented, which a thread of its own
// prepares kAhead steps before they are asked for. Everything depends on (seed, epoch, sample) alone. Next is for one
// thread. Keeps references to its arguments.
class BatchLoader {
 public:
  static constexpr int kAhead = 2;

  BatchLoader(const data::Dataset& dataset, const Plan& plan, const data::Augmentation& augmentation, uint64_t seed,
              int64_t first_step);
  ~BatchLoader();
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;

  absl::StatusOr<Batch> Next();

 private:
  void Loop();
  absl::StatusOr<Batch> Prepare(int64_t step) const;

  const data::Dataset& dataset_;
  const Plan& plan_;
  const data::Augmentation augmentation_;
  const uint64_t seed_;
  const int64_t first_step_;
  BoundedQueue<std::unique_ptr<absl::StatusOr<Batch>>> ready_{kAhead};
  std::thread thread_;
};

}  // namespace tandem::training
