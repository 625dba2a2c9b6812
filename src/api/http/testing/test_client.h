#pragma once
// A raw HTTP client over a loopback socket: it sends exactly the bytes it is told, and reads one answer at a time.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cctype>
#include <map>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "base/strings.h"

namespace tandem::api::http::testing {

struct Answer {
  int code = 0;                                // 0: the connection ended without an answer
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  bool Has(std::string_view text) const { return body.find(text) != std::string::npos; }
};

class TestClient {
 public:
  // `address` is "127.0.0.1:PORT".
  explicit TestClient(const std::string& address) : address_(address) {
    fd_ = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.find(':') + 1))));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    timeval limit = {.tv_sec = 20, .tv_usec = 0};
    setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    connected_ = connect(fd_.get(), reinterpret_cast<sockaddr*>(&to), sizeof to) == 0;
  }
  bool connected() const { return connected_; }
  int fd() const { return fd_.get(); }

  void Send(std::string_view bytes) {
    while (!bytes.empty()) {
      ssize_t sent = send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      bytes.remove_prefix(sent);
    }
  }
  void EndSending() { shutdown(fd_.get(), SHUT_WR); }
  void Close() { fd_.Reset(); }
  // As a client that crashes with data unread.
  void Reset() {
    linger now = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
    fd_.Reset();
  }

  std::string Format(std::string_view verb, std::string_view path, std::string_view body, std::string_view headers) {
    return StrCat(verb, " ", path, " HTTP/1.1\r\nHost: ", address_, "\r\nContent-Length: ", body.size(), "\r\n",
                  headers, "\r\n", body);
  }
  Answer Ask(std::string_view verb, std::string_view path, std::string_view body = "", std::string_view headers = "") {
    Send(Format(verb, path, body, headers));
    return Read();
  }

  Answer Read() {
    Answer answer;
    size_t end;
    while ((end = buffer_.find("\r\n\r\n")) == std::string::npos) {
      if (!Receive()) return answer;
    }
    std::string head = buffer_.substr(0, end + 2);
    buffer_.erase(0, end + 4);
    answer.code = std::stoi(head.substr(9, 3));
    size_t at = head.find("\r\n") + 2;
    while (at < head.size()) {
      size_t line_end = head.find("\r\n", at), colon = head.find(": ", at);
      std::string name = head.substr(at, colon - at);
      for (char& c : name) c = static_cast<char>(tolower(c));
      answer.headers[name] = head.substr(colon + 2, line_end - colon - 2);
      at = line_end + 2;
    }
    size_t length = answer.headers.count("content-length") ? std::stoull(answer.headers["content-length"]) : 0;
    while (buffer_.size() < length && Receive()) {
    }
    answer.body = buffer_.substr(0, length);
    buffer_.erase(0, length);
    return answer;
  }
  // True when the server ended the connection and nothing is left to read.
  bool AtEnd() { return buffer_.empty() && !Receive(); }

 private:
  bool Receive() {
    char piece[65536];
    ssize_t got = recv(fd_.get(), piece, sizeof piece, 0);
    if (got <= 0) return false;
    buffer_.append(piece, got);
    return true;
  }

  std::string address_;
  UniqueFd fd_;
  bool connected_ = false;
  std::string buffer_;
};

}  // namespace tandem::api::http::testing
