#include "own_writes.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "base/fd.h"
#include "base/status.h"

tandem::PacedWriter* OwnWrites() {
  static tandem::PacedWriter* const kWriter = [] {
    const char* rate = std::getenv("TANDEM_DISK_WRITE");
    return new tandem::PacedWriter(rate == nullptr ? 0 : std::strtod(rate, nullptr));
  }();
  return kWriter;
}

absl::Status SyncFilesBelow(const std::filesystem::path& folder) {
  std::error_code error;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder, error)) {
    if (!entry.is_regular_file(error)) continue;
    tandem::UniqueFd fd(open(entry.path().c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid() || fsync(fd.get()) != 0)
      return tandem::ErrnoStatus(errno, tandem::StrCat("fsync '", entry.path().string(), "'"));
  }
  return absl::OkStatus();
}
