#pragma once
// ModelStreamInfer: many requests over one call, answered in the order in which they finish.
#include <memory>
#include <vector>

#include "api/grpc/exchange.h"
#include "api/grpc/stream_call.h"

namespace tandem::api::rpc {

// An error is an answer with error_message and the request's id, and the stream goes on; with metadata
// "triton_grpc_error: true" it ends the call with its status instead.
class InferStream : public StreamCall {
 public:
  using StreamCall::StreamCall;

 private:
  struct Slot : public Item, private Exchange::Sink {
    explicit Slot(InferStream* stream);
    const ::grpc::ByteBuffer& bytes() const override { return error.Valid() ? error : exchange.answer(); }
    void Sent() override { stream->Free(this); }
    void Answered(Exchange*) override;

    InferStream* const stream;
    Exchange exchange;
    ::grpc::ByteBuffer error;
    bool used = false;
  };

  void Opened() override;
  void Received(::grpc::ByteBuffer* message) override;
  void Abandoned() override;
  void Closed() override;
  void Free(Slot* slot);

  Arrival arrival_;
  bool errors_end_ = false;
  // The leader's.
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<Slot*> free_;
};

}  // namespace tandem::api::rpc
