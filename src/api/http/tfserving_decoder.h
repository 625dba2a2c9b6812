#pragma once
// A predict request of TensorFlow Serving's REST interface, taken apart: rows ("instances") or columns ("inputs").
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "api/http/json_document.h"
#include "api/service.h"
#include "api/v2/infer_call.h"

namespace tandem::api::http {

// Types come from the model's signature, shapes from how the lists are nested. Reuses its memory from request to
// request. Thread-compatible. The texts of a decoded call lie in the decoder, as with InferDecoder.
class TfServingDecoder {
 public:
  explicit TfServingDecoder(int max_depth) : document_(max_depth) {}

  // `body`: simdjson::SIMDJSON_PADDING readable bytes behind its end. NaN, Infinity and -Infinity are read as numbers,
  // and {"b64": ..} as bytes. Clears `call` first; all outputs are wanted. Errors are InvalidArgument and name the
  // input.
  absl::Status Decode(std::string_view body, const InferSession& session, v2::InferCall* call);
  // Whether the last request came in rows; its answer does too.
  bool in_rows() const { return in_rows_; }

 private:
  class Input;  // one input while its values come in

  absl::Status DecodeRows(simdjson::dom::element value, const InferSession& session, v2::InferCall* call);
  absl::Status DecodeColumns(simdjson::dom::element value, const InferSession& session, v2::InferCall* call);
  absl::Status ReadRow(int64_t row, simdjson::dom::object values, std::vector<Input>* inputs) const;

  JsonDocument document_;
  std::string rewritten_;     // a body whose NaN and infinities were put into quotes
  size_t request_bytes_ = 0;  // no tensor has more elements than that
  bool in_rows_ = false;
};

}  // namespace tandem::api::http
