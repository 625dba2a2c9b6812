#pragma once
// `tandem-engine-host samples` and `measure`: one engine on one prepared model, for the server's choice among engines.
#include <string>

#include "absl/status/status.h"
#include "engine/engine.h"

struct SamplesArguments {
  std::string engine, folder;  // what 'prepare' made
  std::string dataset, out;    // dataset: a file with a wire::Dataset; "" = samples are made
  int batch = 1;
  tandem::engine::Options options;
};
absl::Status WriteSamplesFor(const SamplesArguments& arguments);

struct MeasureArguments {
  std::string engine, folder;
  std::string samples, reference, outputs, out;  // reference, outputs: "" = none; out: JSON
  tandem::engine::Options options;
};
absl::Status MeasureEngine(const MeasureArguments& arguments);
