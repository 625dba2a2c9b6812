#pragma once
// An infer request of Open Inference Protocol v2, taken apart: JSON, the binary tensor extension, or raw bytes.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "api/service.h"
#include "base/tensor.h"
#include "simdjson.h"

namespace tandem::api::http {

struct WantedOutput {
  std::string_view name;
  bool binary = false;
};

// Views point into the request's body and the decoder; they live until the decoder's next request.
struct InferCall {
  std::string_view id;
  int64_t timeout_us = 0;      // 0 = the server's limit
  bool binary_output = false;  // where an output does not say
  std::vector<InputTensor> inputs;
  std::vector<WantedOutput> wanted;  // empty = all
  void Clear();
};

// Reuses its memory from request to request. Thread-compatible: one per data-plane thread.
class InferDecoder {
 public:
  // JSON nested deeper than `max_depth` is refused.
  explicit InferDecoder(int max_depth);

  // `body`: simdjson::SIMDJSON_PADDING readable bytes behind its end. `json_bytes`: the length header, if it was sent;
  // 0 means that the whole body is the data of the model's only input. Tensors that do not lie at a multiple of 64
  // bytes are copied once. Errors are InvalidArgument and name the input.
  absl::Status Decode(std::string_view body, std::optional<int64_t> json_bytes, const InferSession& session,
                      InferCall* call);

 private:
  struct Input;  // one entry of "inputs" while it is read

  absl::Status DecodeJson(std::string_view json, std::string_view binary, InferCall* call);
  absl::Status DecodeRaw(std::string_view body, const InferSession& session, InferCall* call);
  absl::Status ReadInputs(simdjson::dom::element value, std::string_view* binary, size_t json_size, InferCall* call);
  absl::Status ReadData(const Input& input, size_t json_size, InputTensor* tensor);
  absl::Status UseBinary(std::string_view bytes, InputTensor* tensor);
  AlignedBuffer* NextBuffer(size_t bytes);

  const int max_depth_;
  simdjson::dom::parser parser_;
  std::vector<AlignedBuffer> buffers_;
  size_t buffers_used_ = 0;
};

}  // namespace tandem::api::http
