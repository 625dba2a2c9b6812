// Connection: answers on their way out.
#include <errno.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "api/http/connection.h"
#include "api/http/io_thread.h"
#include "base/status.h"

namespace tandem::api::http {
namespace {

using boost::system::error_code;

// A refused body up to this size is read and dropped, so that the connection can go on.
constexpr uint64_t kMostDiscarded = 64 << 10;
constexpr double kLingerSeconds = 2;
constexpr size_t kMostPieces = 64;
constexpr size_t kKeptBytes = 1 << 20;

}  // namespace

// A request that is not worked on. When much of its body is still to come, the connection ends.
Connection::Step Connection::Refuse(Reply reply) {
  uint64_t length = parser_->content_length().value_or(0);
  if (parser_->chunked() || head_.expect_continue || length > kMostDiscarded) return RefuseAndClose(std::move(reply));
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
  const bool from_file = file_.valid();
  StartAnswer(reply_, from_file ? file_left_ : static_cast<int64_t>(reply_.body.size()), -1);
  AddPiece(reply_.body);
  return Send();
}

void Connection::StartAnswer(const Reply& reply, int64_t length, int64_t tensor_header_bytes) {
  std::string_view connection = !keep_alive_ ? "close" : head_.version == 10 ? "keep-alive" : "";
  head_text_.clear();
  AppendHead(reply, length, tensor_header_bytes, connection, head_.request_id, &head_text_);
  pieces_.clear();
  next_piece_ = 0;
  AddPiece(head_text_);
}

void Connection::AddPiece(std::string_view piece) {
  if (!piece.empty()) pieces_.push_back({const_cast<char*>(piece.data()), piece.size()});
}

Connection::Step Connection::Send() {
  phase_ = Phase::kSend;
  while (next_piece_ < pieces_.size()) {
    msghdr message = {};
    message.msg_iov = pieces_.data() + next_piece_;
    message.msg_iovlen = std::min(pieces_.size() - next_piece_, kMostPieces);
    ssize_t sent = sendmsg(socket_.native_handle(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK) return Step::kGone;
    if (sent < 0) {
      deadline_ns_ = After(door_->settings.read_timeout_s);
      socket_.async_wait(boost::asio::ip::tcp::socket::wait_write,
                         [this](const error_code& error) { OnWritable(error); });
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

void Connection::OnWritable(const error_code& error) { Drive(error || closing_ ? Step::kGone : Step::kNext); }

Connection::Step Connection::OnSent() {
  pieces_.clear();
  next_piece_ = 0;
  if (file_left_ > 0) return SubmitToPool(PoolJob::kReadFile);
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
  error_code error;
  socket_.shutdown(boost::asio::ip::tcp::socket::shutdown_send, error);
  if (error || closing_) return Step::kGone;
  if (in_.size() <= BodyBuffer::kPadding) in_.Resize(4096);
  return Step::kNext;
}

void Connection::FinishRequest() {
  parser_.reset();
  body_.Clear();
  if (reserved_ > 0) door_->Release(std::exchange(reserved_, 0));
  spool_.Remove();
  file_.Reset();
  if (answer_.json.capacity() > kKeptBytes) answer_.json = std::string();
  for (const Tensor& tensor : answer_.outputs) {
    if (tensor.buffer.size() <= kKeptBytes) continue;
    answer_.outputs.clear();
    break;
  }
  if (file_piece_.capacity() > 0) file_piece_ = std::string();
  deadline_ns_ = After(door_->settings.idle_timeout_s);
  phase_ = Phase::kHead;
}

}  // namespace tandem::api::http
