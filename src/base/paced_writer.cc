#include "base/paced_writer.h"

#include <time.h>

#include <algorithm>
#include <cerrno>

#include "base/status.h"

namespace tandem {
namespace {

constexpr double kChunkSeconds = 0.1;
constexpr int64_t kLatenessNanos = 20'000'000;
constexpr size_t kMinChunk = 16 << 10, kMaxChunk = 4 << 20;

void SleepFor(int64_t nanos) {
  timespec left = {.tv_sec = nanos / 1'000'000'000, .tv_nsec = nanos % 1'000'000'000};
  while (nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

size_t ChunkFor(double bytes_per_s) {
  if (bytes_per_s <= 0) return kMaxChunk;
  double chunk = std::min(bytes_per_s * kChunkSeconds, static_cast<double>(kMaxChunk));
  return std::max(kMinChunk, static_cast<size_t>(chunk));
}

}  // namespace

PacedWriter::PacedWriter(double bytes_per_s, Clock* clock, Sleep sleep)
    : bytes_per_s_(bytes_per_s),
      chunk_(ChunkFor(bytes_per_s)),
      clock_(clock),
      sleep_(sleep ? std::move(sleep) : SleepFor) {}

int64_t PacedWriter::Reserve(size_t bytes) {
  std::lock_guard lock(mutex_);
  // A sleep that ended late is caught up; beyond that, time that was not used is not saved up.
  const int64_t cost = static_cast<int64_t>(static_cast<double>(bytes) / bytes_per_s_ * 1e9);
  free_at_ = std::max(free_at_, clock_->MonotonicNanos() - kLatenessNanos) + cost;
  return free_at_;
}

absl::Status PacedWriter::Write(std::string_view data, AtomicFile* file) {
  while (!data.empty()) {
    std::string_view piece = data.substr(0, chunk_);
    data.remove_prefix(piece.size());
    const int64_t free_at = bytes_per_s_ > 0 ? Reserve(piece.size()) : 0;
    TANDEM_RETURN_IF_ERROR(file->Write(piece));
    if (bytes_per_s_ <= 0) continue;
    TANDEM_RETURN_IF_ERROR(file->Sync());
    const int64_t wait = free_at - clock_->MonotonicNanos();
    if (wait > 0) sleep_(wait);
  }
  return absl::OkStatus();
}

}  // namespace tandem
