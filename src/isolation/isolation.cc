#include "isolation/isolation.h"

#include <mutex>

#include "base/status.h"
#include "isolation/cgroup.h"
#include "isolation/detect.h"
#include "isolation/group_tree.h"
#include "isolation/ladder.h"
#include "isolation/latency_class.h"
#include "isolation/plain_group.h"
#include "isolation/run_delay.h"
#include "telemetry/log.h"

namespace tandem::isolation {
namespace {

// Every limit, to ask which of them do not hold.
constexpr GroupLimits kAllLimits = {1, 1, 1, 1, 1, 1, 1, 1};

PlainGroups::Lowering LoweringOf(const Capabilities& capabilities) {
  if (capabilities.rung == Rung::kOff) return PlainGroups::Lowering::kNone;
  return capabilities.autogroup ? PlainGroups::Lowering::kAutogroup : PlainGroups::Lowering::kNice;
}

class RealIsolation : public Isolation {
 public:
  explicit RealIsolation(const IsolationOptions& options) : options_(options) {}

  absl::Status Start() {
    TANDEM_ASSIGN_OR_RETURN(wanted_, ParseWanted(options_.wanted));
    const Disk disk = FindDisk(options_.disk_folder);
    const CgroupPlaces places = FindCgroupPlaces();
    found_.cgroup_kind = places.kind;
    found_.autogroup = AutogroupWorks();
    // Also with a lower rung wanted: what a dead daemon left must go. But off means that nothing is touched.
    if (wanted_ != Rung::kOff) {
      auto tree = GroupTree::Create(places, StrCat("tandem-", options_.instance), disk);
      found_.cgroup = tree.ok();
      if (!tree.ok()) found_.why_not_cgroup = std::string(MessageOf(tree.status()));
      if (tree.ok() && wanted_ <= Rung::kCgroupWeight) tree_ = *std::move(tree);
      if (tree_ != nullptr) tree_->OnLost([this](const absl::Status& why) { StepDown(why); });
    }
    // After the groups: on v2 this process may have moved to one where the kernel allows no real-time threads.
    const RealtimeTrial trial = TryRealtime();
    found_.realtime = trial.works;
    found_.why_not_realtime = trial.why;

    std::lock_guard lock(mutex_);
    capabilities_.cgroup = places.kind;
    capabilities_.can_set_realtime = trial.works;
    capabilities_.container = DetectContainer();
    capabilities_.pressure = HasPressure();
    capabilities_.disk_scheduler = disk.scheduler;
    Describe();
    latency_ = LatencyClass::Create(capabilities_.rung == Rung::kRealtime, options_.budget_ms);
    return absl::OkStatus();
  }

  ~RealIsolation() override {
    if (latency_ != nullptr) latency_->Stop();
    if (tree_ != nullptr) tree_->OnLost(nullptr);
    if (lost_tree_ != nullptr) lost_tree_->OnLost(nullptr);
  }

  Capabilities capabilities() const override {
    std::lock_guard lock(mutex_);
    return capabilities_;
  }

  absl::StatusOr<std::unique_ptr<ResourceGroup>> CreateGroup(const std::string& name, const GroupLimits& limits,
                                                             const std::string& disk_folder) override {
    if (std::shared_ptr<GroupTree> tree = Tree()) {
      std::optional<Disk> own_disk;
      if (!disk_folder.empty()) own_disk = FindDisk(disk_folder);
      auto group = tree->CreateGroup(name, limits, own_disk);
      // Its own fault, not the file system's; or a shortage, as of descriptors, that passes.
      if (group.ok() || absl::IsAlreadyExists(group.status()) || absl::IsFailedPrecondition(group.status()) ||
          absl::IsInvalidArgument(group.status()) || absl::IsResourceExhausted(group.status())) {
        return group;
      }
      StepDown(group.status());
    }
    return plain_->CreateGroup(name, limits, LoweringOf(capabilities()));
  }

  absl::StatusOr<std::vector<std::string>> SetSideLimits(const GroupLimits& limits) override {
    if (std::shared_ptr<GroupTree> tree = Tree()) return tree->SetSideLimits(limits);
    return PlainNotEnforced(limits, LoweringOf(capabilities()));
  }

  Usage ReadSideUsage() const override {
    std::shared_ptr<GroupTree> tree;
    {
      std::lock_guard lock(mutex_);
      tree = tree_ != nullptr ? tree_ : lost_tree_;
    }
    Usage usage = plain_->ReadUsage();
    return tree == nullptr ? usage : SumOf(usage, tree->ReadSideUsage());
  }

  void EnterLatencyClass(const std::string& name) override {
    const absl::Status status = latency_->Enter(name);
    if (status.ok()) return;
    std::lock_guard lock(mutex_);
    if (!found_.realtime) return;  // said before
    found_.realtime = false;
    found_.why_not_realtime = std::string(MessageOf(status));
    Describe();
    LogLower();
  }

  std::vector<LatencyThread> LatencyThreads() const override { return latency_->Threads(); }
  double LatencyCpuSeconds() const override { return latency_->CpuSeconds(); }

  absl::StatusOr<RunDelay> MeasureRunDelay(int ms) override {
    std::lock_guard lock(measuring_);
    TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<ResourceGroup> group, CreateGroup("run-delay", {}, ""));
    return MeasureBeside(group.get(), ReadTopology().usable_cpus, ms, [this] { EnterLatencyClass("run-delay"); });
  }

 private:
  static Usage SumOf(Usage a, const Usage& b) {
    auto add = [](int64_t value, int64_t* to) {
      if (value >= 0) *to = std::max<int64_t>(*to, 0) + value;
    };
    a.cpu_seconds += b.cpu_seconds;
    add(b.memory_bytes, &a.memory_bytes);
    add(b.peak_memory_bytes, &a.peak_memory_bytes);
    add(b.disk_read_bytes, &a.disk_read_bytes);
    add(b.disk_written_bytes, &a.disk_written_bytes);
    add(b.processes, &a.processes);
    add(b.out_of_memory_kills, &a.out_of_memory_kills);
    add(b.throttled_periods, &a.throttled_periods);
    return a;
  }

  std::shared_ptr<GroupTree> Tree() const {
    std::lock_guard lock(mutex_);
    return tree_;
  }

  // The ladder again, without what no longer works. Groups that exist stay where they are.
  void StepDown(const absl::Status& why) {
    std::lock_guard lock(mutex_);
    if (tree_ == nullptr) return;
    lost_tree_ = std::move(tree_);
    tree_ = nullptr;
    found_.cgroup = false;
    found_.why_not_cgroup = std::string(MessageOf(why));
    Describe();
    LogLower();
  }

  // REQUIRES: mutex_ held.
  void LogLower() const {
    Log(LogLevel::kWarning, "isolation is weaker from now on",
        {{"rung", RungName(capabilities_.rung)}, {"why", capabilities_.explanation}});
  }

  // Sets what follows from found_. REQUIRES: mutex_ held.
  void Describe() {
    const Choice choice = Climb(found_, wanted_);
    capabilities_.rung = choice.rung;
    capabilities_.explanation = choice.explanation;
    capabilities_.autogroup =
        choice.rung == Rung::kOff ? found_.autogroup : found_.autogroup && wanted_ <= Rung::kAutogroup;
    const GroupAbilities abilities = choice.cgroup ? tree_->abilities() : GroupAbilities{};
    capabilities_.cpu_cap = abilities.cpu_cap;
    capabilities_.memory = abilities.memory;
    capabilities_.disk = abilities.disk;
    capabilities_.processes = abilities.processes;
    capabilities_.freeze = choice.cgroup ? abilities.freeze : true;  // else by SIGSTOP
    capabilities_.not_enforced =
        choice.cgroup ? NotEnforced(kAllLimits, abilities) : PlainNotEnforced(kAllLimits, LoweringOf(capabilities_));
    if (choice.autogroup)
      capabilities_.not_enforced.push_back(
          "a job is not kept in its CPU class: any program may raise its own autogroup back to nice 0 or start a new "
          "session; run only jobs that you trust, or let tandemd write a cgroup");
    if (choice.cgroup && !abilities.freeze)
      capabilities_.not_enforced.push_back(
          "jobs cannot be frozen: no freezer can be written; they pause at their gate");
    if (!choice.cgroup && choice.rung != Rung::kOff)
      capabilities_.not_enforced.push_back(
          "jobs are paused by SIGSTOP, which a process that left its session does not hear; let tandemd write a "
          "cgroup");
  }

  const IsolationOptions options_;
  Rung wanted_ = Rung::kRealtime;
  const std::shared_ptr<PlainGroups> plain_ = std::make_shared<PlainGroups>();
  std::shared_ptr<LatencyClass> latency_;  // set by Start, then constant
  std::mutex measuring_;                   // one measurement at a time

  mutable std::mutex mutex_;
  // All below: guarded by mutex_ once Start has returned.
  Found found_;
  Capabilities capabilities_;
  std::shared_ptr<GroupTree> tree_;       // none on rungs without cgroups
  std::shared_ptr<GroupTree> lost_tree_;  // once it could not be written any more
};

}  // namespace

absl::StatusOr<std::unique_ptr<Isolation>> Isolation::Create(const IsolationOptions& options) {
  auto isolation = std::make_unique<RealIsolation>(options);
  TANDEM_RETURN_IF_ERROR(isolation->Start());
  return isolation;
}

}  // namespace tandem::isolation
