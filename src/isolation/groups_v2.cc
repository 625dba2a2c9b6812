// Control groups version 2: one folder.
#include <unistd.h>

#include <algorithm>

#include "base/status.h"
#include "isolation/group_files.h"
#include "isolation/kernel_file.h"

namespace tandem::isolation {
namespace fs = std::filesystem;
namespace {

std::string OrMax(int64_t value) { return value > 0 ? StrCat(value) : "max"; }

class V2Files : public GroupFiles {
 public:
  explicit V2Files(fs::path folder) : folder_(std::move(folder)) {}

  std::unique_ptr<GroupFiles> Child(const std::string& name) const override {
    return std::make_unique<V2Files>(folder_ / name);
  }
  absl::Status Make() override { return MakeGroupFolder(folder_); }

  GroupAbilities Abilities() const override {
    GroupAbilities abilities;
    abilities.cpu_cap = Has("cpu.max");
    abilities.memory = abilities.memory_high = Has("memory.max");
    abilities.disk = Has("io.max");
    abilities.buffered_writes = abilities.disk && abilities.memory;  // writeback is charged through the memory's group
    if (!abilities.disk)
      abilities.disk_why =
          "the io control is not handed down to tandem's cgroup; under systemd set Delegate=yes and IOAccounting=yes";
    abilities.processes = Has("pids.max");
    abilities.freeze = Has("cgroup.freeze");
    return abilities;
  }

  std::vector<fs::path> Folders() const override { return {folder_}; }
  FreezerFolders Freezer() const override {
    if (!Has("cgroup.freeze")) return {};
    return {.v2 = folder_, .v1 = {}};
  }

  Usage ReadUsage() const override {
    Usage usage;
    const std::string cpu = ReadKernelFile(folder_ / "cpu.stat");
    usage.cpu_seconds = static_cast<double>(NumberAfter(cpu, "usage_usec").value_or(0)) / 1e6;
    usage.throttled_periods = NumberAfter(cpu, "nr_throttled").value_or(0);
    usage.memory_bytes = static_cast<int64_t>(ReadNumber(folder_ / "memory.current"));
    usage.peak_memory_bytes = static_cast<int64_t>(ReadNumber(folder_ / "memory.peak"));
    const std::string events = ReadKernelFile(folder_ / "memory.events");
    usage.out_of_memory_kills = NumberAfter(events, "oom_group_kill").value_or(0);
    // A group killed as a whole counts once; "oom_kill" counts its processes, some of them twice.
    if (usage.out_of_memory_kills == 0) usage.out_of_memory_kills = NumberAfter(events, "oom_kill").value_or(0);
    if (access((folder_ / "pids.current").c_str(), R_OK) == 0)
      usage.processes = static_cast<int64_t>(ReadNumber(folder_ / "pids.current"));
    if (access((folder_ / "io.stat").c_str(), R_OK) == 0) {
      DiskBytes disk = ParseIoStat(ReadKernelFile(folder_ / "io.stat"), IsStackedDevice);
      usage.disk_read_bytes = disk.read;
      usage.disk_written_bytes = disk.written;
    }
    return usage;
  }

  std::vector<KernelWrite> Writes(const std::optional<GroupLimits>& before, const GroupLimits& after,
                                  const std::string& device) const override {
    const GroupLimits old = before.value_or(kUnknownLimits);
    const GroupAbilities abilities = Abilities();
    std::vector<KernelWrite> writes;
    auto add = [&](const char* file, std::string text) { writes.push_back({folder_ / file, std::move(text)}); };
    if (old.cpu_weight != after.cpu_weight) writes.push_back(WeightWrite(after.cpu_weight));
    if (old.cpu_cap != after.cpu_cap && abilities.cpu_cap) {
      const Bandwidth bandwidth = BandwidthOf(after.cpu_cap > 0 ? after.cpu_cap : 1);
      add("cpu.max", StrCat(after.cpu_cap > 0 ? StrCat(bandwidth.quota_us) : "max", " ", bandwidth.period_us));
    }
    if (abilities.memory) {
      if (old.memory_high_bytes != after.memory_high_bytes) add("memory.high", OrMax(after.memory_high_bytes));
      if (old.memory_max_bytes != after.memory_max_bytes) {
        // A job at its limit is killed, whole; it must not go on from swap and take the disk with it.
        if (Has("memory.swap.max")) add("memory.swap.max", after.memory_max_bytes > 0 ? "0" : "max");
        if (Has("memory.oom.group")) add("memory.oom.group", after.memory_max_bytes > 0 ? "1" : "0");
        add("memory.max", OrMax(after.memory_max_bytes));
      }
    }
    if (old.max_processes != after.max_processes && abilities.processes) add("pids.max", OrMax(after.max_processes));
    if (!device.empty() && abilities.disk &&
        (old.disk_write_bytes_per_s != after.disk_write_bytes_per_s ||
         old.disk_read_bytes_per_s != after.disk_read_bytes_per_s || old.disk_iops != after.disk_iops)) {
      add("io.max",
          StrCat(device, " rbps=", OrMax(after.disk_read_bytes_per_s), " wbps=", OrMax(after.disk_write_bytes_per_s),
                 " riops=", OrMax(after.disk_iops), " wiops=", OrMax(after.disk_iops)));
    }
    return writes;
  }

  KernelWrite WeightWrite(int64_t weight) const override {
    return {folder_ / "cpu.weight", StrCat(std::clamp<int64_t>(weight, 1, 10'000))};
  }
  bool LimitsNest() const override { return true; }

 private:
  // Not whether it can be written: that may end at any time, and then the write must say so.
  bool Has(const char* file) const { return access((folder_ / file).c_str(), F_OK) == 0; }

  const fs::path folder_;
};

}  // namespace

std::unique_ptr<GroupFiles> MakeV2Files(fs::path folder) { return std::make_unique<V2Files>(std::move(folder)); }

}  // namespace tandem::isolation
