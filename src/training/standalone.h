#pragma once
// A training job without a daemon: for benchmarks and tests.
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace tandem::training {

struct TrainerOutcome;  // training/trainer.h

struct StandaloneJob {
  std::filesystem::path spec;          // YAML
  std::filesystem::path dataset;       // a wire::Dataset as JSON, as `tandem dataset show --json` prints it
  std::filesystem::path out;           // ONNX
  std::filesystem::path folder;        // checkpoints; empty = none
  std::vector<std::string> overrides;  // key.path=value
  int threads = 1;
  bool inspect = false;  // look at the data set's files first: `dataset` needs only path and format
};

// Trains and prints one JSON line to stdout: images_per_s, loss, accuracy, ..., sha256 of the output. SIGTERM and
// SIGINT: checkpoint and leave. Call before any other thread exists.
absl::Status RunStandalone(const StandaloneJob& job);
// That line. JSON has no number that is not finite: such a one is null. `sha256` of the output is left out when empty.
std::string ResultLine(const TrainerOutcome& outcome, std::string_view sha256);

}  // namespace tandem::training
