#pragma once
// A model on OpenVINO. Everything here throws; the C edge in openvino.cc catches.
#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "openvino/runtime/compiled_model.hpp"
#include "openvino/runtime/infer_request.hpp"
#include "signature.h"

struct tandem_model {
 public:
  tandem_model(const std::filesystem::path& folder, const tandem_option* options);
  ~tandem_model();
  tandem_model(const tandem_model&) = delete;
  tandem_model& operator=(const tandem_model&) = delete;

  const tandem_openvino::Signature& signature() const { return signature_; }
  // A compiled model that nobody else uses: the one that checked the blob at load, then a new import each time.
  ov::CompiledModel TakeCompiled();

 private:
  ov::CompiledModel Import() const;

  tandem_openvino::Signature signature_;
  std::string device_;
  ov::AnyMap config_;
  void* blob_ = nullptr;  // mapped; imported models refer to it
  size_t blob_size_ = 0;
  std::optional<ov::CompiledModel> first_;
};

struct tandem_instance {
 public:
  explicit tandem_instance(tandem_model* model);
  void Run(tandem_request* request);

 private:
  void SetInput(size_t index, const tandem_input& input);

  const tandem_openvino::Signature& signature_;
  ov::CompiledModel compiled_;
  ov::InferRequest request_;
  std::vector<ov::Tensor> own_inputs_;  // memory of OpenVINO's, for small inputs
  std::vector<bool> uses_own_;
};

namespace tandem_openvino {

// Compiles model_path into folder.
void Prepare(const std::filesystem::path& model_path, const std::filesystem::path& folder,
             const tandem_option* options);
uint64_t EstimateBytes(const std::filesystem::path& folder);

}  // namespace tandem_openvino
