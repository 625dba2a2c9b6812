#pragma once
// What decoders of requests are given in the fuzz targets: a model with an input of each kind of type, which gives its
// inputs back.
#include <string.h>

#include <string>
#include <utility>
#include <vector>

#include "api/service.h"
#include "api/v2/infer_call.h"

namespace tandem::api {

class FuzzSession : public InferSession {
 public:
  explicit FuzzSession(std::vector<TensorSignature> tensors = Tensors()) : tensors_(std::move(tensors)) {}

  static std::vector<TensorSignature> Tensors() {
    return {{"x", DType::kFloat32, {-1, 4}},  {"y", DType::kUint64, {-1}}, {"s", DType::kString, {-1}},
            {"b", DType::kBool, {}},          {"i", DType::kInt8, {-1}},   {"h", DType::kFloat16, {-1}},
            {"d", DType::kFloat64, {-1, -1}}, {"u", DType::kUint16, {2}},  {"n_bytes", DType::kString, {-1, 2}}};
  }

  const std::string& model() const override { return name_; }
  const std::string& version() const override { return version_; }
  const std::string& platform() const override { return name_; }
  const std::vector<TensorSignature>& inputs() const override { return tensors_; }
  const std::vector<TensorSignature>& outputs() const override { return tensors_; }
  const spec::ModelConfig& config() const override { return config_; }
  void Start(InferRequest*) override {}
  void Done(bool, const InferTiming&, int64_t, int64_t) override {}

 private:
  const std::string name_ = "m", version_ = "1";
  const std::vector<TensorSignature> tensors_;
  const spec::ModelConfig config_;
};

// From a decoded call to one that can be encoded; false where a client would be told what is wrong.
inline bool AnswerCall(const InferSession& session, const v2::SharedMemory& regions, v2::InferCall* call) {
  if (!v2::PrepareOutputs(session, regions, call).ok()) return false;
  call->request.outputs.clear();
  for (const InputTensor& input : call->request.inputs) {
    Tensor& output = call->request.outputs.emplace_back();
    output.name = input.name;
    output.dtype = input.dtype;
    output.shape = input.shape;
    output.buffer.Resize(input.byte_size);
    if (input.byte_size > 0) memcpy(output.buffer.data(), input.data, input.byte_size);
  }
  return v2::FinishOutputs(session, call).ok();
}

}  // namespace tandem::api
