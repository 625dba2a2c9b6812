#include "base/fd.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>

#include "base/status.h"

namespace tandem {
namespace {

// Of one call of the kernel: on kernels that are not preemptible a larger one would keep a CPU from the threads that
// answer requests, about 1 ms for each MB.
constexpr size_t kPieceBytes = 64 << 10;

}  // namespace

UniqueFd& UniqueFd::operator=(UniqueFd&& other) noexcept {
  if (this != &other) {
    Reset();
    fd_ = other.Release();
  }
  return *this;
}

void UniqueFd::Reset() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

absl::Status ErrnoStatus(int error, std::string_view what) {
  std::string message = StrCat(what, ": ", strerror(error));
  switch (error) {
    case ENOENT:
    case ESRCH:
      return absl::NotFoundError(message);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(message);
    case ENOSPC:
    case EDQUOT:
      return ResourceExhausted(message, "; free some space (tandem gc) and try again");
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return absl::ResourceExhaustedError(message);
    case EEXIST:
      return absl::AlreadyExistsError(message);
    default:
      return absl::InternalError(message);
  }
}

absl::Status WriteAll(int fd, std::string_view data) {
  while (!data.empty()) {
    ssize_t n = write(fd, data.data(), std::min(data.size(), kPieceBytes));
    if (n < 0) {
      if (errno == EINTR) continue;
      return ErrnoStatus(errno, "write");
    }
    data.remove_prefix(n);
  }
  return absl::OkStatus();
}

absl::Status ReadExactly(int fd, void* data, size_t size) {
  char* out = static_cast<char*>(data);
  size_t got = 0;
  while (got < size) {
    ssize_t n = read(fd, out + got, std::min(size - got, kPieceBytes));
    if (n < 0) {
      if (errno == EINTR) continue;
      return ErrnoStatus(errno, "read");
    }
    if (n == 0) return OutOfRange("end of file: wanted ", size, " bytes, got ", got);
    got += n;
  }
  return absl::OkStatus();
}

}  // namespace tandem
