#pragma once
// One instance's conversation between the server and an engine's child: a packet there, a packet back, the tensors'
// bytes in an Arena. What is checked is copied first: the other process may change shared memory at any time. Internal
// to this module and tandem-engine-host.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "base/fd.h"
#include "base/tensor.h"

namespace tandem::engine {

inline constexpr size_t kMaxRunTensors = 512;     // inputs or outputs of one model
inline constexpr size_t kMaxRunTextBytes = 4096;  // of an error
inline constexpr size_t kArenaAlignment = 64;     // of each tensor
inline constexpr size_t AlignUp(size_t n) { return (n + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment; }

// As on the wire: both ends are of one build.
struct RunHead {
  uint64_t arena_bytes = 0;  // what the sender has made usable
  uint32_t tensors = 0;      // how many RunTensor follow
  uint32_t text_bytes = 0;   // of the error after them
  int32_t code = 0;          // of absl::StatusCode; 0 in requests
  uint32_t spare = 0;
};
struct RunTensor {
  static constexpr int kMaxRank = 8;
  uint64_t offset = 0;  // in the arena
  uint64_t byte_size = 0;
  int32_t dtype = 0;
  int32_t rank = 0;
  int64_t shape[kMaxRank] = {};
};

// REQUIRES: shape.size() <= RunTensor::kMaxRank.
RunTensor MakeRunTensor(DType dtype, const Shape& shape, size_t offset, size_t byte_size);
// InvalidArgument where it lies outside of `arena_bytes`, or type, shape and size do not agree.
absl::Status CheckRunTensor(const RunTensor& tensor, size_t arena_bytes);

// Thread-compatible.
class RunSocket {
 public:
  explicit RunSocket(UniqueFd socket);
  // How long Receive waits; 0 = for ever.
  absl::Status SetTimeout(double seconds);

  // False: the peer is gone. REQUIRES: at most kMaxRunTensors; cuts the text to kMaxRunTextBytes.
  bool Send(size_t arena_bytes, const std::vector<RunTensor>& tensors, const absl::Status& status = absl::OkStatus());
  enum class Got { kPacket, kEnd, kTimeout, kNonsense };
  Got Receive(size_t* arena_bytes, std::vector<RunTensor>* tensors, absl::Status* status);

 private:
  UniqueFd socket_;
  std::vector<char> buffer_;
};

}  // namespace tandem::engine
