#pragma once
// Which samples each step trains on: arithmetic on (samples, batch, micro_batch) alone, so that any step is reached
// without replaying the ones before it.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "spec/train_spec.h"

namespace tandem::training {

// Samples [begin, end) of a batch: the unit that one thread computes alone.
struct MicroBatch {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};

// Immutable.
class Plan {
 public:
  // REQUIRES: samples >= 1, spec.batch >= 1. A batch larger than the set becomes the set.
  Plan(int64_t samples, const spec::TrainSpec& spec)
      : samples_(samples),
        batch_(std::min(spec.batch, samples)),
        micro_batch_(std::max<int64_t>(
            1, std::min(batch_, spec.micro_batch > 0 ? spec.micro_batch : std::min<int64_t>(spec.batch, 32)))) {}

  // The last batch of an epoch is kept even if it is smaller, as PyTorch's drop_last=False.
  int64_t StepsPerEpoch() const { return (samples_ + batch_ - 1) / batch_; }

  struct Position {
    int64_t epoch = 0;
    int64_t first = 0;  // positions [first, first + count) of the epoch's permutation
    int64_t count = 0;
  };
  Position At(int64_t step) const {
    int64_t epoch = step / StepsPerEpoch(), first = step % StepsPerEpoch() * batch_;
    return {epoch, first, std::min(batch_, samples_ - first)};
  }

  // A batch of `count` samples as micro-batches of nearly equal size: a small rest would give BatchNorm a poor sample
  // and leave threads idle.
  std::vector<MicroBatch> Split(int64_t count) const {
    int64_t parts = (count + micro_batch_ - 1) / micro_batch_;
    std::vector<MicroBatch> split;
    for (int64_t i = 0; i < parts; ++i) split.push_back({count * i / parts, count * (i + 1) / parts});
    return split;
  }

  int64_t samples() const { return samples_; }
  int64_t batch() const { return batch_; }
  int64_t micro_batch() const { return micro_batch_; }

 private:
  int64_t samples_, batch_, micro_batch_;
};

}  // namespace tandem::training
