#include "client/transport.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <cctype>
#include <chrono>
#include <optional>
#include <vector>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "base/status.h"
#include "base/text.h"
#include "nlohmann/json.hpp"

namespace tandem::client {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using SteadyClock = std::chrono::steady_clock;

constexpr auto kSlice = std::chrono::milliseconds(50);
constexpr size_t kChunk = 256 << 10;
constexpr size_t kMaxAnswer = 1 << 30;
constexpr std::string_view kUnreachablePayload = "tandem/unreachable";

struct Url {
  std::string text, host, port, host_header;
};

absl::StatusOr<Url> ParseUrl(std::string_view text) {
  auto bad = [&](std::string_view why) {
    return InvalidArgument("server URL '", text, "' ", why, "; write for example ", kDefaultUrl);
  };
  std::string_view rest = text;
  if (size_t scheme = rest.find("://"); scheme != rest.npos) {
    if (rest.substr(0, scheme) == "https") return bad("asks for TLS, which this client does not speak");
    if (rest.substr(0, scheme) != "http") return bad("is not an http URL");
    rest.remove_prefix(scheme + 3);
  }
  if (rest.ends_with('/')) rest.remove_suffix(1);
  Url url;
  size_t colon = rest.rfind(':');
  bool has_port = colon != rest.npos && rest.find(']', colon) == rest.npos;
  std::string_view host = has_port ? rest.substr(0, colon) : rest;
  url.port = has_port ? rest.substr(colon + 1) : "80";
  url.host_header = StrCat(host, ":", url.port);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  url.host = host;
  int port = 0;
  if (!absl::SimpleAtoi(url.port, &port) || port < 1 || port > 65535) return bad("has no port from 1 to 65535");
  bool clean = std::all_of(host.begin(), host.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '.' || c == '-' || c == '_' || c == ':';
  });
  if (host.empty() || !clean) return bad("has no host name");
  url.text = StrCat("http://", url.host_header);
  return url;
}

bool IsLoopback(const std::string& host) { return host == "localhost" || host == "::1" || host.starts_with("127."); }

// Owns the socket and the event loop of one connection. Each step runs an asynchronous operation on the caller's
// thread, since Asio's blocking calls know no deadline.
class HttpTransport final : public Transport {
 public:
  HttpTransport(Endpoint endpoint, Url url) : endpoint_(std::move(endpoint)), url_(std::move(url)) {}

  bool loopback() const override { return IsLoopback(url_.host); }

  absl::StatusOr<HttpResponse> Call(const HttpRequest& request) override {
    deadline_ = SteadyClock::now() +
                std::chrono::duration_cast<SteadyClock::duration>(std::chrono::duration<double>(request.timeout_s));
    bool reused = socket_.is_open() && Quiet();
    absl::StatusOr<HttpResponse> response = Exchange(request, reused);
    // A kept connection may have been closed between the check and the request.
    if (reused && request.method == "GET" && dropped_) response = Exchange(request, false);
    if (!response.ok()) Close();
    return response;
  }

 private:
  absl::StatusOr<HttpResponse> Exchange(const HttpRequest& request, bool reuse) {
    dropped_ = false;
    buffer_.clear();
    if (!reuse) {
      Close();
      TANDEM_RETURN_IF_ERROR(Connect(request));
    }
    bool all_sent = false;
    absl::Status sent = Send(request, &all_sent);
    if (!sent.ok() && !dropped_) return sent;
    // A server that refuses a body answers before it has read it, and then closes.
    absl::StatusOr<HttpResponse> response = Receive(request);
    if (!all_sent) Close();
    return response;
  }

  absl::Status Connect(const HttpRequest& request) {
    asio::ip::tcp::resolver resolver(io_);
    asio::ip::tcp::resolver::results_type endpoints;
    error_code error = Run([&](auto done) {
      resolver.async_resolve(url_.host, url_.port, [&endpoints, done](error_code ec, auto results) mutable {
        endpoints = std::move(results);
        done(ec);
      });
    });
    if (!error && stopped_.ok()) error = Run([&](auto done) { asio::async_connect(socket_, endpoints, done); });
    if (!stopped_.ok()) return Stopped(request);
    if (error) return CannotConnect(error);
    socket_.set_option(asio::ip::tcp::no_delay(true), error);
    return absl::OkStatus();
  }

  std::string Head(const HttpRequest& request, int64_t length) const {
    std::string head = StrCat(request.method, " ", request.target, " HTTP/1.1\r\nHost: ", url_.host_header,
                              "\r\nUser-Agent: tandem\r\nAccept: */*\r\n");
    if (!endpoint_.token.empty()) StrAppend(&head, "Authorization: Bearer ", endpoint_.token, "\r\n");
    for (const auto& [name, value] : request.headers) StrAppend(&head, name, ": ", value, "\r\n");
    if (length > 0 || request.method != "GET") {
      StrAppend(&head, "Content-Type: ", request.content_type, "\r\nContent-Length: ", length, "\r\n");
    }
    return head + "\r\n";
  }

  absl::Status Send(const HttpRequest& request, bool* all_sent) {
    int64_t left = request.stream ? request.stream->size() : static_cast<int64_t>(request.body.size());
    std::string piece = Head(request, left);
    if (!request.stream) {
      piece += request.body;
      left = 0;
    }
    TANDEM_RETURN_IF_ERROR(SendPiece(request, piece));
    while (left > 0 && Quiet()) {
      piece.resize(std::min<int64_t>(left, kChunk));
      TANDEM_ASSIGN_OR_RETURN(size_t got, request.stream->Read(piece.data(), piece.size()));
      if (got == 0) return Internal("a body of ", request.stream->size(), " bytes ended ", left, " bytes early");
      piece.resize(got);
      left -= static_cast<int64_t>(got);
      TANDEM_RETURN_IF_ERROR(SendPiece(request, piece));
    }
    *all_sent = left == 0;
    return absl::OkStatus();
  }

  absl::Status SendPiece(const HttpRequest& request, std::string_view piece) {
    error_code error =
        Run([&](auto done) { asio::async_write(socket_, asio::buffer(piece.data(), piece.size()), done); });
    if (!stopped_.ok()) return Stopped(request);
    return error ? Dropped(request, error) : absl::OkStatus();
  }

  absl::StatusOr<HttpResponse> Receive(const HttpRequest& request) {
    http::response_parser<http::buffer_body> parser;
    parser.body_limit(boost::none);
    parser.header_limit(64 << 10);
    dropped_ = false;
    error_code error = Run([&](auto done) { http::async_read_header(socket_, buffer_, parser, done); });
    if (!stopped_.ok()) return Stopped(request);
    if (error) return Dropped(request, error);

    HttpResponse response;
    response.code = static_cast<int>(parser.get().result_int());
    for (const auto& field : parser.get()) {
      response.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
    }
    TANDEM_RETURN_IF_ERROR(ReceiveBody(request, &parser, &response));
    if (!parser.keep_alive()) Close();
    return response;
  }

  absl::Status ReceiveBody(const HttpRequest& request, http::response_parser<http::buffer_body>* parser,
                           HttpResponse* response) {
    bool to_sink = request.sink && response->code / 100 == 2;
    std::vector<char> piece(64 << 10);
    while (!parser->is_done()) {
      parser->get().body().data = piece.data();
      parser->get().body().size = piece.size();
      error_code error = Run([&](auto done) { http::async_read(socket_, buffer_, *parser, done); });
      if (!stopped_.ok()) return Stopped(request);
      if (error && error != http::error::need_buffer) return Dropped(request, error);
      std::string_view got(piece.data(), piece.size() - parser->get().body().size);
      if (to_sink) {
        TANDEM_RETURN_IF_ERROR(request.sink(got));
        continue;
      }
      response->body += got;
      if (response->body.size() > kMaxAnswer) {
        return ResourceExhausted("the answer to ", request.method, " ", request.target, " is larger than ",
                                 HumanBytes(kMaxAnswer));
      }
    }
    return absl::OkStatus();
  }

  // Runs one asynchronous operation to its end; the deadline and the interruption end it early and set stopped_.
  template <typename Start>
  error_code Run(Start start) {
    std::optional<error_code> result;
    stopped_ = absl::OkStatus();
    io_.restart();
    start([&result](error_code error, const auto&...) { result = error; });
    while (!result) {
      io_.run_one_for(kSlice);
      if (result || !stopped_.ok()) continue;
      if (endpoint_.interrupted && endpoint_.interrupted()) stopped_ = Cancelled("interrupted");
      if (SteadyClock::now() >= deadline_) stopped_ = DeadlineExceeded("");
      if (!stopped_.ok()) Close();  // aborts the operation, whose handler then sets `result`
    }
    return *result;
  }

  // True while the peer has neither closed nor sent anything.
  bool Quiet() {
    char byte;
    ssize_t got = recv(socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
  }

  void Close() {
    error_code ignored;
    socket_.close(ignored);
  }

  absl::Status Stopped(const HttpRequest& request) const {
    if (absl::IsCancelled(stopped_)) return stopped_;
    return Unreachable(DeadlineExceeded("no answer from ", url_.text, " to ", request.method, " ", request.target,
                                        " within ", HumanSeconds(request.timeout_s)));
  }

  absl::Status Dropped(const HttpRequest& request, const error_code& error) {
    dropped_ = true;
    return Unreachable(Unavailable("the server at ", url_.text, " closed the connection during ", request.method, " ",
                                   request.target, " (", error.message(), ")"));
  }

  absl::Status CannotConnect(const error_code& error) const {
    if (loopback()) {
      return Unreachable(Unavailable("no server answers at ", url_.text, " (", error.message(),
                                     "): start one with `tandem serve`, or name another with --url or TANDEM_URL"));
    }
    return Unreachable(Unavailable("cannot reach the server at ", url_.text, " (", error.message(),
                                   "): check that it runs and that the address given by --url or TANDEM_URL is right"));
  }

  Endpoint endpoint_;
  Url url_;
  asio::io_context io_{1};
  asio::ip::tcp::socket socket_{io_};
  boost::beast::flat_buffer buffer_;  // bytes received beyond what was parsed
  SteadyClock::time_point deadline_;
  absl::Status stopped_;
  bool dropped_ = false;  // the last exchange failed because the peer closed
};

}  // namespace

absl::StatusOr<std::unique_ptr<Transport>> Transport::Create(Endpoint endpoint) {
  TANDEM_ASSIGN_OR_RETURN(Url url, ParseUrl(endpoint.url));
  for (unsigned char c : endpoint.token) {
    if (c <= ' ' || c >= 127) return InvalidArgument("the token holds a blank or a character outside ASCII");
  }
  return CatchToStatus("HTTP client", [&]() -> absl::StatusOr<std::unique_ptr<Transport>> {
    return std::make_unique<HttpTransport>(std::move(endpoint), std::move(url));
  });
}

absl::Status CheckAnswer(const HttpRequest& request, const HttpResponse& response) {
  if (response.code / 100 == 2) return absl::OkStatus();
  absl::StatusCode code = CodeFromHttp(response.code);
  if (code == absl::StatusCode::kOk) code = absl::StatusCode::kInternal;
  auto json = nlohmann::json::parse(response.body, nullptr, false);
  if (json.is_object() && json.contains("error") && json["error"].is_string()) {
    return absl::Status(code, json["error"].get<std::string>());
  }
  return absl::Status(code, StrCat("the server answered ", request.method, " ", request.target, " with HTTP ",
                                   response.code, " and no message; is it a tandem server?"));
}

absl::Status Unreachable(absl::Status status) {
  status.SetPayload(AbslView(kUnreachablePayload), absl::Cord("1"));
  return status;
}

bool IsUnreachable(const absl::Status& status) { return status.GetPayload(AbslView(kUnreachablePayload)).has_value(); }

std::string EncodeUrl(std::string_view text) {
  static constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out;
  for (unsigned char c : text) {
    if (c < 128 && (std::isalnum(c) || c == '-' || c == '.' || c == '_' || c == '~')) {
      out += static_cast<char>(c);
    } else {
      out += {'%', kHex[c >> 4], kHex[c & 15]};
    }
  }
  return out;
}

}  // namespace tandem::client
