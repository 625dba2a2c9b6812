#pragma once
// A file descriptor that closes itself, and whole-buffer reads and writes.
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tandem {

// Owns one descriptor. Movable, not copyable; thread-compatible.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept;
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { Reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int Release() { return std::exchange(fd_, -1); }
  void Reset();

 private:
  int fd_ = -1;
};

// A status made from errno: NotFound, PermissionDenied, ResourceExhausted (disk full, too many files), else Internal.
// `what` names the operation and the object: "open '/a/b'".
absl::Status ErrnoStatus(int error, std::string_view what);

// Writes all of `data`, going on after partial writes and EINTR. SIGPIPE must be ignored by the process.
absl::Status WriteAll(int fd, std::string_view data);

// Reads exactly `size` bytes; OutOfRange at end of file ("wanted N bytes, got M").
absl::Status ReadExactly(int fd, void* data, size_t size);

}  // namespace tandem
