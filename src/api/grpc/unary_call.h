#pragma once
// A verb: taken by a data-plane thread, worked on by a control thread (Plane::kAtOnce: at once), answered by the
// data-plane thread.
#include <grpcpp/server_context.h>
#include <grpcpp/support/async_unary_call.h>

#include <optional>

#include "api/grpc/io_group.h"
#include "api/http/control_pool.h"

namespace tandem::api::rpc {

class UnaryCall : public Call, private http::ControlWork {
 public:
  UnaryCall(IoGroup* group, size_t method) : group_(group), method_(method) {}
  void Arm() override;

 private:
  void OnPosted() override;
  void RunOnPool() override;
  void OnArrived(bool ok);
  void OnFinished(bool ok);
  absl::Status Work();
  void Finish();

  IoGroup* const group_;
  const size_t method_;
  EventTo<UnaryCall, &UnaryCall::OnArrived> arrived_{this};
  EventTo<UnaryCall, &UnaryCall::OnFinished> finished_{this};
  std::optional<::grpc::ServerContext> context_;
  std::optional<::grpc::ServerAsyncResponseWriter<::grpc::ByteBuffer>> responder_;
  ::grpc::ByteBuffer request_, answer_;
  Caller caller_;
  absl::Status status_;
};

}  // namespace tandem::api::rpc
