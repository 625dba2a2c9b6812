#include "api/grpc/unary_call.h"

#include <algorithm>

#include "api/grpc/unpack.h"
#include "base/status.h"

namespace tandem::api::rpc {
namespace {

// Of a call that is answered at once: it holds a name at most. The leader unpacks and reads it, and others wait for the
// leader.
constexpr int64_t kMostAtOnce = 64 << 10;

}  // namespace

void UnaryCall::Arm() {
  context_.emplace();
  responder_.emplace(&*context_);
  caller_ = {};
  auto* queue = group_->queue();
  group_->door()->service.RequestAsyncUnary(static_cast<int>(method_), &*context_, &request_, &*responder_, queue,
                                            queue, &arrived_);
}

void UnaryCall::OnArrived(bool ok) {
  if (!ok || !group_->Begin(method_)) return;  // the server stops
  Door* door = group_->door();
  const Method& method = door->methods[method_];
  status_ = door->CheckToken(*context_, method, &caller_);
  if (!status_.ok()) return Finish();
  if (method.plane == http::Plane::kAtOnce) {
    status_ = Work();
    return Finish();
  }
  if ((method.plane == http::Plane::kSlow ? door->slow : door->quick).Submit(this)) return;
  status_ = Unavailable("the server is busy with other management requests; try again");
  Finish();
}

void UnaryCall::RunOnPool() {
  status_ = Work();
  group_->Post(this);
}

absl::Status UnaryCall::Work() {
  return CatchToStatus("answer the call", [this]() -> absl::Status {
    Door* door = group_->door();
    const Method& method = door->methods[method_];
    TANDEM_RETURN_IF_ERROR(door->CheckCaller(*context_, method, &caller_));
    int64_t most = door->settings.max_message_bytes;
    if (method.plane == http::Plane::kAtOnce) most = std::min(most, kMostAtOnce);
    if (request_.Length() > static_cast<size_t>(most)) {
      return ResourceExhausted("the request has ", request_.Length(), " bytes, at most ", most, " are taken here");
    }
    TANDEM_RETURN_IF_ERROR(Unpack(most, &request_).status());
    return method.unary(Context{door->services, caller_}, &request_, &answer_);
  });
}

void UnaryCall::OnPosted() { Finish(); }

void UnaryCall::Finish() {
  if (status_.ok()) {
    responder_->Finish(answer_, ::grpc::Status::OK, &finished_);
  } else {
    AddHints(status_, &*context_);
    responder_->FinishWithError(ToGrpc(status_), &finished_);
  }
}

void UnaryCall::OnFinished(bool) {
  request_.Clear();
  answer_.Clear();
  // Whatever is left of the call would keep its connection, and with that the server.
  responder_.reset();
  context_.reset();
  group_->Recycle(method_, this);
}

}  // namespace tandem::api::rpc
