// Control groups version 1: one folder per controller.
#include <unistd.h>

#include <algorithm>

#include "base/status.h"
#include "isolation/group_files.h"
#include "isolation/kernel_file.h"

namespace tandem::isolation {
namespace fs = std::filesystem;
namespace {

// 100 (v2's default) is 1024 (v1's), and the least of the one is the least of the other.
std::string Shares(int64_t weight) {
  return StrCat(weight <= 1 ? 2 : std::clamp<int64_t>(weight * 1024 / 100, 2, 262'144));
}

class V1Files : public GroupFiles {
 public:
  explicit V1Files(std::map<std::string, fs::path> folders) : folders_(std::move(folders)) {}

  std::unique_ptr<GroupFiles> Child(const std::string& name) const override {
    std::map<std::string, fs::path> children;
    for (const auto& [controller, folder] : folders_) children[controller] = folder / name;
    return std::make_unique<V1Files>(std::move(children));
  }

  absl::Status Make() override {
    for (const fs::path& folder : Folders()) TANDEM_RETURN_IF_ERROR(MakeGroupFolder(folder));
    return absl::OkStatus();
  }

  GroupAbilities Abilities() const override {
    GroupAbilities abilities;
    abilities.cpu_cap = Has("cpu", "cpu.cfs_quota_us");
    abilities.memory = Has("memory", "memory.limit_in_bytes");
    abilities.disk = Has("blkio", "blkio.throttle.write_bps_device");
    if (!abilities.disk) abilities.disk_why = "this kernel has no blkio control that tandem may write";
    abilities.processes = Has("pids", "pids.max");
    abilities.freeze = Has("unified", "cgroup.freeze") || Has("freezer", "freezer.state");
    return abilities;
  }

  std::vector<fs::path> Folders() const override {
    std::vector<fs::path> each;
    for (const auto& [controller, folder] : folders_) {
      if (std::find(each.begin(), each.end(), folder) == each.end()) each.push_back(folder);
    }
    return each;
  }

  FreezerFolders Freezer() const override {
    if (Has("unified", "cgroup.freeze")) return {.v2 = folders_.at("unified"), .v1 = {}};
    if (Has("freezer", "freezer.state")) return {.v2 = {}, .v1 = folders_.at("freezer")};
    return {};
  }

  Usage ReadUsage() const override {
    Usage usage;
    usage.cpu_seconds = ReadNumber(File("cpuacct", "cpuacct.usage")) / 1e9;
    usage.memory_bytes = static_cast<int64_t>(ReadNumber(File("memory", "memory.usage_in_bytes")));
    usage.peak_memory_bytes = static_cast<int64_t>(ReadNumber(File("memory", "memory.max_usage_in_bytes")));
    usage.out_of_memory_kills =
        NumberAfter(ReadKernelFile(File("memory", "memory.oom_control")), "oom_kill").value_or(0);
    usage.throttled_periods = NumberAfter(ReadKernelFile(File("cpu", "cpu.stat")), "nr_throttled").value_or(0);
    if (folders_.count("pids") != 0) usage.processes = static_cast<int64_t>(ReadNumber(File("pids", "pids.current")));
    DiskBytes disk =
        ParseServiceBytes(ReadKernelFile(File("blkio", "blkio.throttle.io_service_bytes")), IsStackedDevice);
    usage.disk_read_bytes = disk.read;
    usage.disk_written_bytes = disk.written;
    return usage;
  }

  std::vector<KernelWrite> Writes(const std::optional<GroupLimits>& before, const GroupLimits& after,
                                  const std::string& device) const override {
    const GroupLimits old = before.value_or(kUnknownLimits);
    const GroupAbilities abilities = Abilities();
    std::vector<KernelWrite> writes;
    auto add = [&](const char* controller, const char* file, std::string text) {
      writes.push_back({File(controller, file), std::move(text)});
    };
    if (old.cpu_weight != after.cpu_weight) writes.push_back(WeightWrite(after.cpu_weight));
    if (old.cpu_cap != after.cpu_cap && abilities.cpu_cap) {
      // Without a cap in between: a new period with an old quota might be more than the parent's cap, and refused.
      add("cpu", "cpu.cfs_quota_us", "-1");
      if (after.cpu_cap > 0) {
        const Bandwidth bandwidth = BandwidthOf(after.cpu_cap);
        add("cpu", "cpu.cfs_period_us", StrCat(bandwidth.period_us));
        add("cpu", "cpu.cfs_quota_us", StrCat(bandwidth.quota_us));
      }
    }
    auto memory = [](int64_t bytes) { return bytes > 0 ? StrCat(bytes) : std::string("-1"); };
    if (old.memory_high_bytes != after.memory_high_bytes && abilities.memory)
      add("memory", "memory.soft_limit_in_bytes", memory(after.memory_high_bytes));
    if (old.memory_max_bytes != after.memory_max_bytes && abilities.memory) {
      // A job at its limit is killed; it must not go on from swap and take the disk with it.
      add("memory", "memory.swappiness", after.memory_max_bytes > 0 ? "0" : "60");
      add("memory", "memory.limit_in_bytes", memory(after.memory_max_bytes));
    }
    if (old.max_processes != after.max_processes && abilities.processes)
      add("pids", "pids.max", after.max_processes > 0 ? StrCat(after.max_processes) : "max");
    if (device.empty() || !abilities.disk) return writes;
    auto disk = [&](const char* file, int64_t was, int64_t is) {
      if (was != is) add("blkio", file, StrCat(device, " ", is));
    };
    disk("blkio.throttle.write_bps_device", old.disk_write_bytes_per_s, after.disk_write_bytes_per_s);
    disk("blkio.throttle.read_bps_device", old.disk_read_bytes_per_s, after.disk_read_bytes_per_s);
    disk("blkio.throttle.write_iops_device", old.disk_iops, after.disk_iops);
    disk("blkio.throttle.read_iops_device", old.disk_iops, after.disk_iops);
    return writes;
  }

  KernelWrite WeightWrite(int64_t weight) const override { return {File("cpu", "cpu.shares"), Shares(weight)}; }
  bool LimitsNest() const override { return false; }

 private:
  fs::path File(const char* controller, const char* file) const {
    auto found = folders_.find(controller);
    return found == folders_.end() ? fs::path() : found->second / file;
  }
  // Not whether it can be written: that may end at any time, and then the write must say so.
  bool Has(const char* controller, const char* file) const {
    const fs::path path = File(controller, file);
    return !path.empty() && access(path.c_str(), F_OK) == 0;
  }

  const std::map<std::string, fs::path> folders_;
};

}  // namespace

std::unique_ptr<GroupFiles> MakeV1Files(std::map<std::string, fs::path> folders) {
  return std::make_unique<V1Files>(std::move(folders));
}

}  // namespace tandem::isolation
