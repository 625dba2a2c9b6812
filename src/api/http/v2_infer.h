#pragma once
// POST /v2/models/{model}[/versions/{version}]/infer: decode, run, encode, on the thread that read the request.
#include <cstdint>
#include <optional>
#include <string_view>

#include "api/http/infer_decoder.h"
#include "api/http/infer_encoder.h"

namespace tandem::api::http {

// Reuses its memory. Thread-compatible: one per data-plane thread.
class InferDoor {
 public:
  InferDoor(Inference* inference, int max_json_depth) : inference_(inference), decoder_(max_json_depth) {}

  struct Arrived {
    std::string_view model, version;
    std::string_view body;              // as InferDecoder::Decode wants it
    std::optional<int64_t> json_bytes;  // the length header
    int64_t received_ns = 0;            // monotonic
  };
  // `answer` is whole when OK; its outputs' memory is reused by the next call with the same answer.
  absl::Status Handle(const Arrived& arrived, InferAnswer* answer);

 private:
  absl::Status RunInSession(const Arrived& arrived, InferSession* session, InferAnswer* answer);

  Inference* inference_;
  InferDecoder decoder_;
  InferCall call_;
};

}  // namespace tandem::api::http
