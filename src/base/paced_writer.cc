#include "base/paced_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/status.h"

namespace tandem {
namespace fs = std::filesystem;
namespace {

constexpr double kChunkSeconds = 0.1;
constexpr int64_t kLatenessNanos = 20'000'000;
constexpr size_t kMinChunk = 16 << 10, kMaxChunk = 4 << 20;
constexpr size_t kReadBytes = 256 << 10;

size_t ChunkFor(double bytes_per_s) {
  if (bytes_per_s <= 0) return kMaxChunk;
  double chunk = std::min(bytes_per_s * kChunkSeconds, static_cast<double>(kMaxChunk));
  return std::max(kMinChunk, static_cast<size_t>(chunk));
}

// Gives the bytes of a file to `take`, piece by piece, by way of `buffer`.
absl::Status ReadPieces(const fs::path& from, std::string* buffer,
                        const std::function<absl::Status(std::string_view)>& take) {
  UniqueFd fd(open(from.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, StrCat("open '", from.string(), "'"));
  buffer->resize(kReadBytes);
  while (true) {
    ssize_t n = read(fd.get(), buffer->data(), buffer->size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, StrCat("read '", from.string(), "'"));
    if (n == 0) return absl::OkStatus();
    TANDEM_RETURN_IF_ERROR(take(std::string_view(buffer->data(), n)));
  }
}

// For one copy.
class TreeCopy {
 public:
  explicit TreeCopy(PacedWriter* pace) : pace_(pace) {}

  absl::Status Copy(const fs::path& from, const fs::path& to) {
    std::error_code error;
    const fs::file_status status = fs::status(from, error);
    if (error) return ErrnoStatus(error.value(), StrCat("look at '", from.string(), "'"));
    if (fs::is_directory(status)) return CopyFolder(from, to);
    if (fs::is_regular_file(status)) return CopyFile(from, to);
    return InvalidArgument("'", from.string(), "' is neither a file nor a folder; it cannot be copied");
  }

 private:
  absl::Status CopyFolder(const fs::path& from, const fs::path& to) {
    TANDEM_RETURN_IF_ERROR(MakeFolders(to));
    std::error_code error;
    if (inside_.empty()) inside_.push_back(fs::canonical(to, error));
    const fs::path real = error ? fs::path() : fs::canonical(from, error);
    if (error) return ErrnoStatus(error.value(), StrCat("open folder '", from.string(), "'"));
    if (std::find(inside_.begin(), inside_.end(), real) != inside_.end()) {
      return InvalidArgument("folder '", from.string(),
                             "' leads back to a folder that it lies in, or to the one that is copied to");
    }
    inside_.push_back(real);
    fs::directory_iterator entry(from, error);
    for (; !error && entry != fs::directory_iterator(); entry.increment(error))
      TANDEM_RETURN_IF_ERROR(Copy(entry->path(), to / entry->path().filename()));
    if (error) return ErrnoStatus(error.value(), StrCat("list folder '", from.string(), "'"));
    inside_.pop_back();
    return absl::OkStatus();
  }

  absl::Status CopyFile(const fs::path& from, const fs::path& to) {
    UniqueFd out(open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!out.valid()) return ErrnoStatus(errno, StrCat("make '", to.string(), "'"));
    return ReadPieces(from, &buffer_, [&](std::string_view piece) {
      return Annotate(pace_->Write(piece, out.get()), StrCat("'", to.string(), "'"));
    });
  }

  PacedWriter* const pace_;
  std::string buffer_;
  std::vector<fs::path> inside_;  // the folder that is copied to, and those that the current one lies in: real paths
};

}  // namespace

PacedWriter::PacedWriter(double bytes_per_s, Clock* clock, Sleep sleep)
    : clock_(clock), sleep_(std::move(sleep)), bytes_per_s_(bytes_per_s) {}

double PacedWriter::bytes_per_s() const {
  std::lock_guard lock(mutex_);
  return bytes_per_s_;
}

void PacedWriter::SetRate(double bytes_per_s) {
  std::lock_guard lock(mutex_);
  if (bytes_per_s == bytes_per_s_) return;
  bytes_per_s_ = bytes_per_s;
  ++rates_;
  free_at_ = 0;
  changed_.notify_all();
}

PacedWriter::Turn PacedWriter::Reserve(size_t bytes) {
  std::lock_guard lock(mutex_);
  Turn turn{.bytes = std::min(bytes, ChunkFor(bytes_per_s_)), .paced = bytes_per_s_ > 0, .rate = rates_};
  if (!turn.paced) return turn;
  // A sleep that ended late is caught up; beyond that, time that was not used is not saved up.
  const int64_t cost = static_cast<int64_t>(static_cast<double>(turn.bytes) / bytes_per_s_ * 1e9);
  free_at_ = std::max(free_at_, clock_->MonotonicNanos() - kLatenessNanos) + cost;
  turn.free_at = free_at_;
  return turn;
}

void PacedWriter::Await(const Turn& turn) {
  if (sleep_) {
    const int64_t wait = turn.free_at - clock_->MonotonicNanos();
    if (wait > 0) sleep_(wait);
    return;
  }
  std::unique_lock lock(mutex_);
  while (turn.rate == rates_) {
    const int64_t wait = turn.free_at - clock_->MonotonicNanos();
    if (wait <= 0) return;
    changed_.wait_for(lock, std::chrono::nanoseconds(wait));
  }
}

absl::Status PacedWriter::WritePieces(std::string_view data,
                                      const std::function<absl::Status(std::string_view)>& append,
                                      const std::function<absl::Status()>& sync) {
  while (!data.empty()) {
    const Turn turn = Reserve(data.size());
    TANDEM_RETURN_IF_ERROR(append(data.substr(0, turn.bytes)));
    data.remove_prefix(turn.bytes);
    if (!turn.paced) continue;
    TANDEM_RETURN_IF_ERROR(sync());
    Await(turn);
  }
  return absl::OkStatus();
}

absl::Status PacedWriter::Write(std::string_view data, AtomicFile* file) {
  return WritePieces(
      data, [file](std::string_view piece) { return file->Write(piece); }, [file] { return file->Sync(); });
}

absl::Status PacedWriter::Write(std::string_view data, int fd) {
  return WritePieces(
      data, [fd](std::string_view piece) { return WriteAll(fd, piece); },
      [fd] { return fdatasync(fd) == 0 ? absl::OkStatus() : ErrnoStatus(errno, "fdatasync"); });
}

absl::Status WriteFileAtomically(const std::filesystem::path& path, std::string_view data, PacedWriter* pace) {
  TANDEM_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  TANDEM_RETURN_IF_ERROR(pace->Write(data, &file));
  return file.Commit();
}

absl::Status CopyFileAtomically(const std::filesystem::path& from, const std::filesystem::path& to, PacedWriter* pace) {
  TANDEM_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(to));
  std::string buffer;
  TANDEM_RETURN_IF_ERROR(ReadPieces(from, &buffer, [&](std::string_view piece) { return pace->Write(piece, &file); }));
  return file.Commit();
}

absl::Status CopyTree(const fs::path& from, const fs::path& to, PacedWriter* pace) {
  return TreeCopy(pace).Copy(from, to);
}

}  // namespace tandem
