#include "api/grpc/infer_stream.h"

#include "api/grpc/v2_codec.h"
#include "base/clock.h"
#include "base/status.h"

namespace tandem::api::rpc {

InferStream::Slot::Slot(InferStream* owner)
    : stream(owner), exchange(owner->group()->door()->services, std::make_unique<V2Codec>(true), this) {}

void InferStream::Slot::Answered(Exchange*) {
  const absl::Status& status = exchange.status();
  if (!status.ok() && stream->errors_end_) return stream->Drop(status);
  if (!status.ok()) {
    inference::ModelStreamInferResponse response;
    response.set_error_message(std::string(MessageOf(status)));
    response.mutable_infer_response()->set_id(std::string(exchange.id()));
    WriteMessage(response, &error);
  }
  stream->Send(this);
}

void InferStream::Opened() {
  arrival_ = Arrival::Of(context(), method().path, group()->door()->services);
  auto found = context().client_metadata().find("triton_grpc_error");
  errors_end_ = found != context().client_metadata().end() && found->second == "true";
}

void InferStream::Received(::grpc::ByteBuffer* message) {
  if (free_.empty()) {
    slots_.push_back(std::make_unique<Slot>(this));
    free_.push_back(slots_.back().get());
  }
  Slot* slot = free_.back();
  free_.pop_back();
  slot->used = true;
  Hold();
  group()->CountRequest();
  arrival_.received_ns = Clock::Real()->MonotonicNanos();
  slot->exchange.Run(arrival_, message);
}

void InferStream::Abandoned() {
  for (const auto& slot : slots_) {
    if (slot->used) slot->exchange.Cancel();
  }
}

void InferStream::Closed() {
  for (const auto& slot : slots_) {
    if (slot->used) Free(slot.get());
  }
}

void InferStream::Free(Slot* slot) {
  slot->exchange.Release();
  slot->error.Clear();
  slot->used = false;
  free_.push_back(slot);
}

}  // namespace tandem::api::rpc
