#pragma once
// Where this process stands in the kernel's control groups, and what they allow.
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::isolation {

// The mounted hierarchies and this process's place in each.
struct CgroupPlaces {
  std::string kind;                                 // "v1", "v2", "hybrid", "none"
  std::map<std::string, std::filesystem::path> v1;  // controller -> folder of this process
  std::filesystem::path v2;                         // folder of this process; empty = not mounted
  std::vector<std::filesystem::path> mounts;        // of all hierarchies that this process stands in
};

// One line of /proc/self/mountinfo.
struct Mount {
  std::string root, point, type, source, options;
};
std::vector<Mount> ParseMounts(std::string_view mountinfo);

// Finds them from the text of /proc/self/mountinfo and /proc/self/cgroup. Pure.
CgroupPlaces ParseCgroupPlaces(std::string_view mountinfo, std::string_view self_cgroup);
CgroupPlaces FindCgroupPlaces();

struct CgroupLimits {
  double cpus = 0;           // quota / period; 0 = none
  int64_t memory_bytes = 0;  // 0 = none
};
// The tightest limits from this process's group up to the root.
CgroupLimits ReadCgroupLimits();

}  // namespace tandem::isolation
