#pragma once
// A model on the trainer's interpreter.
#include <c10/core/Device.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/tensor.h"
#include "interpreter/interpreter.h"
#include "tandem/engine.h"

// Immutable once made: all instances run on its weights.
struct tandem_model {
 public:
  static absl::StatusOr<std::unique_ptr<tandem_model>> Load(const std::filesystem::path& folder,
                                                            const tandem_option* options);

  const std::vector<tandem::TensorSignature>& tensors(bool is_output) const { return is_output ? outputs_ : inputs_; }
  absl::Status Run(tandem_request* request) const;

 private:
  tandem_model(tandem::interpreter::Program program, c10::Device device, int threads);
  at::Tensor ToTorch(const tandem_input& input) const;

  tandem::interpreter::Program program_;
  tandem::interpreter::Values weights_;  // on a device that is not the CPU; else the program's own are used
  c10::Device device_;
  int threads_;
  std::vector<tandem::TensorSignature> inputs_, outputs_;
};

// The model keeps all that a run needs.
struct tandem_instance {
  const tandem_model* model;
};

namespace tandem_torch {

// Checks model_path and writes what load needs into folder.
absl::Status Prepare(const std::filesystem::path& model_path, const std::filesystem::path& folder,
                     const tandem_option* options);
absl::StatusOr<uint64_t> EstimateBytes(const std::filesystem::path& folder);

}  // namespace tandem_torch
