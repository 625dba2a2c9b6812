// The least that an HTTP server can do: epoll, find the end of each request, send the same bytes again. What the real
// server is measured against (bench_http.py).
//
//   stub_server PORT ANSWER_FILE [THREADS]
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

namespace {

// The bytes of the first request in `data`, 0 while it is not whole.
size_t RequestSize(std::string_view data) {
  size_t end = data.find("\r\n\r\n");
  if (end == std::string_view::npos) return 0;
  static constexpr std::string_view kLength = "Content-Length: ";
  size_t at = data.substr(0, end).find(kLength);
  size_t body = at == std::string_view::npos ? 0 : strtoul(data.data() + at + kLength.size(), nullptr, 10);
  return data.size() >= end + 4 + body ? end + 4 + body : 0;
}

// Serves the connections that are added to `epoll`.
void Serve(int epoll, const std::string& answer) {
  std::unordered_map<int, std::string> pending;
  std::vector<epoll_event> events(64);
  std::vector<char> piece(65536);
  while (true) {
    int count = epoll_wait(epoll, events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < count; ++i) {
      int fd = events[i].data.fd;
      ssize_t got = recv(fd, piece.data(), piece.size(), MSG_DONTWAIT);
      if (got <= 0) {
        pending.erase(fd);
        close(fd);
        continue;
      }
      std::string& data = pending[fd];
      data.append(piece.data(), got);
      while (size_t size = RequestSize(data)) {
        data.erase(0, size);
        if (send(fd, answer.data(), answer.size(), MSG_NOSIGNAL) < 0) break;
      }
    }
  }
}

int Listen(int port) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  int one = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 || listen(fd, 1024) != 0) {
    perror("stub_server: listen");
    exit(1);
  }
  return fd;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: stub_server PORT ANSWER_FILE [THREADS]\n");
    return 2;
  }
  std::ifstream file(argv[2], std::ios::binary);
  const std::string answer{std::istreambuf_iterator<char>(file), {}};
  const int thread_count = argc > 3 ? atoi(argv[3]) : 2;
  std::vector<int> epolls;
  std::vector<std::thread> threads;
  for (int i = 0; i < thread_count; ++i) {
    epolls.push_back(epoll_create1(0));
    threads.emplace_back(Serve, epolls.back(), std::cref(answer));
  }
  int listener = Listen(atoi(argv[1]));
  for (size_t next = 0;; ++next) {
    int fd = accept(listener, nullptr, nullptr);
    if (fd < 0) continue;
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    epoll_event event = {.events = EPOLLIN, .data = {.fd = fd}};
    epoll_ctl(epolls[next % epolls.size()], EPOLL_CTL_ADD, fd, &event);
  }
}
