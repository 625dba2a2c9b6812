#pragma once
// An infer request of Open Inference Protocol v2, taken apart: JSON, the binary tensor extension, or raw bytes.
#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "api/http/json_document.h"
#include "api/service.h"
#include "api/v2/infer_call.h"
#include "simdjson.h"

namespace tandem::api::http {

// Reuses its memory from request to request. Thread-compatible. The texts of a decoded call (id, names) lie in the
// decoder, so each request in flight has one of its own until its answer was sent.
class InferDecoder {
 public:
  // JSON nested deeper than `max_depth` is refused. `regions` outlives it.
  InferDecoder(int max_depth, const v2::SharedMemory* regions) : regions_(regions), document_(max_depth) {}

  // `body`: simdjson::SIMDJSON_PADDING readable bytes behind its end. `json_bytes`: the length header, if it was sent;
  // 0 means that the whole body is the data of the model's only input. Clears `call` first, and leaves its outputs to
  // v2::PrepareOutputs. Tensors that do not lie at a multiple of 64 bytes are copied once. Errors are InvalidArgument
  // (NotFound for a region) and name the input.
  absl::Status Decode(std::string_view body, std::optional<int64_t> json_bytes, const InferSession& session,
                      v2::InferCall* call);

 private:
  struct Input;    // one entry of "inputs" while it is read
  struct Context;  // what is constant during one request

  absl::Status DecodeJson(std::string_view json, std::string_view binary, const InferSession& session,
                          v2::InferCall* call);
  absl::Status ReadInputs(simdjson::dom::element value, const Context& context, std::string_view* binary,
                          v2::InferCall* call);
  absl::Status UseData(const Input& input, const Context& context, std::string_view* binary, v2::InferCall* call,
                       InputTensor* tensor);

  const v2::SharedMemory* const regions_;
  JsonDocument document_;
};

}  // namespace tandem::api::http
