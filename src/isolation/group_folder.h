#pragma once
// Folders of the control group file systems: made, emptied, removed, frozen. A group has one folder in each hierarchy.
#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/fd.h"

namespace tandem::isolation {

absl::Status MakeGroupFolder(const std::filesystem::path& folder);

// The processes that stand in the folder itself, not below it.
std::vector<pid_t> GroupProcesses(const std::filesystem::path& folder);

// SIGKILLs every process in and below these folders, frozen ones too, and waits until all are empty. A fork bomb is
// killed as a whole: by cgroup.kill, or frozen first. DeadlineExceeded after 5 s. Folders that do not exist are empty.
// The folders' CPU weight becomes high: to die takes CPU time, which the lowest weight does not give on a busy machine.
absl::Status KillGroup(const std::vector<std::filesystem::path>& folders);
// KillGroup, then removes the folders and those below them.
absl::Status RemoveGroup(const std::vector<std::filesystem::path>& folders);

// A lock on a group's folder, held as long as the descriptor is open and no longer than this process lives: tells a
// living daemon's group from one that a dead daemon left. Unavailable when another holds it.
absl::StatusOr<UniqueFd> LockGroup(const std::filesystem::path& folder);

// Removes every folder called `name` in the hierarchies mounted at `mounts` whose owner is dead; gives how many.
int RemoveLeftOvers(const std::vector<std::filesystem::path>& mounts, const std::string& name);

// What stops a group: its folder in a v2 hierarchy (also one without controllers), or in v1's freezer. Both empty:
// nothing does.
struct FreezerFolders {
  std::filesystem::path v2, v1;
};
// Returns when every process stands, DeadlineExceeded after 1 s (those that sleep in the kernel still run then).
absl::Status FreezeGroup(const FreezerFolders& folders);
absl::Status ThawGroup(const FreezerFolders& folders);

}  // namespace tandem::isolation
