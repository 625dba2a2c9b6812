#pragma once
// Memory that this process and an engine's child share: one file in memory that grows and never shrinks (sealed), so
// that neither side can make the other fault. Internal to this module and tandem-engine-host.
#include <cstddef>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/fd.h"

namespace tandem::engine {

// Thread-compatible; the two processes take turns. Movable.
class Arena {
 public:
  static constexpr size_t kMaxBytes = size_t{1} << 34;

  static absl::StatusOr<Arena> Create();
  // The other side's. InvalidArgument where the file could shrink.
  static absl::StatusOr<Arena> Open(UniqueFd fd);
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&&) = delete;
  ~Arena();

  // Makes at least `bytes` usable; the address may change, the content stays. ResourceExhausted above kMaxBytes.
  absl::Status Reserve(size_t bytes);
  // Makes usable what the other side says that it reserved; InvalidArgument if it lies.
  absl::Status Map(size_t bytes);

  std::byte* data() const { return data_; }  // at a page's begin; null while empty
  size_t size() const { return size_; }      // what is usable here
  int fd() const { return fd_.get(); }

 private:
  explicit Arena(UniqueFd fd) : fd_(std::move(fd)) {}
  absl::StatusOr<size_t> FileBytes() const;
  absl::Status MapTo(size_t bytes);

  UniqueFd fd_;
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace tandem::engine
