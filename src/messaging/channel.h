#pragma once
// Framed protobuf messages over a connected stream socket between the daemon and one child.
// Frame: magic 'T','M', version byte 1, zero byte, uint32 length (little endian), payload. The peer may die at any
// byte: that is a Status, never an exception or a signal.
#include <google/protobuf/message_lite.h>

#include <cstdint>
#include <mutex>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/fd.h"

namespace tandem::messaging {

// Send is thread-safe; Receive is for one thread at a time, and may run while others send.
class Channel {
 public:
  explicit Channel(UniqueFd socket) : socket_(std::move(socket)) {}

  absl::Status Send(const google::protobuf::MessageLite& message);
  // Waits up to timeout_ms (-1 = for ever). Unavailable: the peer closed or died. DeadlineExceeded: nothing came in
  // time; what came of a frame is kept, and the next Receive goes on with it. InvalidArgument: not a frame of this
  // version, too long (> kMaxBytes), or not a message of this type; after the first two the channel stays unusable.
  absl::Status Receive(google::protobuf::MessageLite* message, int timeout_ms);
  // Wakes a waiting Receive with Unavailable, on both sides. Thread-safe.
  void Shutdown();
  int fd() const { return socket_.get(); }

  static constexpr uint32_t kMaxBytes = 256u << 20;

 private:
  static constexpr size_t kHeaderBytes = 8;

  // Reads until `incoming_` holds `size` bytes, or the deadline (monotonic milliseconds, -1 = none) passes.
  absl::Status Fill(size_t size, int64_t deadline_ms);
  absl::Status WaitFor(int16_t event, int64_t deadline_ms);

  UniqueFd socket_;
  std::mutex send_mutex_;  // one frame at a time
  std::string incoming_;   // what came of the frame being received; of the receiving thread
};

// Two connected close-on-exec sockets; the second goes to the child.
absl::StatusOr<std::pair<UniqueFd, UniqueFd>> MakeSocketPair();

// The descriptor number under which every child finds its socket.
inline constexpr int kChildSocketFd = 3;

}  // namespace tandem::messaging
