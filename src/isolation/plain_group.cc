#include "isolation/plain_group.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/clock.h"
#include "base/status.h"
#include "isolation/group_files.h"
#include "isolation/kernel_file.h"

namespace tandem::isolation {
namespace {

constexpr int64_t kScanNanos = 1'000'000'000, kKillNanos = 5'000'000'000, kStopNanos = 1'000'000'000;

int64_t Now() { return Clock::Real()->MonotonicNanos(); }

bool IsGone(const ProcessStat& process) { return process.state == 'Z' || process.state == 'X'; }

void Raise(int64_t value, int64_t* to) { *to = std::max(*to, value); }

void Sum(const Usage& usage, Usage* sum) {
  sum->cpu_seconds += usage.cpu_seconds;
  sum->memory_bytes += usage.memory_bytes;
  sum->processes = std::max<int64_t>(0, sum->processes) + std::max<int64_t>(0, usage.processes);
  auto add = [](int64_t value, int64_t* to) {
    if (value >= 0) *to = std::max<int64_t>(*to, 0) + value;
  };
  add(usage.disk_read_bytes, &sum->disk_read_bytes);
  add(usage.disk_written_bytes, &sum->disk_written_bytes);
}

}  // namespace

std::optional<ProcessStat> ParseProcessStat(std::string_view text, int64_t ticks_per_second, int64_t page_bytes) {
  // The name stands in parentheses and may hold anything, also parentheses and spaces.
  const size_t open = text.find('('), close = text.rfind(')');
  if (open == std::string_view::npos || close == std::string_view::npos || close + 2 > text.size()) return std::nullopt;
  std::vector<std::string> rest = absl::StrSplit(AbslView(text.substr(close + 2)), ' ');
  int pid = 0;
  if (!absl::SimpleAtoi(AbslView(text.substr(0, open)), &pid) || rest.size() < 22 || rest[0].size() != 1)
    return std::nullopt;
  auto field = [&](size_t number) {  // as proc(5) counts, from 1
    int64_t value = 0;
    return absl::SimpleAtoi(rest[number - 3], &value) ? value : 0;
  };
  ProcessStat process;
  process.pid = pid;
  process.state = rest[0][0];
  process.session = static_cast<pid_t>(field(6));
  process.cpu_seconds =
      static_cast<double>(field(14) + field(15) + field(16) + field(17)) / static_cast<double>(ticks_per_second);
  process.threads = field(20);
  process.start_ticks = field(22);
  process.memory_bytes = field(24) * page_bytes;
  return process;
}

std::optional<ProcessStat> ReadProcessStat(pid_t pid) {
  return ParseProcessStat(ReadKernelFile(StrCat("/proc/", pid, "/stat")), sysconf(_SC_CLK_TCK), sysconf(_SC_PAGESIZE));
}

std::vector<std::string> PlainNotEnforced(const GroupLimits& limits, PlainGroups::Lowering lowering) {
  if (lowering == PlainGroups::Lowering::kNone && limits != GroupLimits{.cpu_weight = limits.cpu_weight})
    return {"no limit is enforced: isolation is off; set it to auto"};
  GroupAbilities none;
  none.disk_why = "no cgroup can be written here; tandem paces its own writes";
  return NotEnforced(limits, none);
}

// Thread-safe.
class PlainGroup : public ResourceGroup {
 public:
  PlainGroup(std::shared_ptr<PlainGroups> all, std::string name, const GroupLimits& limits,
             PlainGroups::Lowering lowering)
      : all_(std::move(all)), name_(std::move(name)), lowering_(lowering), limits_(limits) {
    std::lock_guard lock(all_->mutex_);
    all_->groups_.insert(this);
  }
  ~PlainGroup() override {
    Kill().IgnoreError();
    const Usage last = ReadUsage();
    std::lock_guard lock(all_->mutex_);
    all_->groups_.erase(this);
    Sum(last, &all_->ended_);
    all_->ended_.memory_bytes = 0;
    all_->ended_.processes = 0;
  }

  const std::string& name() const override { return name_; }

  void Adopt(pid_t child) override {
    std::optional<ProcessStat> leader = ReadProcessStat(child);
    std::lock_guard lock(mutex_);
    if (leader) leaders_[child] = leader->start_ticks;
  }

  Usage ReadUsage() const override {
    Usage now;
    now.processes = 0;
    for (const ProcessStat& member : Members(false, true)) {
      now.cpu_seconds += member.cpu_seconds;  // also of one that nobody has waited for yet
      if (IsGone(member)) continue;
      now.memory_bytes += member.memory_bytes;
      now.processes += member.threads;
      const std::string io = ReadKernelFile(StrCat("/proc/", member.pid, "/io"));
      const auto read = NumberAfter(io, "read_bytes:"), written = NumberAfter(io, "write_bytes:");
      if (read) now.disk_read_bytes = std::max<int64_t>(0, now.disk_read_bytes) + *read;
      if (written) now.disk_written_bytes = std::max<int64_t>(0, now.disk_written_bytes) + *written;
    }
    std::lock_guard lock(mutex_);
    // What ended since the last reading is in nobody's file any more: never count down.
    usage_.cpu_seconds = std::max(usage_.cpu_seconds, now.cpu_seconds);
    usage_.memory_bytes = now.memory_bytes;
    usage_.processes = now.processes;
    Raise(now.memory_bytes, &usage_.peak_memory_bytes);
    Raise(now.disk_read_bytes, &usage_.disk_read_bytes);
    Raise(now.disk_written_bytes, &usage_.disk_written_bytes);
    return usage_;
  }

  absl::StatusOr<std::vector<std::string>> SetLimits(const GroupLimits& limits) override {
    {
      std::lock_guard lock(mutex_);
      limits_ = limits;
    }
    if (lowering_ != PlainGroups::Lowering::kNone) {
      const rlim_t bytes = limits.memory_max_bytes > 0 ? static_cast<rlim_t>(limits.memory_max_bytes) : RLIM_INFINITY;
      for (const ProcessStat& member : Members(true)) {
        rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
        if (prlimit(member.pid, RLIMIT_DATA, nullptr, &limit) != 0) continue;  // it has ended
        limit.rlim_cur = std::min(bytes, limit.rlim_max);
        prlimit(member.pid, RLIMIT_DATA, &limit, nullptr);
      }
    }
    return PlainNotEnforced(limits, lowering_);
  }

  absl::Status Freeze() override {
    const int64_t deadline = Now() + kStopNanos;
    while (true) {
      bool still = true;
      for (const ProcessStat& member : Members(true)) {
        if (member.state == 'T' || member.state == 't') continue;
        still = false;
        kill(member.pid, SIGSTOP);
      }
      if (still) return absl::OkStatus();
      if (Now() > deadline) return DeadlineExceeded("group '", name_, "' does not stand still after 1 s");
      poll(nullptr, 0, 1);
    }
  }

  absl::Status Thaw() override {
    for (const ProcessStat& member : Members(true)) kill(member.pid, SIGCONT);
    return absl::OkStatus();
  }

  std::vector<std::pair<std::string, std::string>> JoinFiles() const override {
    if (lowering_ != PlainGroups::Lowering::kAutogroup) return {};
    return {{"/proc/self/autogroup", "19"}};
  }

  std::vector<std::string> LaunchArguments() const override {
    if (lowering_ == PlainGroups::Lowering::kNone) return {"--keep-class"};
    std::lock_guard lock(mutex_);
    if (limits_.memory_max_bytes <= 0) return {};
    return {StrCat("--limit-data=", limits_.memory_max_bytes)};
  }

  absl::Status Kill() override {
    const int64_t deadline = Now() + kKillNanos;
    for (int wait_ms = 1;; wait_ms = std::min(2 * wait_ms, 20)) {
      const std::vector<ProcessStat> members = Members(true);
      if (members.empty()) return absl::OkStatus();
      if (Now() > deadline) return DeadlineExceeded("group '", name_, "' still has processes 5 s after SIGKILL");
      for (const ProcessStat& member : members) kill(member.pid, SIGKILL);
      poll(nullptr, 0, wait_ms);
    }
  }

 private:
  // The processes of the children's sessions; those that have ended but were not waited for only if `with_gone`. A
  // session's number stays taken as long as one of its processes lives; after that a new process may have it, with
  // another start time.
  std::vector<ProcessStat> Members(bool fresh, bool with_gone = false) const {
    std::map<pid_t, int64_t> leaders;
    {
      std::lock_guard lock(mutex_);
      leaders = leaders_;
    }
    std::vector<ProcessStat> members;
    if (leaders.empty()) return members;
    std::set<pid_t> seen;
    auto add = [&](pid_t pid, pid_t session) {
      std::optional<ProcessStat> now = ReadProcessStat(pid);
      if (!now || (IsGone(*now) && !with_gone) || (now->session != session && pid != session) ||
          !seen.insert(pid).second)
        return;
      members.push_back(*now);
    };
    std::vector<ProcessStat> sessions = all_->Sessions(fresh);
    for (const auto& [leader, start] : leaders) {
      std::optional<ProcessStat> first = ReadProcessStat(leader);
      if (first && first->start_ticks != start) {
        std::lock_guard lock(mutex_);
        leaders_.erase(leader);
        continue;
      }
      if (first) add(leader, leader);
      for (const ProcessStat& process : sessions) {
        if (process.session == leader) add(process.pid, leader);
      }
    }
    return members;
  }

  const std::shared_ptr<PlainGroups> all_;
  const std::string name_;
  const PlainGroups::Lowering lowering_;
  mutable std::mutex mutex_;
  // All below: guarded by mutex_.
  mutable std::map<pid_t, int64_t> leaders_;  // child -> its start time
  GroupLimits limits_;
  mutable Usage usage_;
};

std::unique_ptr<ResourceGroup> PlainGroups::CreateGroup(const std::string& name, const GroupLimits& limits,
                                                        Lowering lowering) {
  return std::make_unique<PlainGroup>(shared_from_this(), name, limits, lowering);
}

Usage PlainGroups::ReadUsage() const {
  std::lock_guard lock(mutex_);
  Usage usage = ended_;
  for (const ResourceGroup* group : groups_) Sum(group->ReadUsage(), &usage);
  return usage;
}

std::vector<ProcessStat> PlainGroups::Sessions(bool fresh) const {
  std::lock_guard lock(scan_mutex_);
  if (!fresh && Now() - scanned_nanos_ < kScanNanos && scanned_nanos_ != 0) return scanned_;
  scanned_.clear();
  std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir("/proc"), closedir);
  while (dirent* entry = directory == nullptr ? nullptr : readdir(directory.get())) {
    int pid = 0;
    if (!absl::SimpleAtoi(entry->d_name, &pid)) continue;
    if (std::optional<ProcessStat> process = ReadProcessStat(pid)) scanned_.push_back(*process);
  }
  scanned_nanos_ = Now();
  return scanned_;
}

}  // namespace tandem::isolation
