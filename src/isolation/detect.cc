#include "isolation/detect.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/files.h"
#include "base/strings.h"
#include "isolation/cgroup.h"
#include "isolation/kernel_file.h"

namespace tandem::isolation {
namespace fs = std::filesystem;
namespace {

bool Contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

std::string Variable(const char* name) {
  const char* value = getenv(name);
  return value == nullptr ? "" : value;
}

// The deepest of the path and its parents that exists.
fs::path Existing(fs::path path) {
  std::error_code error;
  while (!fs::exists(path, error) && path.has_parent_path() && path != path.parent_path()) path = path.parent_path();
  return fs::weakly_canonical(path, error);
}

// Disk limits are for whole disks; a partition's folder stands in its disk's.
dev_t WholeDisk(dev_t device) {
  const std::string folder = StrCat("/sys/dev/block/", major(device), ":", minor(device));
  std::vector<std::string> numbers;
  if (access(StrCat(folder, "/partition").c_str(), F_OK) == 0)
    numbers = absl::StrSplit(absl::StripAsciiWhitespace(ReadKernelFile(StrCat(folder, "/../dev"))), ':');
  int disk_major = 0, disk_minor = 0;
  if (numbers.size() == 2 && absl::SimpleAtoi(numbers[0], &disk_major) && absl::SimpleAtoi(numbers[1], &disk_minor))
    return makedev(disk_major, disk_minor);
  return device;
}

}  // namespace

std::string ContainerOf(const ContainerTraces& traces) {
  if (!traces.kubernetes_host.empty() || Contains(traces.init_cgroup, "kubepods")) return "kubernetes";
  if (traces.containerenv || traces.container_variable == "podman" || Contains(traces.init_cgroup, "libpod"))
    return "podman";
  if (traces.dockerenv || traces.container_variable == "docker" || Contains(traces.init_cgroup, "docker"))
    return "docker";
  if (traces.container_variable == "lxc" || Contains(traces.init_cgroup, "/lxc")) return "lxc";
  return traces.container_variable.empty() ? "" : "container";
}

std::string DetectContainer() {
  return ContainerOf({.dockerenv = access("/.dockerenv", F_OK) == 0,
                      .containerenv = access("/run/.containerenv", F_OK) == 0,
                      .kubernetes_host = Variable("KUBERNETES_SERVICE_HOST"),
                      .init_cgroup = ReadKernelFile("/proc/1/cgroup"),
                      .container_variable = Variable("container")});
}

std::string ActiveScheduler(std::string_view text) {
  std::string_view trimmed = StdView(absl::StripAsciiWhitespace(AbslView(text)));
  const size_t open = trimmed.find('['), close = trimmed.find(']');
  if (open != std::string_view::npos && close != std::string_view::npos && open < close)
    return std::string(trimmed.substr(open + 1, close - open - 1));
  return std::string(trimmed);
}

MountedOn MountOf(std::string_view mountinfo, const fs::path& path) {
  MountedOn best;
  size_t longest = 0;
  for (const Mount& mount : ParseMounts(mountinfo)) {
    const std::string prefix = mount.point == "/" ? "/" : StrCat(mount.point, "/");
    // >=: of two mounts on one point the later one is seen.
    if (!absl::StartsWith(StrCat(path.string(), "/"), prefix) || prefix.size() < longest) continue;
    longest = prefix.size();
    best = {mount.type, mount.source};
  }
  return best;
}

Disk FindDisk(const fs::path& folder) {
  const fs::path place = Existing(folder.empty() ? fs::path(".") : folder);
  struct stat status;
  if (stat(place.c_str(), &status) != 0)
    return {.device = "", .scheduler = "", .why = StrCat("'", place.string(), "' cannot be read")};
  dev_t device = status.st_dev;
  if (major(device) == 0) {  // a file system that has no device, or (btrfs) hides it
    const MountedOn mounted = MountOf(ReadKernelFile("/proc/self/mountinfo"), place);
    struct stat source;
    if (!absl::StartsWith(mounted.source, "/dev/") || stat(mounted.source.c_str(), &source) != 0 ||
        !S_ISBLK(source.st_mode)) {
      return {.device = "",
              .scheduler = "",
              .why = StrCat("the folder '", place.string(), "' is on ", mounted.type,
                            ", which shows no disk; put it on a volume of a disk's own file system")};
    }
    device = source.st_rdev;
  }
  device = WholeDisk(device);
  const std::string name = StrCat(major(device), ":", minor(device));
  return {.device = name,
          .scheduler = ActiveScheduler(ReadKernelFile(StrCat("/sys/dev/block/", name, "/queue/scheduler"))),
          .why = ""};
}

std::string RealtimeRefusal(int error, std::string_view self_status, std::string_view cpu_group) {
  if (error != EPERM) return StrCat("SCHED_FIFO is refused: ", strerror(error));
  uint64_t capabilities = 0;
  for (absl::string_view line : absl::StrSplit(AbslView(self_status), '\n')) {
    if (absl::ConsumePrefix(&line, "CapEff:") &&
        !absl::SimpleHexAtoi(absl::StripAsciiWhitespace(line), &capabilities)) {
      capabilities = 0;
    }
  }
  constexpr int kCapSysNice = 23;
  if ((capabilities >> kCapSysNice & 1) == 0)
    return "this user may not use SCHED_FIFO; run tandemd as root, or give it CAP_SYS_NICE (systemd: "
           "AmbientCapabilities=CAP_SYS_NICE; docker: --cap-add=SYS_NICE)";
  return StrCat("the kernel gives no real-time time to this process's cgroup (RT_GROUP_SCHED)",
                cpu_group.empty() ? "; with cgroup v2 it gives it to the root group alone"
                                  : StrCat("; write 950000 to '", cpu_group, "/cpu.rt_runtime_us'"));
}

RealtimeTrial TryRealtime() {
  int error = 0;
  std::thread([&error] {
    sched_param parameters = {};
    parameters.sched_priority = 1;
    if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &parameters) != 0) error = errno;
  }).join();
  if (error == 0) return {.works = true, .why = ""};
  CgroupPlaces places = FindCgroupPlaces();
  const fs::path group = places.v1.count("cpu") != 0 ? places.v1["cpu"] : fs::path();
  return {.works = false, .why = RealtimeRefusal(error, ReadKernelFile("/proc/self/status"), group.string())};
}

bool AutogroupWorks() {
  return absl::StartsWith(ReadKernelFile("/proc/sys/kernel/sched_autogroup_enabled"), "1") &&
         access("/proc/self/autogroup", W_OK) == 0;
}

bool HasPressure() { return !ReadKernelFile("/proc/pressure/cpu").empty(); }

}  // namespace tandem::isolation
