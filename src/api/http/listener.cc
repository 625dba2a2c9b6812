#include "api/http/listener.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

#include "base/status.h"
#include "telemetry/log.h"

namespace tandem::api::http {
namespace {

constexpr int kBacklog = 1024;
// Connections beyond the limit that are told so at the same time; more are dropped.
constexpr int kMostRefused = 64;
// Accepted between two looks at the other sockets; the rest is told again.
constexpr int kMostAccepted = 64;

struct FreeAddresses {
  void operator()(addrinfo* list) const { freeaddrinfo(list); }
};

absl::StatusOr<std::unique_ptr<addrinfo, FreeAddresses>> LookUp(const std::string& host, int port) {
  addrinfo hints = {};
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  // "localhost" is what the other tools print as 127.0.0.1.
  hints.ai_family = host == "localhost" ? AF_INET : AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  int error = getaddrinfo(host.c_str(), StrCat(port).c_str(), &hints, &list);
  if (error != 0) return InvalidArgument("address '", host, ":", port, "': ", gai_strerror(error));
  return std::unique_ptr<addrinfo, FreeAddresses>(list);
}

absl::Status BindError(int error, const std::string& host, int port) {
  std::string what = StrCat("listen on ", host, ":", port);
  if (error == EADDRINUSE) {
    return FailedPrecondition(what, ": the port is taken by ", HolderOfPort(port), "; stop it or choose another port");
  }
  return ErrnoStatus(error, what);
}

}  // namespace

absl::StatusOr<BoundSocket> Bind(const std::string& host, int port, const std::vector<Token>& tokens,
                                 std::optional<AccessPolicy>* policy) {
  if (port < 0 || port > 65535) return InvalidArgument("port ", port, " is not between 0 and 65535");
  TANDEM_ASSIGN_OR_RETURN(auto list, LookUp(host, port));
  sockaddr_storage address = {};
  memcpy(&address, list->ai_addr, list->ai_addrlen);
  TANDEM_ASSIGN_OR_RETURN(*policy, AccessPolicy::Create(host, EndpointOf(address), tokens));
  BoundSocket bound;
  bound.fd = UniqueFd(socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!bound.fd.valid()) return ErrnoStatus(errno, "make a socket");
  int one = 1;
  setsockopt(bound.fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(bound.fd.get(), list->ai_addr, list->ai_addrlen) != 0 || listen(bound.fd.get(), kBacklog) != 0) {
    return BindError(errno, host, port);
  }
  socklen_t size = sizeof address;
  getsockname(bound.fd.get(), reinterpret_cast<sockaddr*>(&address), &size);
  bound.endpoint = EndpointOf(address);
  return bound;
}

Listener::Listener(BoundSocket socket, Port port, Door* door, std::vector<IoThread*> threads)
    : endpoint_(socket.endpoint),
      port_(std::move(port)),
      door_(door),
      threads_(std::move(threads)),
      fd_(std::move(socket.fd)) {}

absl::Status Listener::Start() {
  if (threads_[0]->poller()->Watch(fd_.get(), EPOLLIN, this)) return absl::OkStatus();
  return ErrnoStatus(errno, StrCat("watch the socket of ", address()));
}

void Listener::Stop() {
  if (!fd_.valid()) return;
  threads_[0]->poller()->Unwatch(fd_.get());
  fd_.Reset();
}

void Listener::OnEvents(uint32_t) {
  for (int i = 0; i < kMostAccepted; ++i) {
    UniqueFd fd(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.valid() && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
      Log(LogLevel::kError, "cannot accept a connection", {{"reason", strerror(errno)}});
      // Trying again at once would spin until a descriptor is free.
      threads_[0]->poller()->Change(fd_.get(), 0, this);
      return threads_[0]->RunAtTick(this);
    }
    if (!fd.valid() && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (!fd.valid()) continue;  // the peer gave up meanwhile, or a signal came
    int open = door_->connections.load();
    if (open >= door_->settings.max_connections + kMostRefused) continue;
    door_->Enter();
    threads_[next_thread_++ % threads_.size()]->Adopt(std::move(fd), &port_, open >= door_->settings.max_connections);
  }
}

void Listener::Run() {
  if (fd_.valid()) threads_[0]->poller()->Change(fd_.get(), EPOLLIN, this);
}

}  // namespace tandem::api::http
