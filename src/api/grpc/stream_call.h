#pragma once
// A call with streams in both directions: its life, for whatever is done with its messages.
#include <grpcpp/server_context.h>
#include <grpcpp/support/async_stream.h>

#include <deque>
#include <memory>
#include <mutex>
#include <optional>

#include "api/grpc/io_group.h"

namespace tandem::api::rpc {

// Messages are read one after the other while fewer than kMostOpen are being worked on; what is sent goes out one after
// the other. The call ends once the client has said its last word and nothing is held or waits to be sent.
class StreamCall : public Call {
 public:
  // Messages of one call that are worked on or wait to be sent.
  static constexpr int kMostOpen = 64;

  StreamCall(IoGroup* group, size_t method) : group_(group), method_(method) {}
  void Arm() final;
  void Drain() final;
  void OnPosted() final;

 protected:
  // One message, or what is being done for it. Lives until it was sent.
  struct Item {
    virtual ~Item() = default;
    virtual const ::grpc::ByteBuffer& bytes() const = 0;
    // It was sent, or will never be. On the leader.
    virtual void Sent() {}
  };

  // ---- For subclasses; all on the leader.
  virtual void Opened() {}
  // The lead may be handed over within; only then does it not come before what follows.
  virtual void Received(::grpc::ByteBuffer* message) = 0;
  // The client left, or the server stops: what is held should be let go.
  virtual void Abandoned() {}
  // Nothing of the call is left: ready for the next one.
  virtual void Closed() {}

  // From any thread. Held things keep the call open; each Hold is followed by one Send or Drop.
  void Hold();
  void Send(Item* item);
  // `error`: ends the call with this status after what was sent before; OK: nothing.
  void Drop(const absl::Status& error = absl::OkStatus());
  // Without a Hold before it.
  void SendNow(Item* item);

  IoGroup* group() { return group_; }
  const ::grpc::ServerContext& context() const { return *context_; }
  const Method& method() const { return group_->door()->methods[method_]; }

 private:
  void OnArrived(bool ok);
  void OnRead(bool ok);
  void OnWritten(bool ok);
  void OnFinished(bool ok);
  void OnDone(bool ok);
  void Advance();  // starts what can be started; REQUIRES: mutex_
  // REQUIRES: mutex_. True when all of the call has ended.
  bool Over() const { return !reading_ && !writing_ && held_ == 0 && finished_seen_ && done_seen_; }
  void Unhold();  // REQUIRES: mutex_
  // Once, after what made it over.
  void Close();

  IoGroup* const group_;
  const size_t method_;
  EventTo<StreamCall, &StreamCall::OnArrived> arrived_{this};
  EventTo<StreamCall, &StreamCall::OnRead> read_{this};
  EventTo<StreamCall, &StreamCall::OnWritten> written_{this};
  EventTo<StreamCall, &StreamCall::OnFinished> finished_{this};
  EventTo<StreamCall, &StreamCall::OnDone> done_{this};
  std::optional<::grpc::ServerContext> context_;
  std::optional<::grpc::ServerAsyncReaderWriter<::grpc::ByteBuffer, ::grpc::ByteBuffer>> stream_;
  ::grpc::ByteBuffer message_;

  // Answers come from any data-plane thread; control threads never take it.
  std::mutex mutex_;
  // Guarded by mutex_.
  std::deque<Item*> to_send_;  // the first one is on its way while writing_
  int held_ = 0;
  bool reading_ = false, writing_ = false, reads_over_ = false, broken_ = false, draining_ = false;
  bool finishing_ = false, finished_seen_ = false, done_seen_ = false;
  absl::Status end_;
};

}  // namespace tandem::api::rpc
