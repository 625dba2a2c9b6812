#include "engine/run_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>

#include "base/status.h"

namespace tandem::engine {

RunTensor MakeRunTensor(DType dtype, const Shape& shape, size_t offset, size_t byte_size) {
  RunTensor tensor = {.offset = offset,
                      .byte_size = byte_size,
                      .dtype = static_cast<int32_t>(dtype),
                      .rank = static_cast<int32_t>(shape.size())};
  std::copy(shape.begin(), shape.end(), tensor.shape);
  return tensor;
}

absl::Status CheckRunTensor(const RunTensor& tensor, size_t arena_bytes) {
  if (tensor.rank < 0 || tensor.rank > RunTensor::kMaxRank) return InvalidArgument("a rank of ", tensor.rank);
  if (tensor.byte_size > arena_bytes || tensor.offset > arena_bytes - tensor.byte_size ||
      tensor.offset % kArenaAlignment != 0) {
    return InvalidArgument(tensor.byte_size, " bytes at ", tensor.offset, " of ", arena_bytes);
  }
  const auto dtype = static_cast<DType>(tensor.dtype);
  if (ProtocolName(dtype).empty()) return InvalidArgument("the unknown data type ", tensor.dtype);
  const Shape shape(tensor.shape, tensor.shape + tensor.rank);
  TANDEM_ASSIGN_OR_RETURN(int64_t elements, ElementCount(shape));
  const size_t each = ByteSize(dtype);  // 0 for strings: each has a length of its own
  if (each != 0 && (tensor.byte_size % each != 0 || tensor.byte_size / each != static_cast<uint64_t>(elements))) {
    return InvalidArgument(tensor.byte_size, " bytes for ", ProtocolName(dtype), " ", ToString(shape));
  }
  return absl::OkStatus();
}

RunSocket::RunSocket(UniqueFd socket)
    : socket_(std::move(socket)), buffer_(sizeof(RunHead) + kMaxRunTensors * sizeof(RunTensor) + kMaxRunTextBytes) {}

absl::Status RunSocket::SetTimeout(double seconds) {
  const auto micros = static_cast<int64_t>(seconds * 1e6);
  timeval timeout = {.tv_sec = micros / 1'000'000, .tv_usec = micros % 1'000'000};
  if (setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) != 0) {
    return ErrnoStatus(errno, "set the time-out of an engine's socket");
  }
  return absl::OkStatus();
}

bool RunSocket::Send(size_t arena_bytes, const std::vector<RunTensor>& tensors, const absl::Status& status) {
  std::string_view text = MessageOf(status).substr(0, kMaxRunTextBytes);
  RunHead head = {.arena_bytes = arena_bytes,
                  .tensors = static_cast<uint32_t>(tensors.size()),
                  .text_bytes = static_cast<uint32_t>(text.size()),
                  .code = static_cast<int32_t>(status.code())};
  iovec parts[] = {{&head, sizeof head},
                   {const_cast<RunTensor*>(tensors.data()), tensors.size() * sizeof(RunTensor)},
                   {const_cast<char*>(text.data()), text.size()}};
  msghdr message = {.msg_iov = parts, .msg_iovlen = 3};
  // Never waits: the two take turns, so there is room unless the peer stopped reading.
  while (sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
    if (errno != EINTR) return false;
  }
  return true;
}

RunSocket::Got RunSocket::Receive(size_t* arena_bytes, std::vector<RunTensor>* tensors, absl::Status* status) {
  ssize_t n = recv(socket_.get(), buffer_.data(), buffer_.size(), MSG_TRUNC);
  while (n < 0 && errno == EINTR) n = recv(socket_.get(), buffer_.data(), buffer_.size(), MSG_TRUNC);
  if (n < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? Got::kTimeout : Got::kEnd;
  if (n == 0) return Got::kEnd;
  RunHead head;
  const auto size = static_cast<size_t>(n);
  if (size < sizeof head || size > buffer_.size()) return Got::kNonsense;
  memcpy(&head, buffer_.data(), sizeof head);
  if (head.tensors > kMaxRunTensors || size != sizeof head + head.tensors * sizeof(RunTensor) + head.text_bytes) {
    return Got::kNonsense;
  }
  *arena_bytes = head.arena_bytes;
  tensors->resize(head.tensors);
  const char* at = buffer_.data() + sizeof head;
  if (head.tensors > 0) memcpy(tensors->data(), at, head.tensors * sizeof(RunTensor));
  at += head.tensors * sizeof(RunTensor);
  const bool known = head.code >= 0 && head.code <= static_cast<int>(absl::StatusCode::kUnauthenticated);
  *status = absl::Status(known ? static_cast<absl::StatusCode>(head.code) : absl::StatusCode::kInternal,
                         absl::string_view(at, head.text_bytes));  // OK drops the text
  return Got::kPacket;
}

}  // namespace tandem::engine
