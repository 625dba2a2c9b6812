#include "engine/packet.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include <algorithm>

#include "base/clock.h"
#include "base/status.h"

namespace tandem::engine {
namespace {

absl::Status SocketError(int error, std::string_view what) {
  if (error == EPIPE || error == ECONNRESET || error == ENOTCONN) return Unavailable(what, ": the peer is gone");
  return ErrnoStatus(error, what);
}

absl::Status WaitFor(int socket, int timeout_ms, int stop_fd) {
  const int64_t deadline = Clock::Real()->MonotonicNanos() + int64_t{timeout_ms} * 1'000'000;
  while (true) {
    int64_t left = timeout_ms < 0 ? -1 : (deadline - Clock::Real()->MonotonicNanos() + 999'999) / 1'000'000;
    pollfd entries[] = {{.fd = socket, .events = POLLIN}, {.fd = stop_fd, .events = POLLIN}};  // -1 is passed over
    int ready = poll(entries, 2, timeout_ms < 0 ? -1 : static_cast<int>(std::max<int64_t>(left, 0)));
    if (ready < 0 && errno != EINTR) return ErrnoStatus(errno, "poll");
    if (ready == 0) return DeadlineExceeded("no packet came in time");
    if (ready > 0 && entries[1].revents != 0) return Cancelled("stopped while waiting for a packet");
    if (ready > 0) return absl::OkStatus();
  }
}

void TakeFds(msghdr* message, std::vector<UniqueFd>* fds) {
  for (cmsghdr* at = CMSG_FIRSTHDR(message); at != nullptr; at = CMSG_NXTHDR(message, at)) {
    if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS) continue;
    for (size_t i = 0; i < (at->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
      int fd = -1;
      memcpy(&fd, CMSG_DATA(at) + i * sizeof fd, sizeof fd);
      fds->emplace_back(fd);
    }
  }
}

}  // namespace

absl::StatusOr<std::pair<UniqueFd, UniqueFd>> MakePacketPair() {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) return ErrnoStatus(errno, "socketpair");
  return std::pair(UniqueFd(fds[0]), UniqueFd(fds[1]));
}

absl::Status SendPacket(int socket, std::string_view bytes, std::initializer_list<int> fds) {
  if (bytes.empty() || bytes.size() > kMaxPacketBytes) {
    return InvalidArgument("a packet has ", bytes.size(), " bytes; 1 to ", kMaxPacketBytes, " can be sent");
  }
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxPacketFds * sizeof(int))] = {};
  iovec part = {const_cast<char*>(bytes.data()), bytes.size()};
  msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (fds.size() > 0) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    memcpy(CMSG_DATA(header), fds.begin(), fds.size() * sizeof(int));
  }
  while (sendmsg(socket, &message, MSG_NOSIGNAL) < 0) {
    if (errno != EINTR) return SocketError(errno, "send");
  }
  return absl::OkStatus();
}

absl::StatusOr<Packet> ReceivePacket(int socket, int timeout_ms, int stop_fd) {
  TANDEM_RETURN_IF_ERROR(WaitFor(socket, timeout_ms, stop_fd));
  Packet packet;
  packet.bytes.resize(kMaxPacketBytes);
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxPacketFds * sizeof(int))];
  iovec part = {packet.bytes.data(), packet.bytes.size()};
  msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  ssize_t n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR) n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (n < 0) return SocketError(errno, "receive");
  TakeFds(&message, &packet.fds);
  if (n == 0) return Unavailable("receive: the peer is gone");
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) return InvalidArgument("receive: a packet is too long");
  packet.bytes.resize(n);
  return packet;
}

}  // namespace tandem::engine
