#pragma once
// Memory mapped from files that somebody else may make shorter at any moment: touching what is gone raises SIGBUS,
// which would end the process. Ranges that are guarded turn into zeros instead, and say so.
#include <cstddef>

#include "absl/status/statusor.h"

namespace tandem::api::v2 {

// Guards one mapping from Create until it is destroyed. The first one installs a handler for SIGBUS that stays; faults
// at other addresses go where they went before. The handler calls nothing but mmap, which on Linux is a bare system
// call (Wayland compositors guard their clients' buffers in the same way). Thread-safe.
class BusGuard {
 public:
  static constexpr int kMostRanges = 1024;

  // `begin` is a multiple of the page size and outlives the guard. ResourceExhausted when too many are in use.
  static absl::StatusOr<BusGuard> Create(void* begin, size_t size);
  BusGuard(BusGuard&& other) noexcept;
  BusGuard& operator=(BusGuard&&) = delete;
  ~BusGuard();

  // True once a piece of it was missing: all of it is private zeroed memory since then.
  bool hit() const;

 private:
  explicit BusGuard(int slot) : slot_(slot) {}
  int slot_;  // -1 when moved from
};

}  // namespace tandem::api::v2
