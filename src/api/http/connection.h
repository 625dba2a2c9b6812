#pragma once
// One client connection: reads a request, has it worked on, sends the answer, and begins again.
//
//   HEAD -> BODY -> (infer: at once) ----------> SEND -> HEAD ...
//             \---> POOL (control routes) ------/    \-> LINGER -> gone
//              ^--- POOL (a piece of an upload)
#include <sys/uio.h>

#include <boost/asio/ip/tcp.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/http/body_buffer.h"
#include "api/http/door.h"
#include "api/http/head_parser.h"
#include "api/http/infer_encoder.h"
#include "api/http/peer.h"
#include "api/http/spool.h"
#include "base/fd.h"

namespace tandem::api::http {

class IoThread;

// Lives on one data-plane thread, which owns it; only RunOnPool is called elsewhere. At any moment exactly one
// operation is outstanding (a read, a wait for room to write, or work in a pool), and its completion is what removes
// the connection when it is to end: so nothing ever points to one that is gone.
class Connection : public ControlWork {
 public:
  // `refuse`: there are too many connections; it is told so and closed.
  Connection(IoThread* thread, Door* door, const Port* port, UniqueFd fd, bool refuse);
  ~Connection() override;

  void Start();
  // Ends or answers what took too long.
  void CheckDeadline(int64_t now_ns);
  // Ends after the answer in progress, at once when idle.
  void Drain();
  // Ends now; what a pool still does for it is dropped.
  void ForceClose();

  void RunOnPool() override;
  // On the own thread, after RunOnPool.
  void OnPoolDone();

  Connection* next_done = nullptr;  // IoThread's list of those whose pool work ended

 private:
  enum class Phase { kHead, kBody, kPool, kSend, kLinger };
  enum class BodyMode { kInPlace, kDirect, kChunked, kDiscard };
  enum class PoolJob { kHandle, kSpool, kReadFile };
  // What a phase wants next: go on, read more bytes, wait for the outstanding operation, or end the connection.
  enum class Step { kNext, kRead, kWait, kGone };

  void Drive(Step step);
  Step RunPhase();
  void StartRead();
  void OnRead(const boost::system::error_code& error, size_t bytes);
  void OnWritable(const boost::system::error_code& error);
  Step OnInterrupted(bool end_of_stream);

  // Head.
  Step OnHead();
  Step OnHeadComplete();
  std::optional<Reply> CheckHead();
  std::optional<Reply> FindRoute();
  int64_t BodyLimit() const;
  bool MakeRoom();

  // Body.
  Step StartBody();
  void StartDirect(size_t length);
  bool SendContinue();
  Step OnBody();
  Step OnDirectBody();
  Step OnChunkedBody();
  Step OnDiscardedBody();
  Step OnBodyComplete(std::string_view body);
  bool ReserveBody(size_t bytes);

  // Work.
  Step Infer(std::string_view body);
  Step SubmitToPool(PoolJob job);
  absl::StatusOr<Reply> WorkOnPool();
  void LogRequest(int64_t begin_ns);
  absl::Status CheckManager();
  absl::Status OpenFile(const std::string& path);
  absl::Status ReadFilePiece();

  // Answer.
  Step Refuse(Reply reply);
  Step RefuseAndClose(Reply reply);
  Step SendReply(Reply reply);
  void StartAnswer(const Reply& reply, int64_t length, int64_t tensor_header_bytes);
  void AddPiece(std::string_view piece);
  Step Send();
  Step OnSent();
  Step Linger();
  void FinishRequest();

  static int64_t Now();
  static int64_t After(double seconds);
  std::string_view in_view() const;

  IoThread* const thread_;
  Door* const door_;
  const Port* const port_;
  boost::asio::ip::tcp::socket socket_;
  Endpoint peer_, local_;
  const bool refuse_;

  Phase phase_ = Phase::kHead;
  int64_t deadline_ns_ = 0;
  bool keep_alive_ = true;
  bool draining_ = false;
  bool timed_out_ = false;
  bool closing_ = false;

  AlignedBuffer in_;  // received bytes that nobody has used yet: [in_begin_, in_end_)
  size_t in_begin_ = 0, in_end_ = 0;

  // The request.
  std::optional<HeadParser> parser_;  // set from its first byte on
  Head head_;
  size_t head_bytes_ = 0;
  const Route* route_ = nullptr;
  Request request_;
  BodyMode body_mode_ = BodyMode::kInPlace;
  uint64_t body_left_ = 0;      // bytes still to come, unless chunked
  uint64_t body_received_ = 0;  // of an upload: spooled so far
  BodyBuffer body_;
  int64_t reserved_ = 0;  // with the door
  Spool spool_;
  std::optional<absl::Status> manager_status_;  // what the peer's user may, once it was looked up
  Caller manager_;

  // The answer.
  PoolJob pool_job_ = PoolJob::kHandle;
  absl::Status pool_status_;
  Reply reply_;
  std::string head_text_;
  InferAnswer answer_;
  std::vector<iovec> pieces_;
  size_t next_piece_ = 0;
  UniqueFd file_;
  int64_t file_left_ = 0;
  std::string file_piece_;
};

}  // namespace tandem::api::http
