#pragma once
// Packets over a SOCK_SEQPACKET pair between this process and an engine's child: each arrives whole, descriptors may
// ride along, and the end of either process is the end of the stream. Internal to this module and tandem-engine-host.
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/fd.h"

namespace tandem::engine {

// Two connected close-on-exec sockets.
absl::StatusOr<std::pair<UniqueFd, UniqueFd>> MakePacketPair();

inline constexpr size_t kMaxPacketBytes = 128 << 10;  // below what a socket holds by default
inline constexpr size_t kMaxPacketFds = 4;

// Unavailable: the peer is gone. InvalidArgument: empty (that would look like the end) or longer than kMaxPacketBytes.
absl::Status SendPacket(int socket, std::string_view bytes, std::initializer_list<int> fds = {});

struct Packet {
  std::string bytes;
  std::vector<UniqueFd> fds;
};
// Waits up to timeout_ms (-1 = for ever). Unavailable: the peer is gone; DeadlineExceeded; Cancelled once `stop_fd`
// (-1 = none) is readable.
absl::StatusOr<Packet> ReceivePacket(int socket, int timeout_ms, int stop_fd = -1);

}  // namespace tandem::engine
