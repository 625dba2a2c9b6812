#pragma once
// The extension system_shared_memory: regions of POSIX shared memory that clients on this machine registered, so that
// tensors need not travel through a socket.
//
// A region belongs to its client, who can make it shorter at any moment. Registering and every Find compare its length,
// and what is cut off between Find and the last use reads as zeros instead of ending the process (BusGuard);
// Lease::lost then says so. Its content can change while it is used, so whatever must not (the lengths inside BYTES) is
// copied before it is checked.
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "api/service.h"

namespace tandem::api::v2 {

// Thread-safe. Find runs on data-plane threads: it takes no lock at all.
class SharedMemory {
 public:
  class Mapping;
  struct Region {
    std::string name, key;  // key: as of shm_open, "/input"
    size_t offset = 0, byte_size = 0;
  };
  // A piece of a region, mapped as long as this is held, whatever is unregistered meanwhile.
  struct Lease {
    std::byte* data = nullptr;
    size_t byte_size = 0;
    std::shared_ptr<const Mapping> keep;
    // The client made the object shorter while this was used: what was read or written there is worth nothing.
    bool lost() const;
  };

  SharedMemory();
  ~SharedMemory();

  // Whose objects a caller may register and unregister: nothing = everybody's. Regions are opened with the server's
  // rights, which must not lend a user the memory of another one; so a caller who does not manage names objects of its
  // own only. PermissionDenied for callers from other machines, and for those whose user is not known.
  static absl::StatusOr<std::optional<uid_t>> UserOf(const Caller& caller);

  // AlreadyExists for a name in use; InvalidArgument (with the cure) when the object cannot be opened or is shorter
  // than offset + byte_size; PermissionDenied when it is not `user`'s.
  absl::Status Register(const Region& region, std::optional<uid_t> user = std::nullopt);
  // NotFound is not an error: clients unregister what they never registered. "" = all, then regions of others than
  // `user` stay.
  absl::Status Unregister(std::string_view name, std::optional<uid_t> user = std::nullopt);
  // "" = all; NotFound.
  absl::StatusOr<std::vector<Region>> Status(std::string_view name) const;
  // InvalidArgument names the region and its size when the piece does not lie in it, or in what is left of the object;
  // NotFound. Costs one system call (fstat).
  absl::StatusOr<Lease> Find(std::string_view region, size_t offset, size_t byte_size) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem::api::v2
