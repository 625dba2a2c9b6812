#include "api/grpc/infer_unary.h"

#include "api/grpc/unpack.h"

namespace tandem::api::rpc {

void InferUnary::Arm() {
  context_.emplace();
  responder_.emplace(&*context_);
  context_->AsyncNotifyWhenDone(&done_);
  auto* queue = thread_->queue();
  thread_->door()->service.RequestAsyncUnary(static_cast<int>(method_), &*context_, &request_, &*responder_, queue,
                                             queue, &arrived_);
}

void InferUnary::OnArrived(bool ok) {
  if (!ok || !thread_->Begin(method_)) return;  // the server stops
  open_ends_ = 2;
  Door* door = thread_->door();
  Caller caller;
  absl::Status status = door->CheckToken(*context_, door->methods[method_], &caller);
  if (status.ok()) {
    auto packed = Unpack(door->settings.max_message_bytes, &request_);
    status = packed.status();
    // Who packs its requests wants packed answers.
    if (packed.ok() && *packed != GRPC_COMPRESS_NONE) context_->set_compression_algorithm(*packed);
  }
  if (!status.ok()) {
    request_.Clear();
    return responder_->FinishWithError(ToGrpc(status), &finished_);
  }
  exchange_.Run(Arrival::Of(*context_), &request_);
}

// Once the responder was called, the other events may come on the call's thread at once: nothing follows it.
void InferUnary::Answered(Exchange* exchange) {
  if (exchange->status().ok()) {
    responder_->Finish(exchange->answer(), ::grpc::Status::OK, &finished_);
  } else {
    AddHints(exchange->status(), &*context_);
    responder_->FinishWithError(ToGrpc(exchange->status()), &finished_);
  }
}

void InferUnary::OnDone(bool ok) {
  if (context_->IsCancelled()) exchange_.Cancel();
  EndOne(ok);
}

void InferUnary::EndOne(bool) {
  if (--open_ends_ != 0) return;
  exchange_.Release();
  // Whatever is left of the call would keep its connection, and with that the server.
  responder_.reset();
  context_.reset();
  thread_->Recycle(method_, this);
}

}  // namespace tandem::api::rpc
