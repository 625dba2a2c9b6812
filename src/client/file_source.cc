#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/fd.h"
#include "base/status.h"
#include "client/transport.h"

namespace tandem::client {
namespace {

class FileSource final : public BodySource {
 public:
  FileSource(UniqueFd fd, std::string path, int64_t size) : fd_(std::move(fd)), path_(std::move(path)), size_(size) {}

  int64_t size() const override { return size_; }

  absl::StatusOr<size_t> Read(char* data, size_t capacity) override {
    ssize_t got;
    do {
      got = read(fd_.get(), data, capacity);
    } while (got < 0 && errno == EINTR);
    if (got < 0) return ErrnoStatus(errno, StrCat("read '", path_, "'"));
    done_ += got;
    if (got == 0 && done_ < size_) {
      return OutOfRange("'", path_, "' had ", size_, " bytes and ended after ", done_,
                        ": it changed while it was sent");
    }
    return static_cast<size_t>(got);
  }

 private:
  UniqueFd fd_;
  std::string path_;
  int64_t size_;
  int64_t done_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<BodySource>> OpenFileSource(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, StrCat("open '", path, "'"));
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return ErrnoStatus(errno, StrCat("stat '", path, "'"));
  if (!S_ISREG(info.st_mode)) return InvalidArgument("'", path, "' is not a regular file");
  return std::make_unique<FileSource>(std::move(fd), path, info.st_size);
}

}  // namespace tandem::client
