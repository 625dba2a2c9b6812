#include "api/http/request.h"

#include <charconv>
#include <cmath>

#include "api/http/json_writer.h"
#include "api/http/uri.h"
#include "base/status.h"

namespace tandem::api::http {
namespace {

struct Reason {
  int code;
  std::string_view line;
};
constexpr Reason kReasons[] = {
    {200, "HTTP/1.1 200 OK\r\n"},
    {400, "HTTP/1.1 400 Bad Request\r\n"},
    {401, "HTTP/1.1 401 Unauthorized\r\n"},
    {403, "HTTP/1.1 403 Forbidden\r\n"},
    {404, "HTTP/1.1 404 Not Found\r\n"},
    {405, "HTTP/1.1 405 Method Not Allowed\r\n"},
    {408, "HTTP/1.1 408 Request Timeout\r\n"},
    {409, "HTTP/1.1 409 Conflict\r\n"},
    {413, "HTTP/1.1 413 Payload Too Large\r\n"},
    {415, "HTTP/1.1 415 Unsupported Media Type\r\n"},
    {431, "HTTP/1.1 431 Request Header Fields Too Large\r\n"},
    {501, "HTTP/1.1 501 Not Implemented\r\n"},
    {503, "HTTP/1.1 503 Service Unavailable\r\n"},
    {504, "HTTP/1.1 504 Gateway Timeout\r\n"},
    {505, "HTTP/1.1 505 HTTP Version Not Supported\r\n"},
    {507, "HTTP/1.1 507 Insufficient Storage\r\n"},
};
constexpr std::string_view kServerError = "HTTP/1.1 500 Internal Server Error\r\n";

std::string_view StatusLine(int code) {
  for (const Reason& reason : kReasons) {
    if (reason.code == code) return reason.line;
  }
  return kServerError;
}

void AppendNumber(int64_t value, std::string* out) {
  char text[24];
  out->append(text, std::to_chars(text, text + sizeof text, value).ptr - text);
}

}  // namespace

std::string_view VerbName(Verb verb) {
  switch (verb) {
    case Verb::kGet:
      return "GET";
    case Verb::kPost:
      return "POST";
    case Verb::kPut:
      return "PUT";
    case Verb::kDelete:
      return "DELETE";
    case Verb::kOther:
      break;
  }
  return "other";
}

bool PathParams::Add(std::string_view name, std::string_view text) {
  Param& param = params_[count_++];
  param.name = name;
  return PercentDecode(text, &param.value);
}

std::string_view PathParams::Get(std::string_view name) const {
  for (int i = 0; i < count_; ++i) {
    if (params_[i].name == name) return params_[i].value;
  }
  return "";
}

Reply ErrorReply(int code, std::string_view message) {
  Reply reply;
  reply.code = code;
  reply.error = message;
  JsonWriter(&reply.body).BeginObject().Key("error").String(message).EndObject();
  if (code == 401) reply.extra_headers = "WWW-Authenticate: Bearer realm=\"tandem\"\r\n";
  if (code == 503) reply.extra_headers = "Retry-After: 1\r\n";
  return reply;
}

Reply ErrorReply(const absl::Status& status) {
  Reply reply = ErrorReply(HttpCode(status.code()), MessageOf(status));
  const double seconds = RetryAfterOf(status);
  if (seconds > 0) reply.extra_headers = StrCat("Retry-After: ", static_cast<int64_t>(std::ceil(seconds)), "\r\n");
  return reply;
}

LogLevel LevelOf(Verb verb, int code) {
  if (code >= 500 && code != 501) return LogLevel::kWarning;
  return verb == Verb::kGet || code >= 400 ? LogLevel::kDebug : LogLevel::kInfo;
}

Reply JsonReply(std::string json) {
  Reply reply;
  reply.body = std::move(json);
  return reply;
}

void AppendHead(const Reply& reply, const HeadLines& lines, std::string* out) {
  out->append(StatusLine(reply.code)).append("Server: tandem\r\nContent-Type: ").append(reply.content_type);
  out->append("\r\nContent-Length: ");
  AppendNumber(lines.content_length, out);
  if (lines.tensor_header_bytes >= 0) {
    out->append("\r\nInference-Header-Content-Length: ");
    AppendNumber(lines.tensor_header_bytes, out);
  }
  if (!lines.content_encoding.empty()) out->append("\r\nContent-Encoding: ").append(lines.content_encoding);
  if (!lines.connection.empty()) out->append("\r\nConnection: ").append(lines.connection);
  if (!lines.request_id.empty()) out->append("\r\nX-Request-Id: ").append(lines.request_id);
  out->append("\r\n").append(reply.extra_headers).append("\r\n");
}

}  // namespace tandem::api::http
