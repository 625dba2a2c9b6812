#include "isolation/group_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/clock.h"
#include "base/status.h"
#include "isolation/kernel_file.h"
#include "telemetry/log.h"

namespace tandem::isolation {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kKillNanos = 5'000'000'000, kFreezeNanos = 1'000'000'000;
constexpr long kLookNanos = 300'000;  // a busy wait would take the CPU that they need to stop
constexpr int kSearchDepth = 8;

int64_t Now() { return Clock::Real()->MonotonicNanos(); }

bool Exists(const fs::path& path) { return access(path.c_str(), F_OK) == 0; }

// Kernel file systems tell the type with the name: no stat for each of a group's many files.
std::vector<fs::path> Subfolders(const fs::path& folder) {
  std::vector<fs::path> found;
  std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(folder.c_str()), closedir);
  if (directory == nullptr) return found;
  while (dirent* entry = readdir(directory.get())) {
    if (entry->d_type == DT_DIR && entry->d_name[0] != '.') found.push_back(folder / entry->d_name);
  }
  return found;
}

// Process ids in and below the folder.
void AddProcesses(const fs::path& folder, std::vector<pid_t>* pids) {
  std::vector<pid_t> own = GroupProcesses(folder);
  pids->insert(pids->end(), own.begin(), own.end());
  for (const fs::path& below : Subfolders(folder)) AddProcesses(below, pids);
}

void Thaw(const fs::path& folder) {
  TryWriteKernelFile(folder / "freezer.state", "THAWED");
  for (const fs::path& below : Subfolders(folder)) Thaw(below);
}

// One attempt at all of it. What v1 has frozen hears SIGKILL when it is thawed, and before anything else.
void KillOnce(const fs::path& folder) {
  TryWriteKernelFile(folder / "cpu.shares", "10240");
  TryWriteKernelFile(folder / "cpu.weight", "1000");
  TryWriteKernelFile(folder / "cgroup.kill", "1");
  const bool freezer = Exists(folder / "freezer.state");
  if (freezer) TryWriteKernelFile(folder / "freezer.state", "FROZEN");
  std::vector<pid_t> pids;
  AddProcesses(folder, &pids);
  for (pid_t pid : pids) kill(pid, SIGKILL);
  if (freezer) Thaw(folder);
}

bool IsEmpty(const fs::path& folder) {
  std::vector<pid_t> pids;
  AddProcesses(folder, &pids);
  return pids.empty();
}

// EBUSY while a killed process is still on its way out.
int RemoveBelow(const fs::path& folder) {
  for (const fs::path& below : Subfolders(folder)) {
    int error = RemoveBelow(below);
    if (error != 0) return error;
  }
  return rmdir(folder.c_str()) == 0 || errno == ENOENT ? 0 : errno;
}

// Folders called `name` in and below `folder`.
void Search(const fs::path& folder, const std::string& name, int depth, std::vector<fs::path>* found) {
  for (const fs::path& below : Subfolders(folder)) {
    if (below.filename() == name) {
      found->push_back(below);
    } else if (depth > 1) {
      Search(below, name, depth - 1, found);
    }
  }
}

absl::Status FreezeV2(const fs::path& folder) {
  TANDEM_RETURN_IF_ERROR(WriteKernelFile(folder / "cgroup.freeze", "1"));
  UniqueFd events(open((folder / "cgroup.events").c_str(), O_RDONLY | O_CLOEXEC));
  if (!events.valid()) return ErrnoStatus(errno, StrCat("open '", (folder / "cgroup.events").string(), "'"));
  const int64_t deadline = Now() + kFreezeNanos;
  while (true) {
    char text[256];
    ssize_t size = pread(events.get(), text, sizeof text, 0);
    if (size > 0 && NumberAfter({text, static_cast<size_t>(size)}, "frozen") == 1) return absl::OkStatus();
    if (Now() > deadline) return DeadlineExceeded("group '", folder.string(), "' does not stand still after 1 s");
    // The kernel tells of at most one change in 10 ms: too late to rely on.
    const timespec pause = {0, kLookNanos};
    pollfd changed = {events.get(), POLLPRI, 0};
    ppoll(&changed, 1, &pause, nullptr);
  }
}

absl::Status FreezeV1(const fs::path& folder) {
  const fs::path state = folder / "freezer.state";
  TANDEM_RETURN_IF_ERROR(WriteKernelFile(state, "FROZEN"));
  const int64_t deadline = Now() + kFreezeNanos;
  while (!absl::StartsWith(ReadKernelFile(state), "FROZEN")) {
    if (Now() > deadline) return DeadlineExceeded("group '", folder.string(), "' does not stand still after 1 s");
    const timespec pause = {0, 200'000};  // this file cannot be polled
    ppoll(nullptr, 0, &pause, nullptr);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status MakeGroupFolder(const fs::path& folder) {
  if (mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST)
    return ErrnoStatus(errno, StrCat("make group '", folder.string(), "'"));
  return absl::OkStatus();
}

std::vector<pid_t> GroupProcesses(const fs::path& folder) {
  std::vector<pid_t> pids;
  for (absl::string_view line : absl::StrSplit(ReadKernelFile(folder / "cgroup.procs"), '\n')) {
    int pid = 0;  // 0 is a process of another pid namespace, and for kill our own process group
    if (absl::SimpleAtoi(line, &pid) && pid > 0 && pid != getpid()) pids.push_back(pid);
  }
  return pids;
}

absl::Status KillGroup(const std::vector<fs::path>& folders) {
  const int64_t deadline = Now() + kKillNanos;
  for (int wait_ms = 1;; wait_ms = std::min(2 * wait_ms, 20)) {
    fs::path populated;
    for (const fs::path& folder : folders) {
      if (IsEmpty(folder)) continue;
      KillOnce(folder);
      populated = folder;
    }
    if (populated.empty()) return absl::OkStatus();
    if (Now() > deadline)
      return DeadlineExceeded("group '", populated.string(), "' still has processes 5 s after SIGKILL");
    poll(nullptr, 0, wait_ms);  // the kernel tells nobody when a killed process has left a v1 group
  }
}

absl::Status RemoveGroup(const std::vector<fs::path>& folders) {
  TANDEM_RETURN_IF_ERROR(KillGroup(folders));
  const int64_t deadline = Now() + kKillNanos;
  for (const fs::path& folder : folders) {
    int error = 0;
    while ((error = RemoveBelow(folder)) == EBUSY && Now() < deadline) {
      KillOnce(folder);
      poll(nullptr, 0, 2);
    }
    if (error != 0) return ErrnoStatus(error, StrCat("remove group '", folder.string(), "'"));
  }
  return absl::OkStatus();
}

absl::StatusOr<UniqueFd> LockGroup(const fs::path& folder) {
  UniqueFd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, StrCat("open '", folder.string(), "'"));
  if (flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
  if (errno == EWOULDBLOCK) return Unavailable("group '", folder.string(), "' belongs to another running tandemd");
  return ErrnoStatus(errno, StrCat("lock '", folder.string(), "'"));
}

int RemoveLeftOvers(const std::vector<fs::path>& mounts, const std::string& name) {
  std::vector<fs::path> found, dead;
  for (const fs::path& mount : mounts) {
    if (access(mount.c_str(), W_OK) == 0) Search(mount, name, kSearchDepth, &found);
  }
  std::vector<UniqueFd> locks;
  for (const fs::path& folder : found) {
    auto lock = LockGroup(folder);
    if (!lock.ok()) continue;
    locks.push_back(*std::move(lock));
    dead.push_back(folder);
  }
  // All hierarchies at once: the same processes stand in each.
  const absl::Status removed = RemoveGroup(dead);
  if (!removed.ok())
    Log(LogLevel::kWarning, "what a dead daemon left could not be removed", {{"error", MessageOf(removed)}});
  return static_cast<int>(dead.size());
}

absl::Status FreezeGroup(const FreezerFolders& folders) {
  if (!folders.v2.empty()) return FreezeV2(folders.v2);
  if (!folders.v1.empty()) return FreezeV1(folders.v1);
  return Unimplemented("this machine has no freezer that tandem may write");
}

absl::Status ThawGroup(const FreezerFolders& folders) {
  if (!folders.v2.empty()) return WriteKernelFile(folders.v2 / "cgroup.freeze", "0");
  if (!folders.v1.empty()) return WriteKernelFile(folders.v1 / "freezer.state", "THAWED");
  return Unimplemented("this machine has no freezer that tandem may write");
}

}  // namespace tandem::isolation
