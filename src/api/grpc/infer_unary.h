#pragma once
// A call with one request to infer, on the data plane from its first to its last byte.
#include <grpcpp/server_context.h>
#include <grpcpp/support/async_unary_call.h>

#include <atomic>
#include <optional>

#include "api/grpc/exchange.h"
#include "api/grpc/io_group.h"

namespace tandem::api::rpc {

class InferUnary : public Call, private Exchange::Sink {
 public:
  InferUnary(IoGroup* group, size_t method)
      : group_(group),
        method_(method),
        exchange_(group->door()->services, group->door()->methods[method].codec(), this) {}
  void Arm() override;

 private:
  void Answered(Exchange* exchange) override;
  void OnArrived(bool ok);
  void OnFinished(bool ok) { EndOne(ok); }
  void OnDone(bool ok);
  void EndOne(bool ok);

  IoGroup* const group_;
  const size_t method_;
  EventTo<InferUnary, &InferUnary::OnArrived> arrived_{this};
  EventTo<InferUnary, &InferUnary::OnFinished> finished_{this};
  EventTo<InferUnary, &InferUnary::OnDone> done_{this};
  std::optional<::grpc::ServerContext> context_;
  std::optional<::grpc::ServerAsyncResponseWriter<::grpc::ByteBuffer>> responder_;
  ::grpc::ByteBuffer request_;
  int open_ends_ = 0;  // events that still come
  // Set by the thread that answers, read by the call's own: gRPC orders the two, by locks that thread sanitizers do not
  // see.
  std::atomic<bool> answered_{false};
  Exchange exchange_;
};

}  // namespace tandem::api::rpc
