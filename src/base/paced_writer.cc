#include "base/paced_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <string>

#include "base/fd.h"
#include "base/status.h"

namespace tandem {
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
  UniqueFd fd(open(from.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, StrCat("open '", from.string(), "'"));
  TANDEM_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(to));
  std::string buffer(kReadBytes, '\0');
  while (true) {
    ssize_t n = read(fd.get(), buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, StrCat("read '", from.string(), "'"));
    if (n == 0) return file.Commit();
    TANDEM_RETURN_IF_ERROR(pace->Write(std::string_view(buffer.data(), n), &file));
  }
}

}  // namespace tandem
