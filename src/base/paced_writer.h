#pragma once
// Own writes at no more than a given rate. Where the kernel cannot hold buffered writes back (cgroup v1), it sees only
// small pieces, each on the disk before the next begins.
#include <cstdint>
#include <functional>
#include <mutex>
#include <string_view>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/files.h"

namespace tandem {

// Thread-safe: all that write through one PacedWriter share its rate.
class PacedWriter {
 public:
  using Sleep = std::function<void(int64_t nanos)>;

  // bytes_per_s <= 0: as fast as the disk, without syncing in between. `sleep` and `clock` are for tests.
  explicit PacedWriter(double bytes_per_s, Clock* clock = Clock::Real(), Sleep sleep = {});

  // Appends `data` and returns when the rate allows the next byte.
  absl::Status Write(std::string_view data, AtomicFile* file);

  double bytes_per_s() const { return bytes_per_s_; }

 private:
  // When the rate allows what comes after `bytes` more; takes them into account.
  int64_t Reserve(size_t bytes);

  const double bytes_per_s_;
  const size_t chunk_;  // about a tenth of a second
  Clock* const clock_;
  const Sleep sleep_;
  std::mutex mutex_;
  int64_t free_at_ = 0;  // guarded by mutex_: when the rate is paid off
};

}  // namespace tandem
