#include "isolation/cgroup.h"

#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/files.h"
#include "base/strings.h"
#include "isolation/kernel_file.h"

namespace tandem::isolation {
namespace fs = std::filesystem;
namespace {

// Where group `path` (as of /proc/self/cgroup) shows under a mount whose root is `root`.
fs::path Under(const Mount& mount, std::string path) {
  if (mount.root != "/" && absl::StartsWith(path, mount.root)) path = path.substr(mount.root.size());
  while (absl::StartsWith(path, "/")) path = path.substr(1);
  return path.empty() ? fs::path(mount.point) : fs::path(mount.point) / path;
}

void Tighten(double value, double* limit) {
  if (value > 0 && (*limit == 0 || value < *limit)) *limit = value;
}

// Calls visit(folder) for `folder` and each parent that is still in the hierarchy.
template <typename Visit>
void Ancestors(fs::path folder, std::string_view marker, Visit visit) {
  std::error_code error;
  while (!folder.empty() && fs::exists(folder / marker, error)) {
    visit(folder);
    if (folder == folder.parent_path()) break;
    folder = folder.parent_path();
  }
}

}  // namespace

// "36 35 98:0 /root /point opts - type source superopts".
std::vector<Mount> ParseMounts(std::string_view mountinfo) {
  std::vector<Mount> mounts;
  for (absl::string_view line : absl::StrSplit(AbslView(mountinfo), '\n')) {
    std::vector<std::string> halves = absl::StrSplit(line, absl::MaxSplits(" - ", 1));
    if (halves.size() != 2) continue;
    std::vector<std::string> left = absl::StrSplit(halves[0], ' '), right = absl::StrSplit(halves[1], ' ');
    if (left.size() < 5 || right.size() < 3) continue;
    mounts.push_back({left[3], left[4], right[0], right[1], right[2]});
  }
  return mounts;
}

CgroupPlaces ParseCgroupPlaces(std::string_view mountinfo, std::string_view self_cgroup) {
  CgroupPlaces places;
  std::vector<Mount> mounts = ParseMounts(mountinfo);
  for (absl::string_view line : absl::StrSplit(AbslView(self_cgroup), '\n')) {
    std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (parts.size() != 3) continue;
    for (const Mount& mount : mounts) {
      if (parts[0] == "0" && parts[1].empty() && mount.type == "cgroup2") {
        places.v2 = Under(mount, parts[2]);
        places.mounts.emplace_back(mount.point);
      }
      if (mount.type != "cgroup") continue;
      std::vector<std::string> options = absl::StrSplit(mount.options, ',');
      for (const std::string& controller : std::vector<std::string>(absl::StrSplit(parts[1], ','))) {
        for (const std::string& option : options) {
          if (controller.empty() || option != controller) continue;
          places.v1[controller] = Under(mount, parts[2]);
          places.mounts.emplace_back(mount.point);
        }
      }
    }
  }
  places.kind = places.v1.empty() ? (places.v2.empty() ? "none" : "v2") : (places.v2.empty() ? "v1" : "hybrid");
  return places;
}

CgroupPlaces FindCgroupPlaces() {
  return ParseCgroupPlaces(ReadFile("/proc/self/mountinfo", 1 << 22).value_or(""),
                           ReadFile("/proc/self/cgroup", 1 << 16).value_or(""));
}

CgroupLimits ReadCgroupLimits() {
  CgroupPlaces places = FindCgroupPlaces();
  double cpus = 0, memory = 0;
  Ancestors(places.v2, "cgroup.controllers", [&](const fs::path& folder) {
    std::vector<std::string> max = absl::StrSplit(ReadFile(folder / "cpu.max", 256).value_or(""), ' ');
    double quota = 0, period = 0;
    if (max.size() == 2 && absl::SimpleAtod(max[0], &quota) &&
        absl::SimpleAtod(absl::StripAsciiWhitespace(max[1]), &period)) {
      Tighten(quota / period, &cpus);
    }
    Tighten(ReadNumber(folder / "memory.max"), &memory);
  });
  if (places.v1.count("cpu") != 0) {
    Ancestors(places.v1["cpu"], "cgroup.procs", [&](const fs::path& folder) {
      double period = ReadNumber(folder / "cpu.cfs_period_us");
      if (period > 0) Tighten(ReadNumber(folder / "cpu.cfs_quota_us") / period, &cpus);
    });
  }
  if (places.v1.count("memory") != 0) {
    Ancestors(places.v1["memory"], "cgroup.procs", [&](const fs::path& folder) {
      double limit = ReadNumber(folder / "memory.limit_in_bytes");
      if (limit < 9e18) Tighten(limit, &memory);  // no limit reads as a huge number
    });
  }
  return {cpus, static_cast<int64_t>(memory)};
}

}  // namespace tandem::isolation
