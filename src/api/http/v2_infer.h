#pragma once
// POST /v2/models/{model}[/versions/{version}]/infer, and the same as TensorFlow Serving has it
// (/v1/models/{model}:predict): what one such request needs from its bytes to its answer.
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "api/http/infer_decoder.h"
#include "api/http/infer_encoder.h"
#include "api/http/router.h"
#include "api/http/tfserving_decoder.h"
#include "api/v2/infer_call.h"

namespace tandem::api::http {

// Lent to a connection while it works on such a request; its memory is reused. Thread-compatible: the connection's own
// thread calls it, and leaves it alone from Start until the request is finished, but for Cancel.
class InferSlot {
 public:
  // What services points to outlives it.
  InferSlot(const Services& services, int max_json_depth);

  struct Arrived {
    std::string_view model, version;
    std::string_view body;              // as InferDecoder::Decode wants it; stays until Clear
    std::optional<int64_t> json_bytes;  // the length header
    std::string_view route_key;         // "" = the request's id
    int64_t received_ns = 0;            // monotonic
    Format format = Format::kV2;
  };
  // Decodes the request and starts it. OK: `owner` is told when it is finished, perhaps before this returns. An error:
  // nothing was started.
  absl::Status Start(const Arrived& arrived, InferRequest::Owner* owner);
  // The client has gone.
  void Cancel() { call_.request.cancelled.store(true, std::memory_order_relaxed); }
  // Once it is finished: writes the answer. An error is the request's.
  absl::Status Finish();
  const InferAnswer& answer() const { return answer_; }
  // Once it was answered, for a trace of it.
  void Describe(RequestTrace* trace) const {
    v2::Describe(session_.get(), call_.request, call_.request.timing, started_ns_, trace);
  }

  // Ready for another request.
  void Clear();
  // It holds more memory than is worth keeping for the next request.
  bool is_large() const { return large_; }

 private:
  absl::Status Decode(const Arrived& arrived);

  Inference* const inference_;
  const v2::SharedMemory* const regions_;
  InferDecoder decoder_;
  TfServingDecoder tf_decoder_;
  Format format_ = Format::kV2;
  v2::InferCall call_;
  std::unique_ptr<InferSession> session_;
  InferAnswer answer_;
  int64_t input_ns_ = 0, started_ns_ = 0;
  bool large_ = false;
};

}  // namespace tandem::api::http
