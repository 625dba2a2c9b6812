#pragma once
// BatchNorm's running statistics when a step is several micro-batches.
#include <vector>

#include "absl/status/status.h"
#include "interpreter/interpreter.h"

namespace tandem::training {

// What one micro-batch's BatchNorm nodes saw. Nodes with a single element per channel saw nothing.
using StatisticsOfRun = std::vector<interpreter::BatchStatistics>;

// Mean and variance of the union of all samples, from those of its parts (Chan, Golub & LeVeque 1979): the mean
// weighted by n; the variance with the spread of the means added. In double, in the order given. REQUIRES: parts is not
// empty and each n is at least 2.
interpreter::BatchStatistics PoolStatistics(const std::vector<const interpreter::BatchStatistics*>& parts);

// One momentum update of each running statistic in `values`, from the pooled statistics of a step's micro-batches
// (`runs`, in index order). With one micro-batch this is PyTorch's update, in its very bits where it adds in double:
// the variance is the unbiased one unless the node follows ONNX's rule.
absl::Status UpdateRunningStatistics(const std::vector<StatisticsOfRun>& runs, const interpreter::Values& values);

}  // namespace tandem::training
