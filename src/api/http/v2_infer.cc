#include "api/http/v2_infer.h"

#include <algorithm>

#include "base/clock.h"
#include "base/status.h"

namespace tandem::api::http {
namespace {

constexpr int64_t kLongestTimeoutUs = int64_t{3600} * 1'000'000;

}  // namespace

absl::Status InferDoor::Handle(const Arrived& arrived, InferAnswer* answer) {
  return CatchToStatus("infer", [&]() -> absl::Status {
    TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<InferSession> session, inference_->Open(arrived.model, arrived.version));
    return RunInSession(arrived, session.get(), answer);
  });
}

absl::Status InferDoor::RunInSession(const Arrived& arrived, InferSession* session, InferAnswer* answer) {
  Clock* clock = Clock::Real();
  InferTiming timing;
  timing.received_ns = arrived.received_ns;
  absl::Status status = decoder_.Decode(arrived.body, arrived.json_bytes, *session, &call_);
  if (status.ok()) status = CheckWantedOutputs(*session, call_);
  int64_t decoded_ns = clock->MonotonicNanos();
  int64_t ran_ns = decoded_ns;
  if (status.ok()) {
    int64_t timeout_us = std::min(call_.timeout_us, kLongestTimeoutUs);
    int64_t deadline_ns = timeout_us == 0 ? 0 : arrived.received_ns + timeout_us * 1000;
    status = session->Run(call_.inputs, &answer->outputs, deadline_ns, &timing);
    ran_ns = clock->MonotonicNanos();
  }
  if (status.ok()) status = EncodeAnswer(*session, call_, answer);
  int64_t encoded_ns = clock->MonotonicNanos();
  session->Done(status.ok(), timing, decoded_ns - arrived.received_ns, encoded_ns - ran_ns);
  return status;
}

}  // namespace tandem::api::http
