#include "api/http/v2_infer.h"

#include <algorithm>

#include "api/http/tfserving_encoder.h"
#include "base/clock.h"
#include "base/status.h"

namespace tandem::api::http {
namespace {

constexpr int64_t kLongestTimeoutUs = int64_t{3600} * 1'000'000;
constexpr size_t kKeptBytes = 1 << 20;

int64_t Now() { return Clock::Real()->MonotonicNanos(); }

}  // namespace

InferSlot::InferSlot(const Services& services, int max_json_depth)
    : inference_(services.inference),
      regions_(services.regions),
      decoder_(max_json_depth, services.regions),
      tf_decoder_(max_json_depth) {}

absl::Status InferSlot::Start(const Arrived& arrived, InferRequest::Owner* owner) {
  large_ = large_ || arrived.body.size() > kKeptBytes;
  absl::Status status = CatchToStatus("infer", [&]() -> absl::Status {
    TANDEM_ASSIGN_OR_RETURN(session_, inference_->Open(arrived.model, arrived.version));
    return Decode(arrived);
  });
  InferRequest& request = call_.request;
  request.timing = {.received_ns = arrived.received_ns};
  started_ns_ = Now();
  input_ns_ = started_ns_ - arrived.received_ns;
  if (!status.ok()) {
    if (session_ != nullptr) session_->Done(false, request.timing, input_ns_, 0);
    return status;
  }
  if (request.route_key = arrived.route_key; request.route_key.empty()) request.route_key = request.id;
  const int64_t timeout_us = std::min(call_.timeout_us, kLongestTimeoutUs);
  request.deadline_ns = timeout_us == 0 ? 0 : arrived.received_ns + timeout_us * 1000;
  request.cancelled.store(false, std::memory_order_relaxed);
  request.owner = owner;
  session_->Start(&request);
  return absl::OkStatus();
}

absl::Status InferSlot::Decode(const Arrived& arrived) {
  format_ = arrived.format;
  if (format_ == Format::kTfServing) return tf_decoder_.Decode(arrived.body, *session_, &call_);
  TANDEM_RETURN_IF_ERROR(decoder_.Decode(arrived.body, arrived.json_bytes, *session_, &call_));
  return v2::PrepareOutputs(*session_, *regions_, &call_);
}

absl::Status InferSlot::Finish() {
  const int64_t begin_ns = Now();
  InferRequest& request = call_.request;
  for (const Tensor& tensor : request.outputs) large_ = large_ || tensor.buffer.size() > kKeptBytes;
  absl::Status status = request.status;
  if (status.ok()) {
    status = CatchToStatus("infer", [&]() -> absl::Status {
      TANDEM_RETURN_IF_ERROR(v2::FinishOutputs(*session_, &call_));
      return format_ == Format::kTfServing ? EncodeTfServing(call_, tf_decoder_.in_rows(), &answer_)
                                           : EncodeAnswer(*session_, call_, &answer_);
    });
  }
  session_->Done(status.ok(), request.timing, input_ns_, Now() - begin_ns);
  return status;
}

void InferSlot::Clear() {
  large_ = large_ || answer_.json.capacity() > kKeptBytes;
  session_.reset();
  call_.Clear();
}

}  // namespace tandem::api::http
