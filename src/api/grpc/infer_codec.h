#pragma once
// One protocol's way to infer: its bytes, and a v2::InferCall.
#include <grpcpp/support/byte_buffer.h>

#include <string_view>

#include "absl/status/status.h"
#include "api/service.h"
#include "api/v2/infer_call.h"

namespace tandem::api::rpc {

// Reads one request after the other; what it read lives until the next Parse. Called on data-plane threads, one at a
// time. Errors go to the client.
class InferCodec {
 public:
  virtual ~InferCodec() = default;
  // Takes the message apart as far as it can without the model; may put tensors into call->buffers already. Keeps
  // nothing of the message.
  virtual absl::Status Parse(::grpc::ByteBuffer* message, v2::InferCall* call) = 0;
  // What Parse found; "" = none.
  virtual std::string_view model() const = 0;
  virtual std::string_view version() const = 0;
  // Fills in the call: inputs, wanted outputs, id, limits.
  virtual absl::Status Decode(const InferSession& session, const v2::SharedMemory& regions, v2::InferCall* call) = 0;
  // Writes the answer from call->answers. It may take over what these point to.
  virtual absl::Status Encode(const InferSession& session, v2::InferCall* call, ::grpc::ByteBuffer* answer) = 0;
  // What Parse found is not needed any more: gives back memory that the next request will hardly use.
  virtual void Release() = 0;
};

}  // namespace tandem::api::rpc
