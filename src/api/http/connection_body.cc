// Connection: how bodies arrive, and the work on them.
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <limits>
#include <utility>

#include "api/http/connection.h"
#include "api/http/io_thread.h"
#include "base/status.h"
#include "telemetry/log.h"

namespace tandem::api::http {
namespace {

using boost::system::error_code;

constexpr size_t kUploadPiece = 1 << 20;
constexpr std::string_view kModels = "/api/v1/models/";
constexpr int64_t kFilePiece = 1 << 20;
// Smaller bodies are not counted against the memory of all connections.
constexpr size_t kSmallBody = 1 << 20;
// zlib takes about a millisecond for so many bytes. What is larger is decompressed by a pool's thread, in pieces.
constexpr size_t kInflatedHere = 256 << 10;
constexpr size_t kInflatedPiece = 1 << 20;

}  // namespace

Connection::Step Connection::StartBody() {
  phase_ = Phase::kBody;
  body_received_ = 0;
  size_t length = parser_->content_length().value_or(0);
  size_t arrived = in_end_ - in_begin_;
  body_left_ = length;
  if (parser_->chunked()) {
    body_mode_ = BodyMode::kChunked;
    body_.Clear();
  } else if (in_begin_ + length + BodyBuffer::kPadding <= in_.size()) {
    body_mode_ = BodyMode::kInPlace;
  } else {
    if (!ReserveBody(length)) return Refuse(ErrorReply(503, "too many large requests at the same time; try again"));
    StartDirect(length);
  }
  const bool complete = !parser_->chunked() && arrived >= length;
  if (head_.expect_continue && !complete && !SendContinue()) return Step::kGone;
  return Step::kNext;
}

// Bytes go straight to where they are used: the first binary tensor lies aligned when the length of the JSON is known.
void Connection::StartDirect(size_t length) {
  body_mode_ = BodyMode::kDirect;
  const bool upload = route_->plane == Plane::kUpload;
  body_.Start(upload ? std::min(length, kUploadPiece) : length,
              upload ? 0 : static_cast<size_t>(head_.tensor_header_bytes.value_or(0)));
  std::string_view arrived = in_view().substr(0, std::min<size_t>(length, body_.room()));
  body_.Append(arrived);
  in_begin_ += arrived.size();
  body_left_ -= arrived.size();
}

bool Connection::ReserveBody(size_t bytes) {
  if (bytes <= kSmallBody || route_->plane == Plane::kUpload) return true;
  int64_t more = static_cast<int64_t>(bytes) - reserved_;
  if (more <= 0) return true;
  if (!door_->Reserve(more)) return false;
  reserved_ += more;
  return true;
}

bool Connection::SendContinue() {
  static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
  // Nothing is in flight before it, so the socket takes these few bytes at once or is broken.
  return send(fd_.get(), kContinue.data(), kContinue.size(), MSG_NOSIGNAL | MSG_DONTWAIT) ==
         static_cast<ssize_t>(kContinue.size());
}

Connection::Step Connection::OnBody() {
  switch (body_mode_) {
    case BodyMode::kInPlace: {
      if (in_end_ - in_begin_ < body_left_) return Step::kRead;
      std::string_view body = in_view().substr(0, body_left_);
      in_begin_ += body_left_;
      body_left_ = 0;
      return OnBodyComplete(body);
    }
    case BodyMode::kDirect:
      return OnDirectBody();
    case BodyMode::kChunked:
      return OnChunkedBody();
    case BodyMode::kDiscard:
      break;
  }
  return OnDiscardedBody();
}

Connection::Step Connection::OnDirectBody() {
  if (body_left_ == 0) return OnBodyComplete(body_.view());
  if (body_.room() > 0) return Step::kRead;
  return SubmitOrRefuse(PoolJob::kSpool);
}

Connection::Step Connection::OnChunkedBody() {
  const bool upload = route_->plane == Plane::kUpload;
  while (!parser_->is_done()) {
    if (upload && body_.size() >= kUploadPiece) return SubmitOrRefuse(PoolJob::kSpool);
    if (body_received_ + body_.size() > static_cast<uint64_t>(BodyLimit())) {
      return RefuseAndClose(ErrorReply(413, StrCat("the body has more than ", BodyLimit(), " bytes")));
    }
    if (!ReserveBody(body_.size())) {
      return RefuseAndClose(ErrorReply(503, "too many large requests at the same time; try again"));
    }
    error_code error = boost::beast::http::error::need_more;
    if (in_begin_ < in_end_) {
      in_begin_ += parser_->put(boost::asio::buffer(in_.data() + in_begin_, in_end_ - in_begin_), error);
    }
    if (error == boost::beast::http::error::need_more) {
      if (in_begin_ == in_end_) in_begin_ = in_end_ = 0;
      if (MakeRoom()) return Step::kRead;
      return RefuseAndClose(ErrorReply(400, "a line between two chunks is too long"));
    }
    if (error) return RefuseAndClose(ErrorReply(400, StrCat("the body is badly chunked: ", error.message())));
  }
  if (body_received_ + body_.size() > static_cast<uint64_t>(BodyLimit())) {
    return RefuseAndClose(ErrorReply(413, StrCat("the body has more than ", BodyLimit(), " bytes")));
  }
  // An empty buffer has no padding behind it yet.
  if (body_.size() == 0) body_.Start(0);
  return OnBodyComplete(body_.view());
}

Connection::Step Connection::OnDiscardedBody() {
  size_t dropped = std::min<size_t>(in_end_ - in_begin_, body_left_);
  in_begin_ += dropped;
  body_left_ -= dropped;
  if (body_left_ == 0) return SendReply(std::move(reply_));
  in_begin_ = in_end_ = 0;
  return Step::kRead;
}

Connection::Step Connection::OnBodyComplete(std::string_view body) {
  if (body_coding_ == Coding::kNone || body.empty()) return OnPlainBody(body);
  inflating_ = std::make_unique<Inflating>(body_coding_, body);
  inflating_->plain.Start(std::min(4 * body.size(), kInflatedHere),
                          static_cast<size_t>(head_.tensor_header_bytes.value_or(0)));
  // Bytes that unpack to nothing take their time too.
  if (body.size() > kInflatedHere) return SubmitOrRefuse(PoolJob::kInflate);
  bool done = false;
  std::optional<Reply> refusal = InflateTo(kInflatedHere, &done);
  if (refusal.has_value()) return SendReply(*std::move(refusal));
  return done ? OnPlainBody(inflating_->plain.view()) : SubmitOrRefuse(PoolJob::kInflate);
}

// Decompresses until `most` bytes are there: on the own thread, or on a pool's. What it may become is bounded like a
// plain body, while it grows.
std::optional<Reply> Connection::InflateTo(size_t most, bool* done) {
  BodyBuffer& plain = inflating_->plain;
  while (!*done && plain.size() < most) {
    absl::StatusOr<bool> ended = inflating_->inflater.Run(std::min(kInflatedPiece, most - plain.size()), &plain);
    if (!ended.ok()) return ErrorReply(ended.status());
    *done = *ended;
    if (plain.size() > static_cast<uint64_t>(BodyLimit())) {
      return ErrorReply(413, StrCat("the body has more than ", BodyLimit(), " bytes once it is decompressed"));
    }
    if (!ReserveBody(parser_->content_length().value_or(body_.size()) + plain.size())) {
      return ErrorReply(503, "too many large requests at the same time; try again");
    }
  }
  return std::nullopt;
}

Connection::Step Connection::OnPlainBody(std::string_view body) {
  if (route_->plane == Plane::kInfer) return Infer(body);
  request_.body = body;
  return route_->plane == Plane::kAtOnce ? AnswerAtOnce() : SubmitOrRefuse(PoolJob::kHandle);
}

// A probe must not wait behind verbs that wait for a disk: after a few of them late its sender ends the server.
Connection::Step Connection::AnswerAtOnce() {
  absl::StatusOr<Reply> reply =
      CatchToStatus("the request", [this] { return route_->handler(door_->services, request_); });
  return SendReply(reply.ok() ? *std::move(reply) : ErrorReply(reply.status()));
}

Connection::Step Connection::Infer(std::string_view body) {
  slot_ = thread_->TakeSlot();
  InferSlot::Arrived arrived;
  arrived.model = request_.Param("model");
  arrived.version = request_.Param("version").empty() ? request_.Param("label") : request_.Param("version");
  arrived.format = route_->format;
  arrived.body = body;
  arrived.json_bytes = head_.tensor_header_bytes;
  arrived.route_key = head_.route_key.empty() ? head_.request_id : head_.route_key;
  arrived.received_ns = Now();
  phase_ = Phase::kInfer;
  starting_ = true;
  finished_ = false;
  absl::Status status = slot_->Start(arrived, this);
  starting_ = false;
  if (!status.ok()) return SendReply(ErrorReply(status));
  if (finished_) return FinishInfer();
  if (peer_ended_) AskWhetherPeerReads();
  return Step::kWait;
}

void Connection::Finished(InferRequest*) {
  if (!thread_->IsCurrent()) return thread_->Post(this);
  if (starting_) {
    finished_ = true;
  } else {
    thread_->RunSoon(this);
  }
}

Connection::Step Connection::FinishInfer() {
  phase_ = Phase::kSend;
  absl::Status status = slot_->Finish();
  if (closing_) return Step::kGone;
  if (!status.ok()) return SendReply(ErrorReply(status));
  const InferAnswer& answer = slot_->answer();
  reply_ = Reply();
  if (answer.binary) reply_.content_type = "application/octet-stream";
  StartPieces();
  AddPiece(answer.json);
  for (std::string_view blob : answer.blobs) AddPiece(blob);
  return SendReplyPieces(answer.binary ? static_cast<int64_t>(answer.json.size()) : -1);
}

void Connection::OnPeerGone() {
  slot_->Cancel();
  closing_ = true;
}

void Connection::AskWhetherPeerReads() {
  static constexpr std::string_view kProcessing = "HTTP/1.1 102 Processing\r\n\r\n";
  if (head_.version < 11) return;  // HTTP/1.0 knows no interim answers
  const ssize_t sent = send(fd_.get(), kProcessing.data(), kProcessing.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  const bool full = sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
  if (!full && sent != static_cast<ssize_t>(kProcessing.size())) OnPeerGone();
}

bool Connection::Submit(PoolJob job) {
  const bool coding = job == PoolJob::kInflate || job == PoolJob::kDeflate;
  ControlPool& pool = coding ? door_->quick : door_->PoolOf(route_->plane);
  const Phase before = std::exchange(phase_, Phase::kPool);
  pool_job_ = job;
  if (pool.Submit(this)) return true;
  phase_ = before;
  return false;
}

Connection::Step Connection::SubmitOrRefuse(PoolJob job) {
  if (Submit(job)) return Step::kWait;
  // In the middle of a file only closing tells the client.
  if (job == PoolJob::kReadFile) return Step::kGone;
  Reply busy = ErrorReply(503, "too many requests wait for an answer; try again later");
  return job == PoolJob::kSpool ? RefuseAndClose(std::move(busy)) : SendReply(std::move(busy));
}

void Connection::RunOnPool() {
  switch (pool_job_) {
    case PoolJob::kReadFile:
      pool_status_ = ReadFilePiece();
      break;
    case PoolJob::kInflate:
      pool_status_ = InflateAll();
      break;
    case PoolJob::kDeflate:
      Compress();
      break;
    case PoolJob::kHandle:
    case PoolJob::kSpool: {
      const int64_t begin_ns = Now();
      absl::StatusOr<Reply> reply = CatchToStatus("the request", [this] { return WorkOnPool(); });
      pool_status_ = reply.status();
      reply_ = reply.ok() ? *std::move(reply) : ErrorReply(reply.status());
      if (pool_job_ == PoolJob::kHandle) LogRequest(begin_ns);
      break;
    }
  }
  // The last use of this: from here on the own thread may delete it.
  thread_->Post(this);
}

// An error: reply_ says why.
absl::Status Connection::InflateAll() {
  reply_ = ErrorReply(503, "no memory to decompress the body; try again");
  return CatchToStatus("decompress the body", [this]() -> absl::Status {
    bool done = false;
    std::optional<Reply> refusal = InflateTo(std::numeric_limits<size_t>::max(), &done);
    if (!refusal.has_value()) return absl::OkStatus();
    reply_ = *std::move(refusal);
    return InvalidArgument("the body was refused");
  });
}

// One line per control request. The data plane logs nothing: the log's queue is shared with normal threads.
void Connection::LogRequest(int64_t begin_ns) {
  if (head_.request_id.empty()) head_.request_id = door_->NextRequestId();
  Log(LevelOf(head_.verb, reply_.code), "request",
      {{"request_id", head_.request_id},
       {"verb", VerbName(head_.verb)},
       {"path", head_.target},
       {"code", reply_.code},
       {"who", request_.caller.name},
       {"ms", static_cast<double>(Now() - begin_ns) / 1e6},
       {"error", MessageOf(pool_status_)}});
}

absl::StatusOr<Reply> Connection::WorkOnPool() {
  if (route_->need == Need::kManage) TANDEM_RETURN_IF_ERROR(CheckManager());
  if (route_->need == Need::kLocal) CheckManager().IgnoreError();  // only to know the user
  const ServerSettings& settings = door_->settings;
  PacedWriter* const pace = route_->pattern.starts_with(kModels) ? settings.model_pace : settings.dataset_pace;
  if (pool_job_ == PoolJob::kSpool) {
    TANDEM_RETURN_IF_ERROR(spool_.Append(settings.spool_folder, body_.view(), pace));
    return Reply();
  }
  if (route_->plane == Plane::kUpload) {
    TANDEM_RETURN_IF_ERROR(spool_.Append(settings.spool_folder, request_.body, pace));
    request_.upload_path = spool_.path();
  }
  absl::StatusOr<Reply> reply = route_->handler(door_->services, request_);
  spool_.Remove();
  if (reply.ok() && !reply->file.empty()) TANDEM_RETURN_IF_ERROR(OpenFile(reply->file));
  return reply;
}

absl::Status Connection::CheckManager() {
  if (request_.caller.may_manage) return absl::OkStatus();
  if (!manager_status_.has_value()) {
    manager_ = request_.caller;
    manager_status_ = port_->policy.CheckManage(peer_, local_, &manager_);
  }
  request_.caller = manager_;
  return *manager_status_;
}

absl::Status Connection::OpenFile(const std::string& path) {
  file_ = UniqueFd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file_.valid()) return ErrnoStatus(errno, StrCat("open '", path, "'"));
  struct stat info;
  if (fstat(file_.get(), &info) != 0) return ErrnoStatus(errno, StrCat("stat '", path, "'"));
  file_left_ = info.st_size;
  return absl::OkStatus();
}

absl::Status Connection::ReadFilePiece() {
  return CatchToStatus("send a file", [this] {
    file_piece_.resize(std::min(file_left_, kFilePiece));
    return ReadExactly(file_.get(), file_piece_.data(), file_piece_.size());
  });
}

void Connection::OnPoolDone() {
  if (closing_) return Drive(Step::kGone);
  switch (pool_job_) {
    case PoolJob::kHandle:
      return Drive(SendReply(std::move(reply_)));
    case PoolJob::kInflate:
      return Drive(pool_status_.ok() ? OnPlainBody(inflating_->plain.view()) : SendReply(std::move(reply_)));
    case PoolJob::kDeflate:
      return Drive(SendHeadAndPieces());
    case PoolJob::kSpool:
      if (!pool_status_.ok()) return Drive(RefuseAndClose(std::move(reply_)));
      body_received_ += body_.size();
      deadline_ns_ = After(door_->settings.read_timeout_s);
      phase_ = Phase::kBody;
      if (body_mode_ == BodyMode::kDirect) {
        StartDirect(body_left_);
      } else {
        body_.Clear();
      }
      return Drive(Step::kNext);
    case PoolJob::kReadFile:
      // The head promised more bytes than there are: only closing tells the client.
      if (!pool_status_.ok()) return Drive(Step::kGone);
      file_left_ -= static_cast<int64_t>(file_piece_.size());
      AddPiece(file_piece_);
      return Drive(Send());
  }
}

}  // namespace tandem::api::http
