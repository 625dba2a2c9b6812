#include "messaging/channel.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <climits>

#include "base/clock.h"
#include "base/status.h"

namespace tandem::messaging {
namespace {

constexpr unsigned char kVersion = 1;
// A length that lies costs no more memory than what really came, plus this.
constexpr size_t kChunkBytes = 256 << 10;

int64_t NowMillis() { return Clock::Real()->MonotonicNanos() / 1'000'000; }

// A peer that is gone is Unavailable, whichever way the kernel says it.
absl::Status SocketStatus(int error, std::string_view what) {
  if (error == EPIPE || error == ECONNRESET || error == ENOTCONN) {
    return Unavailable(what, ": the peer closed the connection");
  }
  return ErrnoStatus(error, what);
}

void PutHeader(uint32_t length, char* header) {
  header[0] = 'T';
  header[1] = 'M';
  header[2] = static_cast<char>(kVersion);
  header[3] = 0;
  for (int i = 0; i < 4; ++i) header[4 + i] = static_cast<char>(length >> (8 * i));
}

// Checks a frame's first 8 bytes and returns the payload's length.
absl::StatusOr<uint32_t> ParseHeader(std::string_view header) {
  auto byte = [&](int i) { return static_cast<unsigned char>(header[i]); };
  if (header[0] != 'T' || header[1] != 'M' || byte(3) != 0) {
    return InvalidArgument("message frame: does not begin with 'TM'; the peer does not speak this protocol");
  }
  if (byte(2) != kVersion) {
    return InvalidArgument("message frame: version ", int{byte(2)}, ", this program speaks ", int{kVersion},
                           "; use programs of one build");
  }
  uint32_t length = 0;
  for (int i = 0; i < 4; ++i) length |= uint32_t{byte(4 + i)} << (8 * i);
  if (length > Channel::kMaxBytes) {
    return InvalidArgument("message frame: ", length, " bytes, at most ", Channel::kMaxBytes, " are allowed");
  }
  return length;
}

}  // namespace

absl::Status Channel::WaitFor(int16_t event, int64_t deadline_ms) {
  while (true) {
    int64_t left = deadline_ms < 0 ? -1 : std::clamp<int64_t>(deadline_ms - NowMillis(), 0, INT_MAX);
    pollfd entry{socket_.get(), event, 0};
    int ready = poll(&entry, 1, static_cast<int>(left));
    if (ready > 0) return absl::OkStatus();
    if (ready == 0) return DeadlineExceeded("no message came in time");
    if (errno != EINTR) return ErrnoStatus(errno, "poll");
  }
}

absl::Status Channel::Send(const google::protobuf::MessageLite& message) {
  size_t size = message.ByteSizeLong();
  if (size > kMaxBytes) {
    return InvalidArgument("message ", message.GetTypeName(), ": ", size, " bytes, at most ", kMaxBytes,
                           " can be sent at once");
  }
  std::string frame(kHeaderBytes + size, '\0');
  PutHeader(static_cast<uint32_t>(size), frame.data());
  message.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(frame.data() + kHeaderBytes));

  std::lock_guard lock(send_mutex_);
  for (std::string_view rest = frame; !rest.empty();) {
    ssize_t n = send(socket_.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
    if (n >= 0) {
      rest.remove_prefix(n);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      TANDEM_RETURN_IF_ERROR(WaitFor(POLLOUT, -1));
    } else if (errno != EINTR) {
      return SocketStatus(errno, StrCat("send ", message.GetTypeName()));
    }
  }
  return absl::OkStatus();
}

absl::Status Channel::Fill(size_t size, int64_t deadline_ms) {
  while (incoming_.size() < size) {
    size_t got = incoming_.size();
    size_t wanted = std::min(size - got, kChunkBytes);
    incoming_.resize(got + wanted);
    ssize_t n = recv(socket_.get(), incoming_.data() + got, wanted, MSG_DONTWAIT);
    int error = errno;
    incoming_.resize(got + std::max<ssize_t>(n, 0));
    if (n > 0 || (n < 0 && error == EINTR)) continue;
    if (n == 0) {
      return Unavailable("receive: the peer closed the connection",
                         got == 0 ? std::string() : StrCat(" after ", got, " bytes of a message"));
    }
    if (error != EAGAIN && error != EWOULDBLOCK) return SocketStatus(error, "receive");
    TANDEM_RETURN_IF_ERROR(WaitFor(POLLIN, deadline_ms));
  }
  return absl::OkStatus();
}

absl::Status Channel::Receive(google::protobuf::MessageLite* message, int timeout_ms) {
  int64_t deadline_ms = timeout_ms < 0 ? -1 : NowMillis() + timeout_ms;
  TANDEM_RETURN_IF_ERROR(Fill(kHeaderBytes, deadline_ms));
  TANDEM_ASSIGN_OR_RETURN(uint32_t length, ParseHeader(std::string_view(incoming_).substr(0, kHeaderBytes)));
  TANDEM_RETURN_IF_ERROR(Fill(kHeaderBytes + length, deadline_ms));
  bool parsed = message->ParseFromArray(incoming_.data() + kHeaderBytes, static_cast<int>(length));
  incoming_.clear();
  if (incoming_.capacity() > kChunkBytes) incoming_.shrink_to_fit();
  if (!parsed) return InvalidArgument("message frame: ", length, " bytes that are no ", message->GetTypeName());
  return absl::OkStatus();
}

void Channel::Shutdown() { shutdown(socket_.get(), SHUT_RDWR); }

absl::StatusOr<std::pair<UniqueFd, UniqueFd>> MakeSocketPair() {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) return ErrnoStatus(errno, "socketpair");
  return std::pair(UniqueFd(fds[0]), UniqueFd(fds[1]));
}

}  // namespace tandem::messaging
