#pragma once
// A model on ONNX Runtime. Everything here throws; the C edge in onnxruntime.cc catches.
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "runtime.h"
#include "tandem/engine.h"

// Immutable once made: all instances run on its one session.
struct tandem_model {
 public:
  tandem_model(const std::filesystem::path& folder, const tandem_option* options);

  OrtSession* session() const { return session_.get(); }
  const std::vector<tandem_signature>& tensors(bool is_output) const { return is_output ? outputs_ : inputs_; }

 private:
  tandem_onnxruntime::Session session_;
  std::vector<tandem_signature> inputs_, outputs_;
  std::vector<std::string> names_;  // what the signatures point to
};

struct tandem_instance {
 public:
  explicit tandem_instance(tandem_model* model);
  bool has_free_sizes() const { return has_free_sizes_; }
  void Run(tandem_request* request);

 private:
  const tandem_model& model_;
  std::vector<const char*> input_names_, output_names_;
  bool has_free_sizes_;
};

namespace tandem_onnxruntime {

// Checks model_path and writes what load needs into folder.
void Prepare(const std::filesystem::path& model_path, const std::filesystem::path& folder,
             const tandem_option* options);
uint64_t EstimateBytes(const std::filesystem::path& folder);

}  // namespace tandem_onnxruntime
