#include "api/http/connection.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>

#include "api/http/io_thread.h"
#include "base/clock.h"
#include "base/status.h"
#include "telemetry/log.h"

namespace tandem::api::http {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

constexpr size_t kFirstInput = 16 << 10;
// Bodies of control routes are small JSON.
constexpr int64_t kMostControlBody = 4 << 20;

Endpoint EndOf(int fd, int (*read)(int, sockaddr*, socklen_t*)) {
  sockaddr_storage address = {};
  socklen_t size = sizeof address;
  read(fd, reinterpret_cast<sockaddr*>(&address), &size);
  return EndpointOf(address);
}

asio::ip::tcp ProtocolOf(int fd) {
  sockaddr_storage address = {};
  socklen_t size = sizeof address;
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  return address.ss_family == AF_INET6 ? asio::ip::tcp::v6() : asio::ip::tcp::v4();
}

}  // namespace

Connection::Connection(IoThread* thread, Door* door, const Port* port, UniqueFd fd, bool refuse)
    : thread_(thread),
      door_(door),
      port_(port),
      socket_(thread->context(), ProtocolOf(fd.get()), fd.get()),
      peer_(EndOf(fd.get(), getpeername)),
      local_(EndOf(fd.get(), getsockname)),
      refuse_(refuse) {
  int one = 1;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  fd.Release();
  error_code ignored;
  socket_.native_non_blocking(true, ignored);
  request_.stopping = &door->stopping;
}

Connection::~Connection() {
  if (reserved_ > 0) door_->Release(reserved_);
  door_->Leave();
}

int64_t Connection::Now() { return Clock::Real()->MonotonicNanos(); }
int64_t Connection::After(double seconds) { return Now() + static_cast<int64_t>(seconds * 1e9); }
std::string_view Connection::in_view() const {
  return {reinterpret_cast<const char*>(in_.data()) + in_begin_, in_end_ - in_begin_};
}

void Connection::Start() {
  deadline_ns_ = After(door_->settings.read_timeout_s);
  if (refuse_) return Drive(RefuseAndClose(ErrorReply(503, "too many connections; try again later")));
  in_.Resize(kFirstInput);
  Drive(Step::kRead);
}

void Connection::Drive(Step step) {
  try {
    while (step == Step::kNext) step = RunPhase();
    if (step == Step::kRead) StartRead();
  } catch (const std::exception& e) {
    Log(LogLevel::kError, "connection dropped", {{"peer", peer_.ToText()}, {"reason", e.what()}});
    step = Step::kGone;
  }
  if (step == Step::kGone) thread_->Remove(this);
}

Connection::Step Connection::RunPhase() {
  switch (phase_) {
    case Phase::kHead:
      return OnHead();
    case Phase::kBody:
      return OnBody();
    case Phase::kSend:
      return Send();
    case Phase::kLinger:
      in_begin_ = in_end_ = 0;
      return Step::kRead;
    case Phase::kPool:
      break;
  }
  return Step::kGone;
}

void Connection::StartRead() {
  asio::mutable_buffer target(in_.data() + in_end_, in_.size() - BodyBuffer::kPadding - in_end_);
  if (phase_ == Phase::kBody && body_mode_ == BodyMode::kDirect) {
    target = asio::mutable_buffer(body_.free(), std::min<uint64_t>(body_.room(), body_left_));
  }
  socket_.async_read_some(target, [this](const error_code& error, size_t bytes) { OnRead(error, bytes); });
}

void Connection::OnRead(const error_code& error, size_t bytes) {
  if (closing_) return Drive(Step::kGone);
  if (error) return Drive(OnInterrupted(error == asio::error::eof));
  timed_out_ = false;
  if (phase_ == Phase::kBody && body_mode_ == BodyMode::kDirect) {
    body_.Commit(bytes);
    body_left_ -= bytes;
  } else {
    in_end_ += bytes;
  }
  if (phase_ == Phase::kBody) deadline_ns_ = After(door_->settings.read_timeout_s);
  Drive(Step::kNext);
}

// The peer ended its side, or the deadline cancelled the read: a request that was begun is told what is missing.
Connection::Step Connection::OnInterrupted(bool end_of_stream) {
  const bool begun = phase_ == Phase::kBody || (phase_ == Phase::kHead && parser_.has_value());
  if (!begun || !(end_of_stream || timed_out_)) return Step::kGone;
  if (timed_out_) {
    return RefuseAndClose(ErrorReply(
        408, StrCat("the request did not arrive within ", door_->settings.read_timeout_s, " s between two pieces")));
  }
  if (phase_ == Phase::kHead) return RefuseAndClose(ErrorReply(400, "the request ended inside its head"));
  if (body_mode_ == BodyMode::kChunked) return RefuseAndClose(ErrorReply(400, "the request ended inside a chunk"));
  uint64_t missing = body_left_ - (body_mode_ == BodyMode::kInPlace ? in_end_ - in_begin_ : 0);
  return RefuseAndClose(
      ErrorReply(400, StrCat("the request's body ended ", missing, " bytes before its Content-Length")));
}

void Connection::CheckDeadline(int64_t now_ns) {
  if (now_ns < deadline_ns_) return;
  timed_out_ = true;
  error_code ignored;
  socket_.cancel(ignored);
}

void Connection::Drain() {
  draining_ = true;
  keep_alive_ = false;
  if (phase_ == Phase::kLinger || (phase_ == Phase::kHead && !parser_.has_value())) ForceClose();
}

void Connection::ForceClose() {
  closing_ = true;
  error_code ignored;
  socket_.cancel(ignored);
}

Connection::Step Connection::OnHead() {
  if (in_begin_ == in_end_) {
    in_begin_ = in_end_ = 0;
    if (draining_ && !parser_.has_value()) return Step::kGone;
    return Step::kRead;
  }
  if (!parser_.has_value()) {
    head_.Clear();
    parser_.emplace(&head_, &body_);
    parser_->header_limit(static_cast<uint32_t>(door_->settings.max_header_bytes));
    parser_->body_limit(boost::none);
    head_bytes_ = 0;
    deadline_ns_ = After(door_->settings.read_timeout_s);
  }
  error_code error;
  size_t used = parser_->put(asio::buffer(in_.data() + in_begin_, in_end_ - in_begin_), error);
  in_begin_ += used;
  head_bytes_ += used;
  namespace http = boost::beast::http;
  if (!error) return OnHeadComplete();
  if (error == http::error::need_more &&
      head_bytes_ + in_end_ - in_begin_ < static_cast<size_t>(door_->settings.max_header_bytes) && MakeRoom()) {
    return Step::kRead;
  }
  if (error == http::error::need_more || error == http::error::header_limit) {
    return RefuseAndClose(
        ErrorReply(431, StrCat("the request's head has more than ", door_->settings.max_header_bytes, " bytes")));
  }
  if (error == http::error::bad_version) return RefuseAndClose(ErrorReply(505, "only HTTP/1.0 and 1.1 are spoken"));
  return RefuseAndClose(ErrorReply(400, StrCat("the request is not HTTP/1.1: ", error.message())));
}

// Makes sure that something can be read behind in_end_; false when a head or chunk line is longer than allowed.
bool Connection::MakeRoom() {
  if (in_end_ + BodyBuffer::kPadding < in_.size()) return true;
  size_t kept = in_end_ - in_begin_;
  size_t wanted = std::max(in_.size(), 2 * kept + BodyBuffer::kPadding);
  if (kept > static_cast<size_t>(door_->settings.max_header_bytes)) return false;
  AlignedBuffer larger(wanted);
  memcpy(larger.data(), in_.data() + in_begin_, kept);
  in_ = std::move(larger);
  in_begin_ = 0;
  in_end_ = kept;
  return true;
}

Connection::Step Connection::OnHeadComplete() {
  keep_alive_ = parser_->keep_alive() && !draining_;
  std::optional<Reply> refusal = CheckHead();
  if (!refusal.has_value()) refusal = FindRoute();
  if (refusal.has_value()) return Refuse(*std::move(refusal));
  return StartBody();
}

std::optional<Reply> Connection::CheckHead() {
  absl::Status status =
      port_->policy.CheckHeaders(head_.host, head_.host_count, head_.version, head_.origin, head_.has_origin);
  if (!status.ok()) return ErrorReply(status);
  if (!head_.transfer_encoding.empty() &&
      !boost::beast::iequals(head_.transfer_encoding, boost::beast::string_view("chunked"))) {
    return ErrorReply(501, StrCat("Transfer-Encoding '", head_.transfer_encoding, "' is not supported, only chunked"));
  }
  if (!head_.content_encoding.empty() && head_.content_encoding != "identity") {
    return ErrorReply(415, StrCat("Content-Encoding '", head_.content_encoding, "' is not supported; send it plain"));
  }
  if (head_.bad_tensor_header) {
    return ErrorReply(400, "header Inference-Header-Content-Length must be a number of bytes, 0 or more");
  }
  return std::nullopt;
}

std::optional<Reply> Connection::FindRoute() {
  std::string_view target = head_.target;
  size_t question = target.find('?');
  std::string_view path = target.substr(0, question);
  request_.query = question == std::string_view::npos ? std::string_view() : target.substr(question + 1);
  Router::Found found = door_->router.Find(head_.verb, path, port_->metrics_only, &request_.params);
  route_ = found.route;
  if (route_ == nullptr && found.allow.empty()) return ErrorReply(404, StrCat("there is no '", path, "' here"));
  if (route_ == nullptr) {
    Reply reply = ErrorReply(405, StrCat("'", path, "' takes ", found.allow, " only"));
    reply.extra_headers = StrCat("Allow: ", found.allow, "\r\n");
    return reply;
  }
  if (found.bad_encoding) return ErrorReply(400, StrCat("'", path, "': '%' needs two hex digits"));
  request_.caller = {.name = "", .local = peer_.IsLoopback(), .may_manage = false};
  absl::Status status = port_->policy.CheckToken(head_.authorization, route_->need, &request_.caller);
  if (!status.ok()) return ErrorReply(status);
  uint64_t length = parser_->content_length().value_or(0);
  if (length > static_cast<uint64_t>(BodyLimit())) {
    return ErrorReply(413, StrCat("the body has ", length, " bytes, at most ", BodyLimit(), " are taken here"));
  }
  return std::nullopt;
}

int64_t Connection::BodyLimit() const {
  const ServerSettings& settings = door_->settings;
  if (route_->plane == Plane::kInfer) return settings.max_body_bytes;
  if (route_->plane == Plane::kUpload) return settings.max_upload_bytes;
  return std::min(settings.max_body_bytes, kMostControlBody);
}

}  // namespace tandem::api::http
