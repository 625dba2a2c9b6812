// Connection: answers on their way out.
#include <errno.h>
#include <sys/socket.h>

#include <algorithm>
#include <span>
#include <utility>

#include "api/http/connection.h"
#include "api/http/io_thread.h"
#include "base/status.h"

namespace tandem::api::http {
namespace {

// A refused body up to this size is read and dropped, so that the connection can go on.
constexpr uint64_t kMostDiscarded = 64 << 10;
constexpr double kLingerSeconds = 2;
constexpr size_t kMostPieces = 64;
constexpr size_t kKeptBytes = 1 << 20;
// zlib's fastest level takes about a millisecond for so many bytes. Larger answers are compressed by a pool's thread.
constexpr size_t kCompressedHere = 64 << 10;

}  // namespace

// A request that is not worked on. When much of its body is still to come, the connection ends.
Connection::Step Connection::Refuse(Reply reply) {
  uint64_t length = parser_->content_length().value_or(0);
  // Any transfer encoding: where the body ends is not known without taking it apart.
  if (!head_.transfer_encoding.empty() || head_.expect_continue || length > kMostDiscarded) {
    return RefuseAndClose(std::move(reply));
  }
  reply_ = std::move(reply);
  phase_ = Phase::kBody;
  body_mode_ = BodyMode::kDiscard;
  body_left_ = length;
  return Step::kNext;
}

Connection::Step Connection::RefuseAndClose(Reply reply) {
  keep_alive_ = false;
  return SendReply(std::move(reply));
}

Connection::Step Connection::SendReply(Reply reply) {
  reply_ = std::move(reply);
  StartPieces();
  AddPiece(reply_.body);
  return SendReplyPieces(-1);
}

void Connection::StartPieces() {
  next_piece_ = 0;
  answer_coding_ = Coding::kNone;
  pieces_.assign(1, {});
}

void Connection::AddPiece(std::string_view piece) {
  if (!piece.empty()) pieces_.push_back({const_cast<char*>(piece.data()), piece.size()});
}

Connection::Step Connection::SendReplyPieces(int64_t tensor_header_bytes) {
  tensor_header_bytes_ = tensor_header_bytes;
  size_t length = 0;
  for (const iovec& piece : pieces_) length += piece.iov_len;
  if (!WantsCompression(length)) return SendHeadAndPieces();
  // Where there is no room or memory for it, the answer goes out plain.
  if (length > kCompressedHere) return Submit(PoolJob::kDeflate) ? Step::kWait : SendHeadAndPieces();
  Compress();
  return SendHeadAndPieces();
}

bool Connection::WantsCompression(size_t length) const {
  const bool large_file = file_.valid();
  // Only what infers: the asyncio client asks with every request, and unpacks those answers alone.
  const bool infers = route_ != nullptr && route_->plane == Plane::kInfer;
  return infers && !head_.accept_encoding.empty() && length > 0 && reply_.code == 200 && !large_file &&
         CodingForAnswer(head_.accept_encoding) != Coding::kNone;
}

// On the own thread or a pool's.
void Connection::Compress() {
  const Coding coding = CodingForAnswer(head_.accept_encoding);
  if (!Deflate(coding, std::span(pieces_).subspan(1), &compressed_).ok()) return;
  StartPieces();
  AddPiece(compressed_);
  answer_coding_ = coding;
}

Connection::Step Connection::SendHeadAndPieces() {
  HeadLines lines;
  lines.content_length = file_.valid() ? file_left_ : 0;
  for (const iovec& piece : pieces_) lines.content_length += static_cast<int64_t>(piece.iov_len);
  lines.tensor_header_bytes = tensor_header_bytes_;
  lines.connection = !keep_alive_ ? "close" : head_.version == 10 ? "keep-alive" : "";
  lines.request_id = head_.request_id;
  if (answer_coding_ != Coding::kNone) lines.content_encoding = CodingName(answer_coding_);
  head_text_.clear();
  AppendHead(reply_, lines, &head_text_);
  pieces_[0] = {head_text_.data(), head_text_.size()};
  return Send();
}

Connection::Step Connection::Send() {
  phase_ = Phase::kSend;
  while (next_piece_ < pieces_.size()) {
    msghdr message = {};
    message.msg_iov = pieces_.data() + next_piece_;
    message.msg_iovlen = std::min(pieces_.size() - next_piece_, kMostPieces);
    ssize_t sent = sendmsg(fd_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK) return Step::kGone;
    if (sent < 0) {
      deadline_ns_ = After(door_->settings.read_timeout_s);
      return Step::kWait;
    }
    for (auto left = static_cast<size_t>(sent); left > 0;) {
      iovec& piece = pieces_[next_piece_];
      size_t taken = std::min(left, piece.iov_len);
      piece.iov_base = static_cast<char*>(piece.iov_base) + taken;
      piece.iov_len -= taken;
      left -= taken;
      if (piece.iov_len == 0) ++next_piece_;
    }
  }
  return OnSent();
}

Connection::Step Connection::OnSent() {
  pieces_.clear();
  next_piece_ = 0;
  if (file_left_ > 0) return SubmitOrRefuse(PoolJob::kReadFile);
  if (!keep_alive_) return Linger();
  FinishRequest();
  return Step::kNext;
}

// Closing while bytes of the peer are unread would reset the connection and could lose the answer: the own side ends
// first, and what still comes is dropped until the peer ends too, or for a while.
Connection::Step Connection::Linger() {
  FinishRequest();
  phase_ = Phase::kLinger;
  deadline_ns_ = After(kLingerSeconds);
  if (shutdown(fd_.get(), SHUT_WR) != 0 || closing_) return Step::kGone;
  if (in_.size() <= BodyBuffer::kPadding) in_.Resize(4096);
  return Step::kNext;
}

// Does nothing unless one has begun. code 0: the connection ends without an answer.
void Connection::EndTrace(int code) {
  const int64_t begin_ns = std::exchange(trace_begin_ns_, 0);
  if (begin_ns == 0) return;
  Tracer::Record trace = door_->services.tracer->Begin(head_.traceparent, head_.tracestate);
  if (!trace) return;
  trace->door = RequestTrace::Door::kHttp;
  trace->code = code;
  trace->verb.Set(VerbName(head_.verb));
  trace->route.Set(route_->pattern);
  trace->path.Set(std::string_view(head_.target).substr(0, head_.target.find('?')));
  trace->error.Set(code == 0 ? "the connection ended before the answer" : reply_.error);
  trace->model.Set(request_.Param("model"));
  trace->begin_ns = begin_ns;
  trace->end_ns = Now();
  if (slot_ != nullptr) slot_->Describe(trace.operator->());
}

void Connection::FinishRequest() {
  EndTrace(reply_.code);
  parser_.reset();
  body_.Clear();
  if (reserved_ > 0) door_->Release(std::exchange(reserved_, 0));
  spool_.Remove();
  file_.Reset();
  file_left_ = 0;
  inflating_.reset();
  if (slot_ != nullptr) thread_->ReturnSlot(std::move(slot_));
  if (compressed_.capacity() > kKeptBytes) compressed_ = std::string();
  if (file_piece_.capacity() > 0) file_piece_ = std::string();
  deadline_ns_ = After(door_->settings.idle_timeout_s);
  phase_ = Phase::kHead;
}

}  // namespace tandem::api::http
