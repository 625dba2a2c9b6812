#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/files.h"
#include "base/status.h"
#include "isolation/cgroup.h"
#include "isolation/isolation.h"
#include "telemetry/log.h"

namespace tandem::isolation {
namespace fs = std::filesystem;
namespace {

// A write to a kernel file is one write call; the kernel's answer is its errno.
absl::Status WriteKernelFile(const fs::path& path, std::string_view text) {
  UniqueFd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.valid()) return ErrnoStatus(errno, StrCat("open '", path.string(), "'"));
  if (write(fd.get(), text.data(), text.size()) < 0) return ErrnoStatus(errno, StrCat("write '", path.string(), "'"));
  return absl::OkStatus();
}

absl::Status MakeGroupFolder(const fs::path& folder) {
  if (mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST)
    return ErrnoStatus(errno, StrCat("make group '", folder.string(), "'"));
  return absl::OkStatus();
}

std::vector<pid_t> Processes(const fs::path& folder) {
  std::vector<pid_t> pids;
  for (absl::string_view line : absl::StrSplit(ReadFile(folder / "cgroup.procs", 1 << 22).value_or(""), '\n')) {
    int pid = 0;
    if (absl::SimpleAtoi(line, &pid)) pids.push_back(pid);
  }
  return pids;
}

// Kills what is inside, waits (bounded) until the kernel has let go of it, removes the folder and those below.
absl::Status KillAndRemove(const fs::path& folder) {
  std::error_code error;
  if (!fs::exists(folder, error)) return absl::OkStatus();
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.is_directory(error)) TANDEM_RETURN_IF_ERROR(KillAndRemove(entry.path()));
  }
  for (int round = 0; round < 200; ++round) {
    for (pid_t pid : Processes(folder)) kill(pid, SIGKILL);
    if (rmdir(folder.c_str()) == 0 || errno == ENOENT) return absl::OkStatus();
    if (errno != EBUSY) return ErrnoStatus(errno, StrCat("remove group '", folder.string(), "'"));
    poll(nullptr, 0, 5);  // the kernel tells nobody when a killed process has left a v1 group
  }
  return DeadlineExceeded("group '", folder.string(), "' still has processes after SIGKILL");
}

double ReadNumber(const fs::path& file) {
  double value = 0;
  return absl::SimpleAtod(ReadFile(file, 4096).value_or(""), &value) ? value : 0;
}

// "usage_usec 123" of a v2 cpu.stat.
double ReadCpuStatSeconds(const fs::path& file) {
  for (absl::string_view line : absl::StrSplit(ReadFile(file, 1 << 16).value_or(""), '\n')) {
    double micros = 0;
    if (absl::ConsumePrefix(&line, "usage_usec ") && absl::SimpleAtod(line, &micros)) return micros / 1e6;
  }
  return 0;
}

// The folders of one group, one per hierarchy. v2 has one; v1 one per controller that could be written.
struct GroupFolders {
  fs::path v2, cpu, cpuacct, memory;
  std::vector<fs::path> All() const {
    std::vector<fs::path> folders;
    for (const fs::path& folder : {v2, cpu, cpuacct, memory}) {
      if (!folder.empty()) folders.push_back(folder);
    }
    return folders;
  }
  GroupFolders Child(const std::string& name) const {
    auto below = [&](const fs::path& folder) { return folder.empty() ? folder : folder / name; };
    return {below(v2), below(cpu), below(cpuacct), below(memory)};
  }
};

class CgroupGroup : public ResourceGroup {
 public:
  CgroupGroup(std::string name, GroupFolders folders) : name_(std::move(name)), folders_(std::move(folders)) {}
  ~CgroupGroup() override {
    absl::Status status = Kill();
    if (!status.ok())
      Log(LogLevel::kWarning, "a resource group could not be removed",
          {{"group", name_}, {"error", MessageOf(status)}});
  }

  const std::string& name() const override { return name_; }

  Usage ReadUsage() const override {
    Usage usage;
    if (!folders_.v2.empty()) {
      usage.cpu_seconds = ReadCpuStatSeconds(folders_.v2 / "cpu.stat");
      usage.memory_bytes = static_cast<int64_t>(ReadNumber(folders_.v2 / "memory.current"));
      usage.peak_memory_bytes = static_cast<int64_t>(ReadNumber(folders_.v2 / "memory.peak"));
      return usage;
    }
    if (!folders_.cpuacct.empty()) usage.cpu_seconds = ReadNumber(folders_.cpuacct / "cpuacct.usage") / 1e9;
    if (!folders_.memory.empty()) {
      usage.memory_bytes = static_cast<int64_t>(ReadNumber(folders_.memory / "memory.usage_in_bytes"));
      usage.peak_memory_bytes = static_cast<int64_t>(ReadNumber(folders_.memory / "memory.max_usage_in_bytes"));
    }
    return usage;
  }

  std::vector<std::pair<std::string, std::string>> JoinFiles() const override {
    std::vector<std::pair<std::string, std::string>> files;
    for (const fs::path& folder : folders_.All()) files.emplace_back((folder / "cgroup.procs").string(), "");
    return files;
  }

  absl::Status Kill() override {
    for (const fs::path& folder : folders_.All()) TANDEM_RETURN_IF_ERROR(KillAndRemove(folder));
    return absl::OkStatus();
  }

 private:
  const std::string name_;
  const GroupFolders folders_;
};

// On the rungs without cgroups: a group in name; its children lower themselves.
class PlainGroup : public ResourceGroup {
 public:
  PlainGroup(std::string name, bool autogroup) : name_(std::move(name)), autogroup_(autogroup) {}
  const std::string& name() const override { return name_; }
  Usage ReadUsage() const override { return {}; }
  std::vector<std::pair<std::string, std::string>> JoinFiles() const override {
    if (!autogroup_) return {};
    return {{"/proc/self/autogroup", "19"}};
  }
  absl::Status Kill() override { return absl::OkStatus(); }

 private:
  const std::string name_;
  const bool autogroup_;
};

bool AutogroupWorks() {
  std::string enabled = ReadFile("/proc/sys/kernel/sched_autogroup_enabled", 64).value_or("0");
  return absl::StartsWith(enabled, "1") && access("/proc/self/autogroup", F_OK) == 0;
}

bool HasRealtimeRight() {
  rlimit limit;
  if (getrlimit(RLIMIT_RTPRIO, &limit) == 0 && limit.rlim_cur > 0) return true;
  for (absl::string_view line : absl::StrSplit(ReadFile("/proc/self/status", 1 << 16).value_or(""), '\n')) {
    if (!absl::ConsumePrefix(&line, "CapEff:")) continue;
    uint64_t bits = 0;
    constexpr int kCapSysNice = 23;
    return absl::SimpleHexAtoi(absl::StripAsciiWhitespace(line), &bits) && (bits >> kCapSysNice & 1) != 0;
  }
  return false;
}

class RealIsolation : public Isolation {
 public:
  explicit RealIsolation(std::string instance) : parent_name_(StrCat("tandem-", instance)) { Climb(); }
  ~RealIsolation() override {
    for (const fs::path& folder : parent_.All()) KillAndRemove(folder).IgnoreError();
  }

  const Capabilities& capabilities() const override { return capabilities_; }

  absl::StatusOr<std::unique_ptr<ResourceGroup>> CreateGroup(const std::string& name) override {
    if (capabilities_.rung != Rung::kCgroupWeight) return std::make_unique<PlainGroup>(name, capabilities_.autogroup);
    GroupFolders folders = parent_.Child(name);
    for (const fs::path& folder : folders.All()) TANDEM_RETURN_IF_ERROR(MakeGroupFolder(folder));
    return std::make_unique<CgroupGroup>(name, folders);
  }

 private:
  // Finds the best rung of the ladder that this process may stand on.
  void Climb() {
    CgroupPlaces places = FindCgroupPlaces();
    capabilities_.cgroup = places.kind;
    capabilities_.can_set_realtime = HasRealtimeRight();
    capabilities_.autogroup = AutogroupWorks();
    absl::Status tried = places.v1.count("cpu") != 0 ? SetUpV1(places) : SetUpV2(places);
    if (tried.ok()) {
      capabilities_.rung = Rung::kCgroupWeight;
      capabilities_.explanation =
          StrCat("training runs in a cgroup (", places.kind, ") of the lowest CPU weight: serving is always run first");
      return;
    }
    for (const fs::path& folder : parent_.All()) rmdir(folder.c_str());
    parent_ = {};
    if (capabilities_.autogroup) {
      capabilities_.rung = Rung::kAutogroup;
      capabilities_.explanation =
          StrCat("training runs in an autogroup of nice 19; no cgroup could be written (", MessageOf(tried), ")");
    } else {
      capabilities_.rung = Rung::kNice;
      capabilities_.explanation = StrCat("training runs at nice 19 only; no cgroup could be written (",
                                         MessageOf(tried), ") and autogroup is off");
    }
  }

  absl::Status SetUpV1(const CgroupPlaces& places) {
    parent_.cpu = places.v1.at("cpu") / parent_name_;
    TANDEM_RETURN_IF_ERROR(KillAndRemove(parent_.cpu));  // what a dead daemon of this instance left
    TANDEM_RETURN_IF_ERROR(MakeGroupFolder(parent_.cpu));
    TANDEM_RETURN_IF_ERROR(WriteKernelFile(parent_.cpu / "cpu.shares", "2"));
    auto accounting = [&](const char* controller, fs::path* folder) {
      auto place = places.v1.find(controller);
      if (place == places.v1.end()) return;
      fs::path candidate = place->second / parent_name_;
      if (candidate == parent_.cpu) return;  // co-mounted: one folder for both
      if (KillAndRemove(candidate).ok() && MakeGroupFolder(candidate).ok()) *folder = candidate;
    };
    accounting("cpuacct", &parent_.cpuacct);
    accounting("memory", &parent_.memory);
    return absl::OkStatus();
  }

  absl::Status SetUpV2(const CgroupPlaces& places) {
    if (places.v2.empty()) return NotFound("no cgroup file system is mounted");
    parent_.v2 = places.v2 / parent_name_;
    TANDEM_RETURN_IF_ERROR(KillAndRemove(parent_.v2));
    TANDEM_RETURN_IF_ERROR(MakeGroupFolder(parent_.v2));
    // A group with processes of its own cannot hand controllers down (except the root): then this is no delegated
    // place.
    TANDEM_RETURN_IF_ERROR(WriteKernelFile(places.v2 / "cgroup.subtree_control", "+cpu"));
    WriteKernelFile(places.v2 / "cgroup.subtree_control", "+memory").IgnoreError();
    return WriteKernelFile(parent_.v2 / "cpu.weight", "1");
  }

  const std::string parent_name_;
  GroupFolders parent_;
  Capabilities capabilities_;
};

}  // namespace

std::string_view RungName(Rung rung) {
  switch (rung) {
    case Rung::kCgroupWeight:
      return "cgroup-weight";
    case Rung::kAutogroup:
      return "autogroup";
    case Rung::kNice:
      return "nice";
  }
  return "nice";
}

absl::StatusOr<std::unique_ptr<Isolation>> Isolation::Create(const std::string& instance) {
  return std::make_unique<RealIsolation>(instance);
}

}  // namespace tandem::isolation
