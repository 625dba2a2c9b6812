// The rules of v2 on who may hand controllers to groups below.
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status.h"
#include "isolation/group_tree.h"
#include "isolation/kernel_file.h"

namespace tandem::isolation {
namespace fs = std::filesystem;

absl::Status EnableControllers(const fs::path& folder) {
  std::vector<std::string> available =
      absl::StrSplit(absl::StripAsciiWhitespace(ReadKernelFile(folder / "cgroup.controllers")), ' ');
  auto has = [&](const char* name) {
    for (const std::string& controller : available) {
      if (controller == name) return true;
    }
    return false;
  };
  if (!has("cpu"))
    return PermissionDenied("cgroup '", folder.string(),
                            "' was not given the cpu control; under systemd set Delegate=yes");
  TANDEM_RETURN_IF_ERROR(WriteKernelFile(folder / "cgroup.subtree_control", "+cpu"));
  for (const char* controller : {"memory", "io", "pids"}) {
    // Busy: the group holds processes, and a job's limits would not hold. Other refusals cost that control alone.
    const int error =
        has(controller) ? TryWriteKernelFile(folder / "cgroup.subtree_control", StrCat("+", controller)) : 0;
    if (error == EBUSY) return FailedPrecondition("cgroup '", folder.string(), "' holds processes of its own");
  }
  return absl::OkStatus();
}

namespace {

void TakeBackControllers(const fs::path& folder) {
  for (const char* controller : {"-cpu", "-memory", "-io", "-pids"})
    TryWriteKernelFile(folder / "cgroup.subtree_control", controller);
}

}  // namespace

absl::StatusOr<fs::path> HandDownControllers(const fs::path& place, const std::string& leaf) {
  std::error_code error;
  // Only the root has no type, and only the root may hold processes beside groups. (The kernel does let others hand
  // down cpu and pids alone while they hold processes: but then the groups below can hold threads only.)
  if (!fs::exists(place / "cgroup.type", error)) {
    TANDEM_RETURN_IF_ERROR(EnableControllers(place));
    return fs::path();
  }
  const fs::path own = place / leaf;
  absl::Status moved;
  if (!GroupProcesses(place).empty())
    moved = FailedPrecondition("cgroup '", place.string(), "' holds other processes than tandemd");
  if (moved.ok()) moved = MakeGroupFolder(own);
  if (moved.ok()) moved = WriteKernelFile(own / "cgroup.procs", StrCat(getpid()));
  if (moved.ok()) moved = EnableControllers(place);
  if (moved.ok()) return own;
  ReturnFromLeaf(own);
  return Annotate(moved,
                  "the cgroup that tandemd was started in cannot be divided (start it in one of its own: systemd-run "
                  "--scope -p Delegate=yes)");
}

void ReturnFromLeaf(const fs::path& leaf) {
  std::error_code error;
  if (!fs::exists(leaf, error)) return;
  TakeBackControllers(leaf.parent_path());
  TryWriteKernelFile(leaf.parent_path() / "cgroup.procs", StrCat(getpid()));
  rmdir(leaf.c_str());
}

}  // namespace tandem::isolation
