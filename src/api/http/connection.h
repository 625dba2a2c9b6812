#pragma once
// One client connection: reads a request, has it worked on, sends the answer, and begins again.
//
//   HEAD -> BODY -> (infer, health: at once) ----------> SEND -> HEAD ...
//             |  \-> INFER (it waits for an instance) ----/   \-> LINGER -> gone
//             \---> POOL (control routes, large coded bodies)-/
//              ^--- POOL (a piece of an upload)
#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/http/body_buffer.h"
#include "api/http/content_coding.h"
#include "api/http/door.h"
#include "api/http/head_parser.h"
#include "api/http/peer.h"
#include "api/http/poller.h"
#include "api/http/posted.h"
#include "api/http/spool.h"
#include "api/http/v2_infer.h"
#include "base/fd.h"

namespace tandem::api::http {

class IoThread;

// Lives on one data-plane thread, which owns it and calls everything but RunOnPool and Finished. It either waits for
// its socket, and can end at any moment, or something is done for it elsewhere (POOL, INFER), and it stays until that
// comes back: so nothing ever points to one that is gone.
//
// A peer that has gone while its request waits in INFER: a reset shows at once, and the request is cancelled. The end
// of its stream alone does not tell a peer that closed from one that only sends no more and still reads, which HTTP
// allows; an interim answer (102, RFC 2518) is ignored by the latter, and the former's kernel refuses it with a reset.
class Connection : public ControlWork, public Posted, public Watched, public InferRequest::Owner {
 public:
  // Made on any thread. `refuse`: there are too many connections; it is told so and closed.
  Connection(IoThread* thread, Door* door, const Port* port, UniqueFd fd, bool refuse);
  ~Connection() override;

  // Ends or answers what took too long.
  void CheckDeadline(int64_t now_ns);
  // Ends after the answer in progress, at once when idle.
  void Drain();
  // Ends now; what is still done for it elsewhere is dropped.
  void ForceClose();

  void OnEvents(uint32_t events) override;
  // Begins, goes on after RunOnPool or Finished, or where it let others go first.
  void Run() override;
  void RunOnPool() override;
  void Finished(InferRequest* request) override;

 private:
  enum class Phase { kNew, kHead, kBody, kPool, kInfer, kSend, kLinger };
  enum class BodyMode { kInPlace, kDirect, kChunked, kDiscard };
  enum class PoolJob { kHandle, kSpool, kReadFile, kInflate, kDeflate };
  // What a phase wants next: go on, read more bytes, wait for events or for what is done elsewhere, or end.
  enum class Step { kNext, kRead, kWait, kGone };

  void Begin();
  void Drive(Step step);
  Step RunPhase();
  Step Read();
  Step OnEndOfStream();
  Step OnTimeout();

  // Head.
  Step OnHead();
  Step OnHeadComplete();
  std::optional<Reply> CheckHead();
  std::optional<Reply> FindRoute();
  std::optional<Reply> CheckCoding();
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
  std::optional<Reply> InflateTo(size_t most, bool* done);
  Step OnPlainBody(std::string_view body);
  bool ReserveBody(size_t bytes);

  // Work.
  Step Infer(std::string_view body);
  Step AnswerAtOnce();
  Step FinishInfer();
  void OnPeerGone();
  void AskWhetherPeerReads();
  bool Submit(PoolJob job);
  Step SubmitOrRefuse(PoolJob job);
  void OnPoolDone();
  absl::StatusOr<Reply> WorkOnPool();
  absl::Status InflateAll();
  void LogRequest(int64_t begin_ns);
  absl::Status CheckManager();
  absl::Status OpenFile(const std::string& path);
  absl::Status ReadFilePiece();

  // Answer.
  Step Refuse(Reply reply);
  Step RefuseAndClose(Reply reply);
  Step SendReply(Reply reply);
  Step SendReplyPieces(int64_t tensor_header_bytes);
  bool WantsCompression(size_t length) const;
  void Compress();
  Step SendHeadAndPieces();
  void StartPieces();
  void AddPiece(std::string_view piece);
  Step Send();
  Step OnSent();
  Step Linger();
  void FinishRequest();
  void EndTrace(int code);

  static int64_t Now();
  static int64_t After(double seconds);
  std::string_view in_view() const;

  IoThread* const thread_;
  Door* const door_;
  const Port* const port_;
  const UniqueFd fd_;
  Endpoint peer_, local_;
  const bool refuse_;

  Phase phase_ = Phase::kNew;
  // Events are edge-triggered: what the socket said last.
  bool readable_ = false, peer_ended_ = false;
  std::optional<Step> yielded_;  // what comes next, once others had their turn
  int64_t deadline_ns_ = 0;
  bool keep_alive_ = true;
  bool draining_ = false;
  bool closing_ = false;

  AlignedBuffer in_;  // received bytes that nobody has used yet: [in_begin_, in_end_)
  size_t in_begin_ = 0, in_end_ = 0;

  // The request.
  std::optional<HeadParser> parser_;  // set from its first byte on
  Head head_;
  size_t head_bytes_ = 0;
  const Route* route_ = nullptr;
  int64_t trace_begin_ns_ = 0;  // of a request to infer, where requests are traced; else 0
  Request request_;
  BodyMode body_mode_ = BodyMode::kInPlace;
  uint64_t body_left_ = 0;      // bytes still to come, unless chunked
  uint64_t body_received_ = 0;  // of an upload: spooled so far
  BodyBuffer body_;
  // A compressed request: allocated for it only.
  struct Inflating {
    Inflating(Coding coding, std::string_view compressed) : inflater(coding, compressed) {}
    Inflater inflater;
    BodyBuffer plain;
  };
  Coding body_coding_ = Coding::kNone;
  std::unique_ptr<Inflating> inflating_;
  int64_t reserved_ = 0;  // with the door
  Spool spool_;
  std::optional<absl::Status> manager_status_;  // what the peer's user may, once it was looked up
  Caller manager_;

  // Inference. What follows is touched on the own thread only.
  std::unique_ptr<InferSlot> slot_;
  bool starting_ = false, finished_ = false;

  // The answer.
  PoolJob pool_job_ = PoolJob::kHandle;
  absl::Status pool_status_;
  Reply reply_;
  int64_t tensor_header_bytes_ = -1;
  Coding answer_coding_ = Coding::kNone;  // once it is compressed
  std::string head_text_, compressed_;
  std::vector<iovec> pieces_;  // the first is the head's
  size_t next_piece_ = 0;
  UniqueFd file_;
  int64_t file_left_ = 0;
  std::string file_piece_;
};

}  // namespace tandem::api::http
