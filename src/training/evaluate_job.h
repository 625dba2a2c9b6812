#pragma once
// The job kind "evaluate": how good registered versions are, as the serving engine answers.
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/dataset.h"
#include "trainer.pb.h"

namespace tandem::training {

// Sums over answers of one version. Thread-compatible.
class Score {
 public:
  // `outputs`: [n, classes] floats for samples with these labels. Rows that are a distribution already (the file ends
  // with Softmax) are taken as probabilities, others as logits. One with NaN, or whose largest is infinite, is wrong
  // and makes the loss infinite. `shape` is what the engine said.
  absl::Status Add(std::span<const float> outputs, const Shape& shape, std::span<const int32_t> labels);
  wire::VersionMetrics Metrics() const;  // accuracy, loss, samples

 private:
  double loss_ = 0;
  int64_t correct_ = 0, samples_ = 0;
};

// Asks the serving engine for one batch and waits for its answer.
using AskEngine = std::function<absl::StatusOr<wire::EvalAnswer>(const wire::EvalBatch&)>;

// Sends every batch of `dataset` to each of the versions. `progress` hears the samples done.
absl::StatusOr<std::map<std::string, wire::VersionMetrics>> EvaluateVersions(
    const data::Dataset& dataset, const std::vector<std::string>& versions, int64_t batch, const AskEngine& ask,
    const std::function<void(int64_t)>& progress);

}  // namespace tandem::training
