#pragma once
// A model on OpenVINO. Everything here throws; the C edge in openvino.cc catches.
#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "openvino/runtime/compiled_model.hpp"
#include "openvino/runtime/infer_request.hpp"
#include "shape_check.h"
#include "signature.h"
#include "tbb/task_arena.h"

struct tandem_model {
 public:
  tandem_model(const std::filesystem::path& folder, const tandem_option* options);
  ~tandem_model();
  tandem_model(const tandem_model&) = delete;
  tandem_model& operator=(const tandem_model&) = delete;

  const tandem_openvino::Signature& signature() const { return signature_; }
  int threads() const { return threads_; }
  // Of one instance; nullptr where none is needed.
  std::unique_ptr<tandem_openvino::ShapeCheck> MakeShapeCheck() const {
    return shape_check_ == nullptr ? nullptr : shape_check_->Clone();
  }
  // A compiled model that nobody else uses: the one that checked the blob at load, then a new import each time.
  ov::CompiledModel TakeCompiled();

 private:
  ov::CompiledModel Import() const;

  tandem_openvino::Signature signature_;
  int threads_;
  ov::AnyMap config_;
  void* blob_ = nullptr;  // mapped; imported models refer to it
  size_t blob_size_ = 0;
  std::unique_ptr<const tandem_openvino::ShapeCheck> shape_check_;  // only to clone
  std::optional<ov::CompiledModel> first_;
};

struct tandem_instance {
 public:
  explicit tandem_instance(tandem_model* model);
  bool has_free_sizes() const { return has_free_sizes_; }
  void Run(tandem_request* request);

 private:
  void CheckShapes(const tandem_request& request);
  void SetInput(size_t index, const tandem_input& input);

  const std::unique_ptr<tandem_openvino::ShapeCheck> shape_check_;
  std::vector<ov::Shape> checked_;  // that passed last
  const tandem_openvino::Signature& signature_;
  tbb::task_arena arena_;  // bounds what a run may use, whatever the settings make of it
  ov::CompiledModel compiled_;
  ov::InferRequest request_;
  std::vector<ov::Tensor> own_inputs_;  // memory of OpenVINO's, for small inputs
  std::vector<bool> uses_own_;
  bool has_free_sizes_;
};

namespace tandem_openvino {

// Compiles model_path into folder.
void Prepare(const std::filesystem::path& model_path, const std::filesystem::path& folder,
             const tandem_option* options);
uint64_t EstimateBytes(const std::filesystem::path& folder);

}  // namespace tandem_openvino
