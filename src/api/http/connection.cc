#include "api/http/connection.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <utility>

#include "api/http/io_thread.h"
#include "base/clock.h"
#include "base/status.h"
#include "telemetry/log.h"

namespace tandem::api::http {
namespace {

using boost::system::error_code;

constexpr size_t kFirstInput = 16 << 10;
// Bodies of control routes are small JSON.
constexpr int64_t kMostControlBody = 4 << 20;
// What one connection does (about two steps a request) and reads before the others have their turn.
constexpr int kStepsPerTurn = 64;
constexpr int kReadsPerTurn = 4;

Endpoint EndOf(int fd, int (*read)(int, sockaddr*, socklen_t*)) {
  sockaddr_storage address = {};
  socklen_t size = sizeof address;
  read(fd, reinterpret_cast<sockaddr*>(&address), &size);
  return EndpointOf(address);
}

}  // namespace

Connection::Connection(IoThread* thread, Door* door, const Port* port, UniqueFd fd, bool refuse)
    : thread_(thread),
      door_(door),
      port_(port),
      fd_(std::move(fd)),
      peer_(EndOf(fd_.get(), getpeername)),
      local_(EndOf(fd_.get(), getsockname)),
      refuse_(refuse) {
  int one = 1;
  setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  request_.stopping = &door->stopping;
}

Connection::~Connection() {
  // Closing is not enough: a child that is being started holds copies of all descriptors until it executes.
  thread_->poller()->Unwatch(fd_.get());
  EndTrace(0);
  if (slot_ != nullptr) thread_->ReturnSlot(std::move(slot_));
  if (reserved_ > 0) door_->Release(reserved_);
  door_->Leave();
}

int64_t Connection::Now() { return Clock::Real()->MonotonicNanos(); }
int64_t Connection::After(double seconds) { return Now() + static_cast<int64_t>(seconds * 1e9); }
std::string_view Connection::in_view() const {
  return {reinterpret_cast<const char*>(in_.data()) + in_begin_, in_end_ - in_begin_};
}

void Connection::Begin() {
  thread_->Insert(std::unique_ptr<Connection>(this));
  phase_ = Phase::kHead;
  deadline_ns_ = After(door_->settings.read_timeout_s);
  // Edge-triggered, and for all its life: waiting for something else costs no system call.
  const bool watched = thread_->poller()->Watch(fd_.get(), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, this);
  if (!watched || door_->stopping.load()) return thread_->Remove(this);
  if (refuse_) return Drive(RefuseAndClose(ErrorReply(503, "too many connections; try again later")));
  in_.Resize(kFirstInput);
}

void Connection::Run() {
  switch (phase_) {
    case Phase::kNew:
      return Begin();
    case Phase::kPool:
      return OnPoolDone();
    case Phase::kInfer:
      return Drive(FinishInfer());
    default:
      if (yielded_.has_value()) Drive(*std::exchange(yielded_, std::nullopt));
  }
}

void Connection::OnEvents(uint32_t events) {
  const bool broken = (events & (EPOLLHUP | EPOLLERR)) != 0;
  const bool ended = broken || (events & EPOLLRDHUP) != 0;
  const bool ends_now = ended && !peer_ended_;  // later events tell it again
  peer_ended_ = peer_ended_ || ended;
  readable_ = readable_ || ended || (events & EPOLLIN) != 0;
  if (yielded_.has_value()) return;
  switch (phase_) {
    case Phase::kHead:
    case Phase::kBody:
    case Phase::kLinger:
      if (readable_) Drive(Step::kRead);
      break;
    case Phase::kSend:
      if (broken || (events & EPOLLOUT) != 0) Drive(Step::kNext);
      break;
    case Phase::kInfer:
      if (broken) return OnPeerGone();
      if (ends_now) AskWhetherPeerReads();
      break;
    case Phase::kNew:
    case Phase::kPool:
      break;
  }
}

void Connection::Drive(Step step) {
  try {
    int steps = kStepsPerTurn, reads = kReadsPerTurn;
    while (true) {
      if (step == Step::kNext && steps > 0) {
        --steps;
        step = RunPhase();
      } else if (step == Step::kRead && readable_ && reads > 0) {
        --reads;
        step = Read();
      } else {
        break;
      }
    }
    if (step == Step::kNext || (step == Step::kRead && readable_)) {
      yielded_ = step;
      thread_->RunSoon(this);
    }
  } catch (const std::exception& e) {
    Log(LogLevel::kError, "connection dropped", {{"peer", peer_.ToText()}, {"reason", e.what()}});
    // A request that was started comes back.
    step = phase_ == Phase::kInfer ? Step::kWait : Step::kGone;
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
    case Phase::kNew:
    case Phase::kPool:
    case Phase::kInfer:
      break;
  }
  return Step::kWait;
}

Connection::Step Connection::Read() {
  const bool direct = phase_ == Phase::kBody && body_mode_ == BodyMode::kDirect;
  char* target = direct ? body_.free() : reinterpret_cast<char*>(in_.data()) + in_end_;
  const size_t room =
      direct ? std::min<uint64_t>(body_.room(), body_left_) : in_.size() - BodyBuffer::kPadding - in_end_;
  const ssize_t got = recv(fd_.get(), target, room, MSG_DONTWAIT);
  if (got < 0 && errno == EINTR) return Step::kRead;
  if (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK) return Step::kGone;
  if (got < 0) {
    readable_ = false;
    return Step::kRead;
  }
  if (got == 0) return OnEndOfStream();
  const auto bytes = static_cast<size_t>(got);
  // A short read took all there was; what comes later is told anew, but for an end that was told already.
  if (bytes < room && !peer_ended_) readable_ = false;
  if (direct) {
    body_.Commit(bytes);
    body_left_ -= bytes;
  } else {
    in_end_ += bytes;
  }
  if (phase_ == Phase::kBody) deadline_ns_ = After(door_->settings.read_timeout_s);
  return Step::kNext;
}

// The peer ended its side: a request that was begun is told what is missing.
Connection::Step Connection::OnEndOfStream() {
  if (phase_ == Phase::kHead && parser_.has_value()) {
    return RefuseAndClose(ErrorReply(400, "the request ended inside its head"));
  }
  if (phase_ != Phase::kBody) return Step::kGone;
  if (body_mode_ == BodyMode::kChunked) return RefuseAndClose(ErrorReply(400, "the request ended inside a chunk"));
  const uint64_t missing = body_left_ - (body_mode_ == BodyMode::kInPlace ? in_end_ - in_begin_ : 0);
  return RefuseAndClose(
      ErrorReply(400, StrCat("the request's body ended ", missing, " bytes before its Content-Length")));
}

Connection::Step Connection::OnTimeout() {
  const bool begun = phase_ == Phase::kBody || (phase_ == Phase::kHead && parser_.has_value());
  if (!begun) return Step::kGone;
  return RefuseAndClose(ErrorReply(
      408, StrCat("the request did not arrive within ", door_->settings.read_timeout_s, " s between two pieces")));
}

void Connection::CheckDeadline(int64_t now_ns) {
  const bool elsewhere = phase_ == Phase::kPool || phase_ == Phase::kInfer;
  // What waits for its own turn is not late, but for a peer that goes on sending after its refusal: it always has one.
  const bool has_turn = yielded_.has_value() && phase_ != Phase::kLinger;
  if (now_ns < deadline_ns_ || elsewhere || has_turn) return;
  Drive(OnTimeout());
}

void Connection::Drain() {
  draining_ = true;
  keep_alive_ = false;
  const bool idle = phase_ == Phase::kHead && !parser_.has_value() && in_begin_ == in_end_;
  if (idle || phase_ == Phase::kLinger) thread_->Remove(this);
}

void Connection::ForceClose() {
  closing_ = true;
  if (phase_ == Phase::kInfer) {
    slot_->Cancel();
  } else if (phase_ != Phase::kPool) {
    thread_->Remove(this);
  }
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
  size_t used = parser_->put(boost::asio::buffer(in_.data() + in_begin_, in_end_ - in_begin_), error);
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
  route_ = nullptr;
  std::optional<Reply> refusal = CheckHead();
  if (!refusal.has_value()) refusal = FindRoute();
  if (!refusal.has_value()) refusal = CheckCoding();
  const bool infers = route_ != nullptr && route_->plane == Plane::kInfer;
  if (door_->services.tracer != nullptr && infers) trace_begin_ns_ = Now();
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

std::optional<Reply> Connection::CheckCoding() {
  const std::optional<Coding> coding = CodingOfBody(head_.content_encoding);
  const bool upload = route_->plane == Plane::kUpload;
  body_coding_ = coding.value_or(Coding::kNone);
  if (coding.has_value() && (!upload || *coding == Coding::kNone)) return std::nullopt;
  Reply reply = ErrorReply(415, upload ? "files are uploaded without Content-Encoding"
                                       : StrCat("Content-Encoding '", head_.content_encoding,
                                                "' is not supported; send gzip, deflate or no coding"));
  reply.extra_headers = StrCat("Accept-Encoding: ", upload ? "identity" : kKnownCodings, "\r\n");
  return reply;
}

int64_t Connection::BodyLimit() const {
  const ServerSettings& settings = door_->settings;
  if (route_->plane == Plane::kInfer) return settings.max_body_bytes;
  if (route_->plane == Plane::kUpload) return settings.max_upload_bytes;
  return std::min(settings.max_body_bytes, kMostControlBody);
}

}  // namespace tandem::api::http
