#include "engine/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/status.h"

namespace tandem::engine {
namespace {

constexpr size_t kStepBytes = 64 << 10;
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_SEAL;

}  // namespace

absl::StatusOr<Arena> Arena::Create() {
  UniqueFd fd(memfd_create("tandem-tensors", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return ErrnoStatus(errno, "memfd_create");
  if (fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0) return ErrnoStatus(errno, "seal shared memory");
  return Arena(std::move(fd));
}

absl::StatusOr<Arena> Arena::Open(UniqueFd fd) {
  int seals = fcntl(fd.get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0)
    return InvalidArgument("shared memory is not sealed against shrinking");
  return Arena(std::move(fd));
}

Arena::Arena(Arena&& other) noexcept
    : fd_(std::move(other.fd_)), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Arena::~Arena() {
  if (data_ != nullptr) munmap(data_, size_);
}

absl::Status Arena::Reserve(size_t bytes) {
  if (bytes <= size_) return absl::OkStatus();
  if (bytes > kMaxBytes) {
    return ResourceExhausted("the tensors of one run take ", bytes, " bytes; ", kMaxBytes, " fit between processes");
  }
  // Half as much again, so that sizes that creep up do not map anew each time.
  size_t wanted = std::min(std::max(bytes, size_ + size_ / 2) + kStepBytes - 1, kMaxBytes) / kStepBytes * kStepBytes;
  TANDEM_ASSIGN_OR_RETURN(size_t file, FileBytes());
  if (file < wanted && ftruncate(fd_.get(), static_cast<off_t>(wanted)) != 0) {
    return ErrnoStatus(errno, "grow shared memory");
  }
  return MapTo(wanted);
}

absl::Status Arena::Map(size_t bytes) {
  if (bytes <= size_) return absl::OkStatus();
  TANDEM_ASSIGN_OR_RETURN(size_t file, FileBytes());
  // Beyond the file's end a read would be a bus error.
  if (bytes > file || bytes > kMaxBytes) {
    return InvalidArgument("shared memory has ", file, " bytes, the peer speaks of ", bytes);
  }
  return MapTo(bytes);
}

absl::StatusOr<size_t> Arena::FileBytes() const {
  struct stat info = {};
  if (fstat(fd_.get(), &info) != 0) return ErrnoStatus(errno, "look at shared memory");
  return static_cast<size_t>(info.st_size);
}

absl::Status Arena::MapTo(size_t bytes) {
  void* memory = data_ == nullptr ? mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0)
                                  : mremap(data_, size_, bytes, MREMAP_MAYMOVE);
  if (memory == MAP_FAILED) return ErrnoStatus(errno, "map shared memory");
  data_ = static_cast<std::byte*>(memory);
  size_ = bytes;
  return absl::OkStatus();
}

}  // namespace tandem::engine
