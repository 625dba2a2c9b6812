#pragma once
// What a job needs to go on as if it had never stopped, in one file.
//
// Layout of `checkpoint-<step>.tckpt`, version 1. All numbers are little endian; text = u32 length, bytes.
//   8 bytes   magic "TANDEMCK"
//   u32       version
//   u32       0
//   text      fingerprint (of spec, model file and data set)       text  precision
//   i64       step, steps, evaluated_step                          f64   smoothed_loss, loss, accuracy
//   u32       number of tensors, then for each:
//     text    name ("weight/...", "statistic/...", "momentum/...")
//     i32     element type (ONNX's numbers)                        u32   rank, then i64 dimensions
//     u64     length, then the elements, row-major
//   64 bytes  SHA-256 of all bytes before, in hex
// Nothing in it depends on the time or on the number of threads, but for what it says of the evaluation: that may still
// be under way (evaluate.h), and is then not in it.
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/paced_writer.h"
#include "base/sync.h"

namespace tandem::training {

struct Checkpoint {
  std::string fingerprint;
  std::string precision;        // resolved: "auto" may mean another format on another machine
  int64_t step = 0;             // steps done
  int64_t steps = 0;            // steps in all
  int64_t evaluated_step = -1;  // when loss and accuracy were measured; -1 = never
  double smoothed_loss = 0;
  double loss = 0, accuracy = -1;                           // on the validation split
  std::vector<std::pair<std::string, at::Tensor>> tensors;  // float32 or float64
};

// Takes the file piece by piece; its error ends the encoding.
using ByteSink = std::function<absl::Status(std::string_view)>;
absl::Status EncodeCheckpoint(const Checkpoint& checkpoint, const ByteSink& sink);
std::string EncodeCheckpoint(const Checkpoint& checkpoint);
// InvalidArgument for anything that EncodeCheckpoint has not written whole, FailedPrecondition for a whole one of
// another version. Safe on any bytes.
absl::StatusOr<Checkpoint> DecodeCheckpoint(std::string_view bytes);

// The checkpoints of one job's folder. Thread-safe; the caller holds the folder's lock.
class CheckpointFolder {
 public:
  static constexpr int kKept = 2;

  // `pace` is shared with the job's other writes and outlives this.
  CheckpointFolder(std::filesystem::path folder, PacedWriter* pace) : folder_(std::move(folder)), pace_(pace) {}

  // Writes atomically, then removes all but the latest kKept. Returns the file, which is durable; Cancelled once `stop`
  // is requested.
  absl::StatusOr<std::filesystem::path> Write(const Checkpoint& checkpoint, StopToken stop = {}) const;
  // Removes what a process that died left of a checkpoint that it was writing. REQUIRES: no Write in progress.
  void RemoveUnfinished() const;
  // The step of the latest by its name; 0 if there is none. Needs no lock.
  int64_t LatestStep() const;
  // The latest that is whole; empty if there is none. One that is broken is logged, renamed to *.broken and passed
  // over; one of another version is FailedPrecondition, and stays.
  absl::StatusOr<std::optional<Checkpoint>> ReadLatest() const;

 private:
  struct Entry {
    int64_t step;
    std::filesystem::path path;
  };
  std::vector<Entry> List() const;  // latest first

  std::filesystem::path folder_;
  PacedWriter* pace_;
};

}  // namespace tandem::training
