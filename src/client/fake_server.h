#pragma once
// A tiny HTTP server for tests: one connection at a time, keep-alive, answers by a function. Header-only, since the
// command line's tests use it too.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "base/strings.h"

namespace tandem::client {

struct FakeRequest {
  std::string line;  // "GET /x HTTP/1.1"
  std::string head;  // with the line
  std::string body;
};
struct FakeReply {
  int code = 200;
  std::string body = "{}";
  std::string headers;       // complete lines, each with \r\n
  bool close = false;        // after the reply
  bool hang = false;         // never answer; wait until the peer closes
  bool before_body = false;  // answer at the end of the head, then close
};

// Thread-safe to read requests() from the test while it runs. Stops and joins when destroyed; clients must have closed
// their connections or be idle.
class FakeServer {
 public:
  using Handler = std::function<FakeReply(const FakeRequest&)>;

  explicit FakeServer(Handler handler) : handler_(std::move(handler)) {
    listener_ = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        listen(listener_.get(), 8) != 0) {
      throw std::system_error(errno, std::generic_category(), "listen on loopback");
    }
    socklen_t size = sizeof address;
    getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { Run(); });
  }
  ~FakeServer() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
      if (connection_ >= 0) shutdown(connection_, SHUT_RDWR);
    }
    shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }

  std::string url() const { return StrCat("http://127.0.0.1:", port_); }
  std::vector<FakeRequest> requests() {
    std::lock_guard lock(mutex_);
    return requests_;
  }
  int connections() {
    std::lock_guard lock(mutex_);
    return connections_;
  }

 private:
  void Run() {
    while (true) {
      UniqueFd connection(accept(listener_.get(), nullptr, nullptr));
      {
        std::lock_guard lock(mutex_);
        if (stopping_ || !connection.valid()) return;
        connection_ = connection.get();
        ++connections_;
      }
      while (Serve(connection.get())) {
      }
      std::lock_guard lock(mutex_);
      connection_ = -1;
    }
  }

  // One request and its reply; false at the connection's end.
  bool Serve(int fd) {
    FakeRequest request;
    std::string in;
    size_t end;
    while ((end = in.find("\r\n\r\n")) == in.npos) {
      if (!More(fd, &in)) return false;
    }
    request.head = in.substr(0, end + 2);
    request.line = request.head.substr(0, request.head.find("\r\n"));
    request.body = in.substr(end + 4);
    size_t field = request.head.find("Content-Length: ");
    size_t length = field == request.head.npos ? 0 : strtoul(request.head.c_str() + field + 16, nullptr, 10);
    FakeReply early = handler_(request);
    if (early.before_body) return Record(request), Reply(fd, early), false;
    while (request.body.size() < length) {
      if (!More(fd, &request.body)) return false;
    }
    Record(request);
    FakeReply reply = length > 0 ? handler_(request) : early;
    if (reply.hang) {
      while (More(fd, &in)) {
      }
      return false;
    }
    return Reply(fd, reply) && !reply.close;
  }

  void Record(const FakeRequest& request) {
    std::lock_guard lock(mutex_);
    requests_.push_back(request);
  }

  static bool More(int fd, std::string* text) {
    char piece[65536];
    ssize_t got = read(fd, piece, sizeof piece);
    if (got > 0) text->append(piece, got);
    return got > 0;
  }

  static bool Reply(int fd, const FakeReply& reply) {
    std::string text = StrCat("HTTP/1.1 ", reply.code, " X\r\nContent-Length: ", reply.body.size(), "\r\n",
                              reply.headers, "\r\n", reply.body);
    return send(fd, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
  }

  Handler handler_;
  UniqueFd listener_;
  int port_ = 0;
  std::thread thread_;
  std::mutex mutex_;
  std::vector<FakeRequest> requests_;  // guarded by mutex_, as are the next three
  int connections_ = 0;
  int connection_ = -1;
  bool stopping_ = false;
};

}  // namespace tandem::client
