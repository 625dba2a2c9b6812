#pragma once
// HTTP/1.1 to one server: requests with a deadline, bodies that stream both ways. Knows no verb.
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tandem::client {

inline constexpr std::string_view kDefaultUrl = "http://127.0.0.1:8000";

struct Endpoint {
  std::string url{kDefaultUrl};
  std::string token;  // sent as a bearer token unless empty
  // Asked 20 times a second while a call waits; true ends the call with Cancelled.
  std::function<bool()> interrupted;
};

// A body of known size, read once from front to end.
class BodySource {
 public:
  virtual ~BodySource() = default;
  virtual int64_t size() const = 0;
  // Fills at most `capacity` bytes; 0 only at the end.
  virtual absl::StatusOr<size_t> Read(char* data, size_t capacity) = 0;
};

// The bytes of a file. NotFound and so on name it; a file that shrinks while it is read is OutOfRange.
absl::StatusOr<std::unique_ptr<BodySource>> OpenFileSource(const std::string& path);

using Headers = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method = "GET";
  std::string target;  // percent-encoded path and query
  std::string content_type = "application/json";
  Headers headers;
  std::string body;
  BodySource* stream = nullptr;  // instead of `body`
  // Gets the body of a 2xx answer piece by piece, instead of HttpResponse::body.
  std::function<absl::Status(std::string_view)> sink;
  double timeout_s = 30;
};

struct HttpResponse {
  int code = 0;
  Headers headers;
  std::string body;
};

// Thread-compatible. Keeps its connection between calls and makes a new one when the server closed it.
class Transport {
 public:
  static absl::StatusOr<std::unique_ptr<Transport>> Create(Endpoint endpoint);
  virtual ~Transport() = default;
  // Any HTTP answer is OK, whatever its code; see CheckAnswer.
  virtual absl::StatusOr<HttpResponse> Call(const HttpRequest& request) = 0;
  virtual bool loopback() const = 0;
};

// OK for 2xx; else the status of the code, with the text of {"error": "..."} where the body has it.
absl::Status CheckAnswer(const HttpRequest& request, const HttpResponse& response);

// Marks a status as "the server could not be reached, or did not answer in time".
absl::Status Unreachable(absl::Status status);
bool IsUnreachable(const absl::Status& status);

// Percent-encodes everything but letters, digits and -._~ : one segment of a path, or one value of a query.
std::string EncodeUrl(std::string_view text);

}  // namespace tandem::client
