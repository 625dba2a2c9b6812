#pragma once
// What the door knows of one request, and what it answers.
#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "api/service.h"

namespace tandem::api::http {

enum class Verb { kGet, kPost, kPut, kDelete, kOther };
std::string_view VerbName(Verb verb);

// The values of a pattern's {names}, decoded. Reused from request to request, so that it seldom allocates.
class PathParams {
 public:
  static constexpr int kMost = 3;
  void Clear() { count_ = 0; }
  // REQUIRES: fewer than kMost so far. `name` outlives this. False if `text` is wrongly encoded.
  bool Add(std::string_view name, std::string_view text);
  std::string_view Get(std::string_view name) const;  // "" if there is none

 private:
  struct Param {
    std::string_view name;
    std::string value;
  };
  std::array<Param, kMost> params_;
  int count_ = 0;
};

// What a handler sees. Views live as long as the call.
struct Request {
  PathParams params;
  std::string_view query;  // behind the '?', encoded
  std::string_view body;
  std::string upload_path;                      // uploads: the spooled body
  Caller caller;                                // complete for routes that manage
  const std::atomic<bool>* stopping = nullptr;  // long polls end early when it becomes true
  std::string_view Param(std::string_view name) const { return params.Get(name); }
};

struct Reply {
  int code = 200;
  std::string_view content_type = "application/json";
  std::string body;
  std::string file;           // when set, this file's bytes are the body
  std::string extra_headers;  // whole lines, each ended by CRLF
  std::string error;          // the message of an error, for a trace
};

using Handler = absl::StatusOr<Reply> (*)(const Services& services, const Request& request);

// {"error":"message"} with a code of HTTP, or the one that belongs to the status. 503 comes with Retry-After.
Reply ErrorReply(int code, std::string_view message);
Reply ErrorReply(const absl::Status& status);
Reply JsonReply(std::string json);
// How loud the log line of an answer is: changes at info, questions and clients' mistakes at debug, the server's own as
// warnings. That something is not built (501) is no mistake of the server's.
LogLevel LevelOf(Verb verb, int code);

// The header lines that do not come from the reply; "" or -1: the line is left out.
struct HeadLines {
  int64_t content_length = 0;
  int64_t tensor_header_bytes = -1;  // of the binary tensor extension
  std::string_view connection, request_id, content_encoding;
};
// Appends the status line and header lines up to the empty line.
void AppendHead(const Reply& reply, const HeadLines& lines, std::string* out);

}  // namespace tandem::api::http
