#pragma once
// Own writes at no more than a given rate. Where the kernel cannot hold buffered writes back (cgroup v1), it sees only
// small pieces, each on the disk before the next begins.
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string_view>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/files.h"

namespace tandem {

// Thread-safe: all that write through one PacedWriter share its rate. Writes block: not for latency threads.
class PacedWriter {
 public:
  using Sleep = std::function<void(int64_t nanos)>;

  // bytes_per_s <= 0: as fast as the disk, without syncing in between. `sleep` and `clock` are for tests; a sleep of
  // one's own is not ended by SetRate.
  explicit PacedWriter(double bytes_per_s, Clock* clock = Clock::Real(), Sleep sleep = {});

  // Appends `data` and returns when the rate allows the next byte.
  absl::Status Write(std::string_view data, AtomicFile* file);
  absl::Status Write(std::string_view data, int fd);

  // From the next piece on (a tenth of a second, at least 16 KB); who waits under the former rate goes on at once.
  void SetRate(double bytes_per_s);
  double bytes_per_s() const;

 private:
  struct Turn {
    size_t bytes = 0;
    bool paced = false;
    int64_t free_at = 0;  // when the rate allows what comes after
    uint64_t rate = 0;    // the how manieth it is
  };
  absl::Status WritePieces(std::string_view data, const std::function<absl::Status(std::string_view)>& append,
                           const std::function<absl::Status()>& sync);
  // Takes the next piece of `bytes` into account.
  Turn Reserve(size_t bytes);
  void Await(const Turn& turn);

  Clock* const clock_;
  const Sleep sleep_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  double bytes_per_s_;   // guarded by mutex_, as what follows
  uint64_t rates_ = 0;   // that were set
  int64_t free_at_ = 0;  // when the rate is paid off
};

// As in files.h, at the writer's rate.
absl::Status WriteFileAtomically(const std::filesystem::path& path, std::string_view data, PacedWriter* pace);
// The bytes of `from` under `to`, whole or not at all; durable when it returns.
absl::Status CopyFileAtomically(const std::filesystem::path& from, const std::filesystem::path& to, PacedWriter* pace);
// A file, or the files and folders below a folder, under `to`, where no such files may be yet. Links are followed.
// Files are their owner's alone (0600). InvalidArgument for what is neither a file nor a folder, and for a folder that
// leads back to itself or to `to`. On an error some of it is left; nothing is durable.
absl::Status CopyTree(const std::filesystem::path& from, const std::filesystem::path& to, PacedWriter* pace);

}  // namespace tandem
