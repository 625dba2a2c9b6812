#pragma once
// Inputs to measure a model with, and outputs to compare: a few runs in one message, which files carry between the
// server and tandem-engine-host.
#include <cstdint>
#include <filesystem>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/tensor.h"
#include "engine/engine.h"

namespace tandem::engine {

// Runs of one row in one message, so that not one odd sample decides.
inline constexpr int kSingleRuns = 4;
// What all inputs, or all outputs, of a message may take together.
inline constexpr int64_t kMaxSampleBytes = 64 << 20;
inline constexpr std::string_view kMadeSamples = "made";

// Whether the first dimension of every input is free: only then there are batches of other sizes than 1.
bool HasFreeRows(const std::vector<TensorSignature>& inputs);

// kSingleRuns runs of one row and, where batch > 1 and HasFreeRows, one of `batch` rows, or of as many as
// kMaxSampleBytes leave room for. The same signature gives the same samples: numbers from 0 to 1, whole ones 0 and 1
// (they may be indices), bytes of any value, short texts. Free sizes after the first are `inner`. ResourceExhausted
// where a row is too large.
absl::StatusOr<wire::Samples> MakeSamples(const std::vector<TensorSignature>& inputs, int batch, int64_t inner);

// Messages as files. Read checks that each tensor's data fit its type and shape. The source is in a small file beside
// it too: the server wants no more.
absl::Status WriteSamples(const std::filesystem::path& file, const wire::Samples& samples);
std::filesystem::path SourceFile(const std::filesystem::path& file);
absl::StatusOr<wire::Samples> ReadSamples(const std::filesystem::path& file);

// Fills `sample`. The data are copied.
void AddTensor(const TensorSignature& tensor, std::string_view data, wire::Sample* sample);

}  // namespace tandem::engine
