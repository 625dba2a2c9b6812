#pragma once
// One request on its way through the door: bytes in, bytes or an error out.
#include <grpcpp/server_context.h>
#include <grpcpp/support/byte_buffer.h>

#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "api/grpc/infer_codec.h"
#include "api/service.h"
#include "api/v2/infer_call.h"

namespace tandem::api::rpc {

// What a call says about its requests, beside the messages.
struct Arrival {
  int64_t received_ns = 0;                   // monotonic
  int64_t deadline_ns = 0;                   // of the call, monotonic; 0 = none
  std::string_view route_key;                // lives as long as the call, and so do the next ones
  std::string_view path;                     // "/package.Service/Method"
  std::string_view traceparent, tracestate;  // read where requests are traced

  static Arrival Of(const ::grpc::ServerContext& context, std::string_view path, const Services& services);
};

// Reused from request to request. One thread at a time, but for Cancel.
class Exchange : private InferRequest::Owner {
 public:
  class Sink {
   public:
    virtual ~Sink() = default;
    // On any data-plane thread, perhaps before Run returns: status() and answer() are final.
    virtual void Answered(Exchange* exchange) = 0;
  };

  Exchange(const Services& services, std::unique_ptr<InferCodec> codec, Sink* sink)
      : services_(services), codec_(std::move(codec)), sink_(sink) {}

  // Takes the message. Calls Answered exactly once.
  void Run(const Arrival& arrival, ::grpc::ByteBuffer* message);
  // Instead of Run, for a message that is not taken.
  void Refuse(const Arrival& arrival, const absl::Status& status);
  // From any thread: it need not be answered any more.
  void Cancel() { call_.request.cancelled.store(true); }
  // After Answered: gives the model back, and memory that is large. Not from within it, as the session is still in use
  // then.
  void Release();

  const absl::Status& status() const { return status_; }
  const ::grpc::ByteBuffer& answer() const { return answer_; }
  std::string_view id() const { return call_.request.id; }

 private:
  void Finished(InferRequest* request) override;
  absl::Status Prepare(const Arrival& arrival, ::grpc::ByteBuffer* message);
  void Done(const absl::Status& status, InferTiming timing, int64_t ran_ns);
  void Trace(const absl::Status& status, const InferTiming& timing, int64_t end_ns);

  const Services& services_;
  const std::unique_ptr<InferCodec> codec_;
  Sink* const sink_;
  v2::InferCall call_;
  std::unique_ptr<InferSession> session_;
  Arrival arrival_;
  std::string_view model_;  // as the message names it; the codec's
  int64_t decoded_ns_ = 0;
  absl::Status status_;
  ::grpc::ByteBuffer answer_;
};

}  // namespace tandem::api::rpc
