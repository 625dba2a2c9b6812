#include "api/grpc/acceptor.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <string>
#include <string_view>

#include "base/clock.h"
#include "telemetry/log.h"

namespace tandem::api::rpc {
namespace {

constexpr int kRetryMillis = 100;
// Looking through all connections for closed ones, while more come than may.
constexpr int64_t kLookNanos = 50'000'000;
// Left to everything else: model files, children, HTTP.
constexpr int kReservedDescriptors = 64;

ino_t InodeOf(int fd) {
  struct stat info;
  return fstat(fd, &info) == 0 && S_ISSOCK(info.st_mode) ? info.st_ino : 0;
}

// HTTP/2 (RFC 9113): a SETTINGS frame, which comes first, and GOAWAY with no stream taken and ENHANCE_YOUR_CALM.
std::string Refusal() {
  constexpr std::string_view kSettings("\0\0\0\x4\0\0\0\0\0", 9), kGoAway("\x7\0\0\0\0\0", 6);
  constexpr std::string_view kNoStreamCalm("\0\0\0\0\0\0\0\xb", 8), kText = "too many connections; try again later";
  static_assert(kNoStreamCalm.size() + kText.size() < 256);
  std::string bytes(kSettings);
  bytes.append(2, '\0').push_back(static_cast<char>(kNoStreamCalm.size() + kText.size()));
  return bytes.append(kGoAway).append(kNoStreamCalm).append(kText);
}

void Refuse(UniqueFd fd) {
  static const std::string* const bytes = new std::string(Refusal());
  (void)!send(fd.get(), bytes->data(), bytes->size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  shutdown(fd.get(), SHUT_WR);
}

}  // namespace

Acceptor::Acceptor(UniqueFd listening, int most, Taker taker, std::function<void(const std::string&)> on_thread)
    : listening_(std::move(listening)),
      stop_event_(eventfd(0, EFD_CLOEXEC)),
      most_(static_cast<size_t>(most)),
      taker_(std::move(taker)),
      on_thread_(std::move(on_thread)) {}

void Acceptor::Start() {
  thread_ = std::thread([this] { Run(); });
}

void Acceptor::Stop() {
  if (thread_.joinable()) {
    eventfd_write(stop_event_.get(), 1);
    thread_.join();
  }
  listening_.Reset();
}

void Acceptor::Run() {
  constexpr const char* kName = "grpc-accept";
  pthread_setname_np(pthread_self(), kName);
  if (on_thread_) on_thread_(kName);
  pollfd watched[] = {{stop_event_.get(), POLLIN, 0}, {listening_.get(), POLLIN, 0}};
  while (true) {
    poll(watched, 2, -1);
    if (watched[0].revents != 0) return;
    UniqueFd fd(accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd.valid()) {
      Take(std::move(fd));
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      Log(LogLevel::kError, "cannot accept a gRPC connection", {{"reason", strerror(errno)}});
      poll(watched, 1, kRetryMillis);  // trying again at once would spin until a descriptor is free
    }
  }
}

bool Acceptor::HasRoomFor(int fd) {
  // The kernel gives the lowest number that is free, so a high one tells that few are left.
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && static_cast<rlim_t>(fd) + kReservedDescriptors >= limit.rlim_cur) {
    return false;
  }
  if (connections_.size() < most_) return true;
  const int64_t now = Clock::Real()->MonotonicNanos();
  if (now - looked_ns_ < kLookNanos) return false;
  looked_ns_ = now;
  std::erase_if(connections_, [](const Connection& one) { return InodeOf(one.fd) != one.inode; });
  return connections_.size() < most_;
}

void Acceptor::Take(UniqueFd fd) {
  if (!HasRoomFor(fd.get())) return Refuse(std::move(fd));
  int one = 1;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  connections_.push_back({fd.get(), InodeOf(fd.get())});
  ::grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters taken;
  taken.listener_fd = listening_.get();
  taken.fd = fd.Release();
  taker_->HandleNewConnection(&taken);
}

}  // namespace tandem::api::rpc
