#include "api/grpc/infer_unary.h"

#include "api/grpc/unpack.h"

namespace tandem::api::rpc {
namespace {

constexpr size_t kUnpackedByTheLeader = 1024;

}  // namespace

void InferUnary::Arm() {
  context_.emplace();
  responder_.emplace(&*context_);
  context_->AsyncNotifyWhenDone(&done_);
  auto* queue = group_->queue();
  group_->door()->service.RequestAsyncUnary(static_cast<int>(method_), &*context_, &request_, &*responder_, queue,
                                            queue, &arrived_);
}

void InferUnary::OnArrived(bool ok) {
  if (!ok || !group_->Begin(method_)) return;  // the server stops
  open_ends_ = 2;
  Door* door = group_->door();
  Caller caller;
  absl::Status status = door->CheckToken(*context_, door->methods[method_], &caller);
  if (status.ok()) {
    // A kilobyte may unpack to a megabyte, for a millisecond. From here on nothing of the leader's is touched.
    if (request_.Length() > kUnpackedByTheLeader && IsPacked(&request_)) group_->StepAside();
    auto packed = Unpack(door->settings.max_message_bytes, &request_);
    status = packed.status();
    // Who packs its requests wants packed answers.
    if (packed.ok() && *packed != GRPC_COMPRESS_NONE) context_->set_compression_algorithm(*packed);
  }
  const Arrival arrival = Arrival::Of(*context_, door->methods[method_].path, door->services);
  if (!status.ok()) {
    request_.Clear();
    return exchange_.Refuse(arrival, status);
  }
  exchange_.Run(arrival, &request_);
}

// Once the responder was called, the other events may come on the leader at once: nothing follows it.
void InferUnary::Answered(Exchange* exchange) {
  if (exchange->status().ok()) {
    answered_.store(true, std::memory_order_release);
    responder_->Finish(exchange->answer(), ::grpc::Status::OK, &finished_);
  } else {
    AddHints(exchange->status(), &*context_);
    const ::grpc::Status status = ToGrpc(exchange->status());
    answered_.store(true, std::memory_order_release);
    responder_->FinishWithError(status, &finished_);
  }
}

void InferUnary::OnDone(bool ok) {
  if (context_->IsCancelled()) exchange_.Cancel();
  EndOne(ok);
}

void InferUnary::EndOne(bool) {
  if (--open_ends_ != 0) return;
  (void)answered_.load(std::memory_order_acquire);
  exchange_.Release();
  // Whatever is left of the call would keep its connection, and with that the server.
  responder_.reset();
  context_.reset();
  group_->Recycle(method_, this);
}

}  // namespace tandem::api::rpc
