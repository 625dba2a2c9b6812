#pragma once
// One control group as the kernel's files show it, on v1 and on v2: which file gets which text for a limit, and where
// usage is read. Values are what the caller wants; what hierarchies do not hold by themselves, GroupTree adds.
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "isolation/group_folder.h"
#include "isolation/isolation.h"

namespace tandem::isolation {

// What a place in the hierarchies holds.
struct GroupAbilities {
  bool cpu_cap = false, memory = false, memory_high = false, disk = false, processes = false, freeze = false;
  bool buffered_writes = false;  // disk limits hold for writes through the page cache
  std::string disk_why;          // when `disk` is false
};
// One sentence for each limit that is set and not held: which, why, what to do.
std::vector<std::string> NotEnforced(const GroupLimits& limits, const GroupAbilities& abilities);

struct KernelWrite {
  std::filesystem::path file;
  std::string text;
  bool operator==(const KernelWrite&) const = default;
};

// Stands for "not known": differs from every value that can be set. And what the kernel gives a new group.
inline constexpr GroupLimits kUnknownLimits = {-1, -1, -1, -1, -1, -1, -1, -1};
inline constexpr GroupLimits kFreshLimits = {.cpu_weight = -1};

// Thread-compatible; ReadUsage may be called at any time.
class GroupFiles {
 public:
  virtual ~GroupFiles() = default;
  // The group `name` below this one; makes nothing.
  virtual std::unique_ptr<GroupFiles> Child(const std::string& name) const = 0;
  virtual absl::Status Make() = 0;
  virtual GroupAbilities Abilities() const = 0;
  // One per hierarchy, each once.
  virtual std::vector<std::filesystem::path> Folders() const = 0;
  virtual FreezerFolders Freezer() const = 0;
  virtual Usage ReadUsage() const = 0;
  // In the order to be written; only what differs from `before`. `device` is "MAJ:MIN", "" = none.
  virtual std::vector<KernelWrite> Writes(const std::optional<GroupLimits>& before, const GroupLimits& after,
                                          const std::string& device) const = 0;
  // The file of the CPU weight alone.
  virtual KernelWrite WeightWrite(int64_t weight) const = 0;
  // Whether a child may have a greater CPU cap than its parent, and whether a parent's disk limit holds its children
  // together. Both are so on v2 only.
  virtual bool LimitsNest() const = 0;
};

// v1: a folder per controller ("cpu", "cpuacct", "memory", "blkio", "pids", "freezer"), and "unified" for the v2
// hierarchy without controllers of a hybrid host.
std::unique_ptr<GroupFiles> MakeV1Files(std::map<std::string, std::filesystem::path> folders);
std::unique_ptr<GroupFiles> MakeV2Files(std::filesystem::path folder);

// Read and written bytes from the text of blkio.throttle.io_service_bytes or io.stat, without devices that stand on
// others (whose bytes are counted there again). {-1, -1} when there is no text.
struct DiskBytes {
  int64_t read = -1, written = -1;
};
DiskBytes ParseServiceBytes(std::string_view text, bool (*stacked)(std::string_view device));
DiskBytes ParseIoStat(std::string_view text, bool (*stacked)(std::string_view device));
// Whether "MAJ:MIN" is a device-mapper, RAID or loop device.
bool IsStackedDevice(std::string_view device);

// A CPU cap as quota and period in microseconds: 20 ms, so that it holds within a second, longer for tiny caps, since
// the kernel takes no quota below 1 ms.
struct Bandwidth {
  int64_t quota_us, period_us;
};
Bandwidth BandwidthOf(double cpus);

}  // namespace tandem::isolation
