#include "api/grpc/stream_call.h"

#include "api/grpc/unpack.h"
#include "base/status.h"

namespace tandem::api::rpc {

void StreamCall::Arm() {
  context_.emplace();
  stream_.emplace(&*context_);
  held_ = 0;
  reading_ = writing_ = reads_over_ = broken_ = draining_ = finishing_ = finished_seen_ = done_seen_ = false;
  end_ = absl::OkStatus();
  context_->AsyncNotifyWhenDone(&done_);
  auto* queue = group_->queue();
  group_->door()->service.RequestAsyncBidiStreaming(static_cast<int>(method_), &*context_, &*stream_, queue, queue,
                                                    &arrived_);
}

void StreamCall::OnArrived(bool ok) {
  if (!ok || !group_->Begin(method_)) return;  // the server stops
  group_->AddStream(this);
  Caller caller;
  absl::Status allowed = group_->door()->CheckToken(*context_, method(), &caller);
  if (allowed.ok()) {
    Opened();
  } else {
    std::lock_guard lock(mutex_);
    end_ = allowed;
  }
  std::lock_guard lock(mutex_);
  Advance();
}

void StreamCall::Advance() {
  if (finishing_) return;
  const int open = held_ + static_cast<int>(to_send_.size());
  const bool ending = broken_ || !end_.ok();
  if (!reading_ && !reads_over_ && !ending && open < kMostOpen) {
    reading_ = true;
    stream_->Read(&message_, &read_);
  }
  if (writing_) return;
  if (!to_send_.empty()) {
    writing_ = true;
    stream_->Write(to_send_.front()->bytes(), &written_);
    return;
  }
  if (ending || (reads_over_ && held_ == 0)) {
    finishing_ = true;
    const bool stops = draining_ && end_.ok();
    stream_->Finish(ToGrpc(stops ? Unavailable("the server stops") : end_), &finished_);
  }
}

void StreamCall::OnRead(bool ok) {
  absl::Status status;
  if (ok) {
    bool wanted;
    {
      std::lock_guard lock(mutex_);
      wanted = !finishing_ && !broken_ && end_.ok();
    }
    // Still reading_: answers that come meanwhile do not read over the message, and the call stays.
    status = Unpack(group_->door()->settings.max_message_bytes, &message_).status();
    if (wanted && status.ok()) Received(&message_);
    message_.Clear();
  }
  bool last;
  {
    std::lock_guard lock(mutex_);
    if (end_.ok()) end_ = status;
    reading_ = false;
    if (!ok) reads_over_ = true;
    Advance();
    last = Over();
    // Only the leader may close it, and this thread was one before it ran an engine.
    if (last && !group_->Leads()) {
      group_->Post(this);
      last = false;
    }
  }
  if (last) Close();
}

void StreamCall::OnWritten(bool ok) {
  Item* sent;
  std::deque<Item*> dropped;
  {
    std::lock_guard lock(mutex_);
    sent = to_send_.front();
    to_send_.pop_front();
    if (!ok) dropped.swap(to_send_);
  }
  sent->Sent();
  for (Item* item : dropped) item->Sent();
  bool last;
  {
    std::lock_guard lock(mutex_);
    writing_ = false;
    if (!ok) broken_ = true;
    Advance();
    last = Over();
  }
  if (last) Close();
}

void StreamCall::OnFinished(bool) {
  bool last;
  {
    std::lock_guard lock(mutex_);
    finished_seen_ = true;
    last = Over();
  }
  if (last) Close();
}

void StreamCall::OnDone(bool) {
  if (group_->over()) return;  // it never began
  const bool cancelled = context_->IsCancelled();
  if (cancelled) Abandoned();
  bool last;
  {
    std::lock_guard lock(mutex_);
    done_seen_ = true;
    if (cancelled) broken_ = true;
    Advance();
    last = Over();
  }
  if (last) Close();
}

void StreamCall::Drain() {
  Abandoned();
  std::lock_guard lock(mutex_);
  draining_ = reads_over_ = true;
  Advance();
}

void StreamCall::Hold() {
  std::lock_guard lock(mutex_);
  ++held_;
}

void StreamCall::Send(Item* item) {
  std::lock_guard lock(mutex_);
  to_send_.push_back(item);
  Unhold();
}

void StreamCall::Drop(const absl::Status& error) {
  std::lock_guard lock(mutex_);
  if (end_.ok()) end_ = error;
  Unhold();
}

void StreamCall::SendNow(Item* item) {
  std::lock_guard lock(mutex_);
  to_send_.push_back(item);
  Advance();
}

void StreamCall::Unhold() {
  --held_;
  Advance();
  // All events have come: nobody else will close it.
  if (Over()) group_->Post(this);
}

void StreamCall::OnPosted() { Close(); }

void StreamCall::Close() {
  for (Item* item : to_send_) item->Sent();
  to_send_.clear();
  Closed();
  group_->RemoveStream(this);
  // Whatever is left of the call would keep its connection, and with that the server.
  stream_.reset();
  context_.reset();
  group_->Recycle(method_, this);
}

}  // namespace tandem::api::rpc
