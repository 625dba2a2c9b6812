#pragma once
// Between messages as gRPC carries them and messages as protobuf holds them.
#include <google/protobuf/message.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace tandem::api::rpc {

// InvalidArgument names the message's type when the bytes are none. Takes the bytes.
absl::Status ParseMessage(::grpc::ByteBuffer* bytes, google::protobuf::Message* message);
void WriteMessage(const google::protobuf::Message& message, ::grpc::ByteBuffer* bytes);

// Codes are the same numbers. Messages are cut to what fits into the trailer that clients accept.
::grpc::Status ToGrpc(const absl::Status& status);
// What the status says beside its message, as trailing metadata: "retry-after" in whole seconds, as over HTTP.
void AddHints(const absl::Status& status, ::grpc::ServerContext* context);

}  // namespace tandem::api::rpc
