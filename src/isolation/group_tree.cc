#include "isolation/group_tree.h"

#include <errno.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/match.h"
#include "base/status.h"
#include "base/text.h"
#include "isolation/kernel_file.h"
#include "telemetry/log.h"

namespace tandem::isolation {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kHighest = 10'000, kOrdinary = 100, kLowest = 1;  // CPU weights

// A file system that turned read-only, rights that were taken, a folder that somebody removed: not for this write only.
bool IsLost(const absl::Status& status) { return absl::IsPermissionDenied(status) || absl::IsNotFound(status); }

bool IsDiskFile(const fs::path& file) {
  const std::string name = file.filename();
  return name == "io.max" || absl::StartsWith(name, "blkio.throttle.");
}

// v2 kills at once when a limit is set below what is in use, v1 refuses. tandem refuses on both, after the kernel has
// given back what it can: a job dies of its own growth, not of a setting.
absl::Status WriteLimit(const KernelWrite& write) {
  const std::string name = write.file.filename();
  double limit = 0;
  if (name == "memory.max" && write.text != "max") {
    const fs::path current = write.file.parent_path() / "memory.current";
    limit = std::stod(write.text);
    const double above = ReadNumber(current) - limit;
    if (above > 0) {
      TryWriteKernelFile(write.file.parent_path() / "memory.reclaim", StrCat(static_cast<int64_t>(above)));
      if (ReadNumber(current) > limit)
        return FailedPrecondition("a memory limit of ", HumanBytes(static_cast<int64_t>(limit)), " is below what '",
                                  write.file.parent_path().filename().string(),
                                  "' uses and cannot give back; stop it first or set a higher limit");
    }
  }
  const int error = TryWriteKernelFile(write.file, write.text);
  if (error == EBUSY && name == "memory.limit_in_bytes")
    return FailedPrecondition("a memory limit of ", write.text, " bytes is below what '",
                              write.file.parent_path().filename().string(),
                              "' uses and cannot give back; stop it first or set a higher limit");
  if (error != 0) return ErrnoStatus(error, StrCat("write '", write.text, "' to '", write.file.string(), "'"));
  return absl::OkStatus();
}

void AddEnded(const Usage& usage, Usage* sum) {
  auto add = [](int64_t value, int64_t* to) {
    if (value >= 0) *to = std::max<int64_t>(*to, 0) + value;
  };
  add(usage.disk_read_bytes, &sum->disk_read_bytes);
  add(usage.disk_written_bytes, &sum->disk_written_bytes);
  add(usage.out_of_memory_kills, &sum->out_of_memory_kills);
  add(usage.throttled_periods, &sum->throttled_periods);
}

std::string RefusedDevice(std::string_view device, const absl::Status& status) {
  return StrCat("the kernel does not take limits for device ", device, " (", MessageOf(status), ")");
}

int64_t Least(int64_t a, int64_t b) { return a == 0 ? b : (b == 0 ? a : std::min(a, b)); }

}  // namespace

// One child of the parent. Thread-safe: limits are written under the tree's mutex.
class TreeGroup : public ResourceGroup {
 public:
  TreeGroup(std::shared_ptr<GroupTree> tree, std::string name, std::unique_ptr<GroupFiles> files)
      : tree_(std::move(tree)), name_(std::move(name)), files_(std::move(files)) {}
  ~TreeGroup() override { tree_->Remove(this); }

  const std::string& name() const override { return name_; }
  Usage ReadUsage() const override { return files_->ReadUsage(); }
  absl::StatusOr<std::vector<std::string>> SetLimits(const GroupLimits& limits) override {
    return tree_->SetLimits(this, limits);
  }
  absl::Status Freeze() override {
    return tree_->WithWeight(*this, kHighest, [this] { return FreezeGroup(files_->Freezer()); });
  }
  absl::Status Thaw() override { return ThawGroup(files_->Freezer()); }
  std::vector<std::pair<std::string, std::string>> JoinFiles() const override {
    std::vector<std::pair<std::string, std::string>> files;
    for (const fs::path& folder : files_->Folders()) files.emplace_back((folder / "cgroup.procs").string(), "");
    return files;
  }
  absl::Status Kill() override {
    return tree_->WithWeight(*this, kOrdinary, [this] { return KillGroup(files_->Folders()); });
  }

 private:
  friend class GroupTree;
  const std::shared_ptr<GroupTree> tree_;
  const std::string name_;
  const std::unique_ptr<GroupFiles> files_;
  GroupLimits wanted_;                                 // guarded by the tree's mutex
  std::optional<GroupLimits> written_ = kFreshLimits;  // guarded by the tree's mutex; none = not known
  // Set before it is in the tree.
  bool own_disk_ = false;
  GroupAbilities abilities_;
  std::string device_;  // "" = its disk limits are not held
};

absl::StatusOr<std::shared_ptr<GroupTree>> GroupTree::Create(const CgroupPlaces& places, const std::string& name,
                                                             const Disk& disk) {
  const int removed = RemoveLeftOvers(places.mounts, name);
  if (removed > 0) Log(LogLevel::kInfo, "removed the groups of a daemon that is gone", {{"groups", removed}});
  const bool v1 = places.v1.count("cpu") != 0;
  if (!v1 && places.v2.empty()) return NotFound("no cgroup file system is mounted");
  std::unique_ptr<GroupFiles> parent;
  fs::path leaf;
  if (v1) {
    std::map<std::string, fs::path> folders;
    for (const char* controller : {"cpu", "cpuacct", "memory", "blkio", "pids", "freezer"}) {
      auto place = places.v1.find(controller);
      if (place != places.v1.end()) folders[controller] = place->second / name;
    }
    if (!places.v2.empty()) folders["unified"] = places.v2 / name;
    // All but cpu may be missing; what cannot be made now is no part of any group.
    for (auto folder = folders.begin(); folder != folders.end();) {
      absl::Status made = MakeGroupFolder(folder->second);
      if (!made.ok() && folder->first == "cpu") return made;
      folder = made.ok() ? std::next(folder) : folders.erase(folder);
    }
    parent = MakeV1Files(std::move(folders));
  } else {
    TANDEM_ASSIGN_OR_RETURN(leaf, HandDownControllers(places.v2, name + "-daemon"));
    parent = MakeV2Files(places.v2 / name);
  }
  std::shared_ptr<GroupTree> tree(new GroupTree(std::move(parent), disk.device));
  tree->left_for_ = leaf;
  TANDEM_RETURN_IF_ERROR(tree->MakeParent(disk));
  return tree;
}

absl::Status GroupTree::MakeParent(const Disk& disk) {
  TANDEM_RETURN_IF_ERROR(parent_->Make());
  for (const fs::path& folder : parent_->Folders()) {
    TANDEM_ASSIGN_OR_RETURN(UniqueFd lock, LockGroup(folder));
    locks_.push_back(std::move(lock));
    if (parent_->LimitsNest()) TANDEM_RETURN_IF_ERROR(EnableControllers(folder));
  }
  // A child's files tell what a child can do: the parent's in the root may be others.
  const std::unique_ptr<GroupFiles> probe = parent_->Child("probe");
  TANDEM_RETURN_IF_ERROR(probe->Make());
  abilities_ = of_any_disk_ = probe->Abilities();
  RemoveGroup(probe->Folders()).IgnoreError();
  if (disk.device.empty()) {
    abilities_.disk = abilities_.buffered_writes = false;
    abilities_.disk_why = disk.why;
  }
  GroupLimits lowest;
  lowest.cpu_weight = kLowest;
  // Everything, also what is the default: on v1 naming the device makes the kernel begin to count its bytes.
  for (const KernelWrite& write : parent_->Writes(std::nullopt, lowest, device_)) {
    absl::Status status = WriteLimit(write);
    if (status.ok()) continue;
    if (absl::StartsWith(write.file.filename().string(), "cpu.")) return status;
    if (IsDiskFile(write.file)) {
      abilities_.disk = abilities_.buffered_writes = false;
      abilities_.disk_why = RefusedDevice(device_, status);
    }
  }
  side_written_ = lowest;
  return absl::OkStatus();
}

GroupTree::~GroupTree() {
  // What is not locked belongs to somebody else.
  if (locks_.size() == parent_->Folders().size()) RemoveGroup(parent_->Folders()).IgnoreError();
  if (!left_for_.empty()) ReturnFromLeaf(left_for_);
}

void GroupTree::OnLost(std::function<void(const absl::Status&)> lost) {
  std::lock_guard lock(mutex_);
  lost_ = std::move(lost);
}

// Groups with a disk of their own have no parent that would hold them together; and v1 throttles each group by itself.
bool GroupTree::DividesDisk(const TreeGroup& group) const { return group.own_disk_ || !parent_->LimitsNest(); }

// v1 refuses a child's cap above its parent's. A bandwidth that groups have together is divided evenly.
GroupLimits GroupTree::Effective(const TreeGroup& group, const GroupLimits& wanted) const {
  GroupLimits limits = wanted;
  if (!parent_->LimitsNest() && side_.cpu_cap > 0 && limits.cpu_cap >= side_.cpu_cap)
    limits.cpu_cap = 0;  // the parent's holds
  if (!DividesDisk(group)) return limits;
  const auto shares_with_it = [&group](const TreeGroup* one) {
    return one->own_disk_ == group.own_disk_ && (!group.own_disk_ || one->device_ == group.device_);
  };
  const int64_t groups = std::max<int64_t>(1, std::count_if(groups_.begin(), groups_.end(), shares_with_it));
  auto share = [groups](int64_t of_all) { return of_all == 0 ? 0 : std::max<int64_t>(1, of_all / groups); };
  const GroupLimits& together = group.own_disk_ ? wanted : side_;
  limits.disk_write_bytes_per_s = Least(limits.disk_write_bytes_per_s, share(together.disk_write_bytes_per_s));
  limits.disk_read_bytes_per_s = Least(limits.disk_read_bytes_per_s, share(together.disk_read_bytes_per_s));
  limits.disk_iops = Least(limits.disk_iops, share(together.disk_iops));
  return limits;
}

absl::Status GroupTree::ApplyTo(TreeGroup* group, const GroupLimits& wanted) {
  return Apply(*group->files_, group->device_, Effective(*group, wanted), &group->written_);
}

absl::Status GroupTree::Apply(const GroupFiles& files, const std::string& device, const GroupLimits& wanted,
                              std::optional<GroupLimits>* current) {
  if (*current == wanted) return absl::OkStatus();
  for (const KernelWrite& write : files.Writes(*current, wanted, device)) {
    absl::Status status = WriteLimit(write);
    if (status.ok()) continue;
    current->reset();
    return status;
  }
  *current = wanted;
  return absl::OkStatus();
}

absl::Status GroupTree::ApplyToAll() {
  absl::Status first;
  for (TreeGroup* group : groups_) {
    absl::Status status = ApplyTo(group, group->wanted_);
    if (first.ok()) first = status;
  }
  return first;
}

absl::StatusOr<std::vector<std::string>> GroupTree::Answer(const GroupLimits& limits, const GroupAbilities& abilities,
                                                           const absl::Status& applied) {
  std::function<void(const absl::Status&)> lost;
  {
    std::lock_guard lock(mutex_);
    lost = lost_;
  }
  std::vector<std::string> sentences = NotEnforced(limits, abilities);
  if (IsLost(applied)) {
    if (lost) lost(applied);
    sentences.push_back(StrCat("limits are not enforced any more: tandem's cgroup cannot be written (",
                               MessageOf(applied), "); make it writable and restart tandemd"));
  } else if (!applied.ok()) {
    return applied;
  }
  return sentences;
}

GroupAbilities GroupTree::AbilitiesWith(const Disk& disk, const GroupFiles& files) const {
  if (disk.device == device_) return abilities_;
  GroupAbilities abilities = of_any_disk_;
  if (!abilities.disk) return abilities;
  std::string why = disk.why;
  if (!disk.device.empty()) {
    for (const KernelWrite& write : files.Writes(std::nullopt, GroupLimits{}, disk.device)) {
      const absl::Status status = IsDiskFile(write.file) ? WriteLimit(write) : absl::OkStatus();
      if (!status.ok()) why = RefusedDevice(disk.device, status);
    }
  }
  if (why.empty()) return abilities;
  abilities.disk = abilities.buffered_writes = false;
  abilities.disk_why = why;
  return abilities;
}

absl::StatusOr<std::unique_ptr<ResourceGroup>> GroupTree::CreateGroup(const std::string& name,
                                                                      const GroupLimits& limits,
                                                                      const std::optional<Disk>& own_disk) {
  {
    std::lock_guard lock(mutex_);
    for (const TreeGroup* other : groups_) {
      if (other->name_ == name) return AlreadyExists("resource group '", name, "' exists; use another name");
    }
  }
  std::unique_ptr<GroupFiles> files = parent_->Child(name);
  TANDEM_RETURN_IF_ERROR(files->Make());
  auto group = std::make_unique<TreeGroup>(shared_from_this(), name, std::move(files));
  group->own_disk_ = own_disk.has_value();
  group->abilities_ = own_disk ? AbilitiesWith(*own_disk, *group->files_) : abilities_;
  if (group->abilities_.disk) group->device_ = own_disk ? own_disk->device : device_;
  absl::Status applied;
  {
    std::lock_guard lock(mutex_);
    groups_.insert(group.get());
    group->wanted_ = limits;
    applied = ApplyTo(group.get(), limits);
    // One more shares the disk's bandwidth.
    if (applied.ok() && DividesDisk(*group)) applied = ApplyToAll();
  }
  if (!applied.ok()) return applied;
  return group;
}

absl::StatusOr<std::vector<std::string>> GroupTree::SetLimits(TreeGroup* group, const GroupLimits& limits) {
  absl::Status applied;
  {
    std::lock_guard lock(mutex_);
    applied = ApplyTo(group, limits);
    if (applied.ok()) group->wanted_ = limits;
  }
  return Answer(limits, group->abilities_, applied);
}

absl::StatusOr<std::vector<std::string>> GroupTree::SetSideLimits(const GroupLimits& limits) {
  absl::Status applied;
  {
    std::lock_guard lock(mutex_);
    GroupLimits own = limits;
    own.cpu_weight = kLowest;
    if (!parent_->LimitsNest()) {
      own.disk_write_bytes_per_s = own.disk_read_bytes_per_s = own.disk_iops = 0;
      if (limits.cpu_cap != side_.cpu_cap) {
        // v1 refuses a parent's cap below a child's and a child's above the parent's: for a moment there is no child's.
        for (TreeGroup* group : groups_) {
          GroupLimits uncapped = group->written_.value_or(group->wanted_);
          uncapped.cpu_cap = 0;
          Apply(*group->files_, group->device_, uncapped, &group->written_).IgnoreError();
        }
      }
    }
    applied = Apply(*parent_, abilities_.disk ? device_ : "", own, &side_written_);
    if (applied.ok()) side_ = limits;
    const absl::Status children = ApplyToAll();
    if (applied.ok()) applied = children;
  }
  return Answer(limits, abilities_, applied);
}

Usage GroupTree::ReadSideUsage() const {
  Usage usage = parent_->ReadUsage();
  std::lock_guard lock(mutex_);
  // v1's counters of these are each group's own, not those below it: their sum holds on both versions.
  usage.disk_read_bytes = ended_.disk_read_bytes;
  usage.disk_written_bytes = ended_.disk_written_bytes;
  usage.out_of_memory_kills = ended_.out_of_memory_kills;
  usage.throttled_periods += ended_.throttled_periods;
  for (TreeGroup* group : groups_) AddEnded(group->files_->ReadUsage(), &usage);
  return usage;
}

absl::Status GroupTree::WithWeight(const TreeGroup& group, int64_t weight, const std::function<absl::Status()>& body) {
  auto set = [](const GroupFiles& files, int64_t weight) {
    const KernelWrite write = files.WeightWrite(weight);
    TryWriteKernelFile(write.file, write.text);
  };
  {
    std::lock_guard lock(mutex_);
    ++hurried_;
    set(*parent_, weight);
    set(*group.files_, kHighest);
  }
  absl::Status status = body();
  std::lock_guard lock(mutex_);
  set(*group.files_, group.wanted_.cpu_weight);
  if (--hurried_ == 0) set(*parent_, kLowest);
  return status;
}

void GroupTree::Remove(TreeGroup* group) {
  const std::vector<fs::path> folders = group->files_->Folders();
  absl::Status status = group->Kill();
  {
    std::lock_guard lock(mutex_);
    AddEnded(group->files_->ReadUsage(), &ended_);
    groups_.erase(group);  // before its folders go: limits are written to all that are in the set
    if (DividesDisk(*group)) ApplyToAll().IgnoreError();
  }
  if (status.ok()) status = RemoveGroup(folders);
  if (!status.ok())
    Log(LogLevel::kWarning, "a resource group could not be removed",
        {{"group", group->name_}, {"error", MessageOf(status)}});
}

}  // namespace tandem::isolation
