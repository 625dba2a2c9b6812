#pragma once
// How good versions are on the validation split, as the serving engine answers. A child reads the split and asks for
// answers, batch by batch; they are given by this process, in the background.
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "isolation/isolation.h"
#include "serving/serving.h"
#include "trainer.pb.h"

namespace tandem::daemon {

using VersionMetrics = std::map<int32_t, std::map<std::string, double>>;  // by version, by name

struct EvaluationOrder {
  std::string model;
  std::vector<int32_t> versions;  // they serve
  int32_t job = 0;                // that the child counts for
  wire::Dataset dataset;
  std::string log_file;   // of the child
  double patience_s = 0;  // the longest time without a batch asked for or answered
};

struct EvaluationParts {
  serving::Serving* serving;  // all outlive it
  isolation::Isolation* isolation;
  std::function<bool()> stopped;                  // ten times a second: whether to end it unfinished
  std::shared_ptr<std::atomic<int>> left_behind;  // counts the runs that hung and still do
};

// DeadlineExceeded, with who hangs, when nothing moves for patience_s; the child is ended then. A run in this process
// that hangs cannot be: its thread and its version stay as long as it does.
absl::StatusOr<VersionMetrics> EvaluateVersions(const EvaluationParts& parts, const EvaluationOrder& order);

}  // namespace tandem::daemon
