#pragma once
// Measuring one engine on one prepared model: what it answers, how far that is from a reference, how long it takes.
//
// Everything runs in children (tandem-engine-host samples, measure), one engine in each: a crash or a hang costs that
// engine only.
#include <filesystem>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "engine/engine.h"
#include "engine/samples.h"

namespace tandem::engine {

// A model as it was prepared for an engine.
struct PreparedModel {
  std::string engine;
  std::filesystem::path folder;
  Options options;
};

// --- the server's side ---

// Writes samples for the model into `out`, and tries them on it. `dataset`: a file with the wire::Dataset of which the
// first validation samples are taken where they fit the model's input; empty, or where they do not: samples are made.
// Gives the source for people: "validation split of fashion".
absl::StatusOr<std::string> SampleInChild(const SpawnFunction& spawn, const PreparedModel& model, int batch,
                                          const std::filesystem::path& dataset, const std::filesystem::path& out,
                                          double timeout_s);

// Runs the samples, writes the outputs, and compares them with the outputs of another engine where `reference` is not
// empty. The errors are the engine's: it refused, crashed, or took too long.
struct MeasureFiles {
  std::filesystem::path samples, reference, outputs;
};
absl::StatusOr<wire::Measurement> MeasureInChild(const SpawnFunction& spawn, const PreparedModel& model,
                                                 const MeasureFiles& files, double timeout_s);

// --- the child's side ---

struct MeasureLimits {
  // Of one batch size. Few runs are enough: the least time counts.
  double seconds = 1;
  int most_runs = 100;
};
// `outputs`, if not null, gets what each sample gave, as far as kMaxSampleBytes go. Only latencies where `reference` is
// null. The error is that of the run that failed.
absl::StatusOr<wire::Measurement> Measure(LoadedModel& model, const Options& options, const wire::Samples& samples,
                                          const wire::Samples* reference, wire::Samples* outputs,
                                          const MeasureLimits& limits = {});
// One run of each sample.
absl::Status TrySamples(LoadedModel& model, const wire::Samples& samples);

}  // namespace tandem::engine
