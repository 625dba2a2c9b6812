#pragma once
// Tells file systems over a network from local ones: SQLite's WAL needs shared memory and locks that only the local
// kernel gives.
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace tandem::storage {

// The name of a network file system with this statfs magic (man 2 statfs) or, for FUSE, this type of
// /proc/self/mountinfo ("fuse.sshfs"); "" for a local one.
std::string_view NetworkFileSystem(int64_t magic, std::string_view fuse_type);

// FailedPrecondition, naming the file system and the cure, if `folder` lies on the network.
absl::Status CheckLocalDisk(const std::filesystem::path& folder);

}  // namespace tandem::storage
