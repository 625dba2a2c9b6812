#pragma once
// tandem's own groups in the kernel: a parent of the lowest CPU weight, and children below it.
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "base/fd.h"
#include "isolation/cgroup.h"
#include "isolation/detect.h"
#include "isolation/group_files.h"
#include "isolation/isolation.h"

namespace tandem::isolation {

class TreeGroup;

// Thread-safe. Kept alive by its groups; the parent's folders are removed with the last of them.
class GroupTree : public std::enable_shared_from_this<GroupTree> {
 public:
  // Makes the parent `name` at this process's place, after removing what a dead daemon of that name left anywhere in
  // the hierarchies. PermissionDenied where nothing can be written.
  static absl::StatusOr<std::shared_ptr<GroupTree>> Create(const CgroupPlaces& places, const std::string& name,
                                                           const Disk& disk);
  ~GroupTree();

  // `lost(why)` is called, on any thread, when a file that could be written once no longer can. Empty = nobody cares.
  void OnLost(std::function<void(const absl::Status& why)> lost);
  const GroupAbilities& abilities() const { return abilities_; }

  // `own_disk`: what the group's disk limits are for instead of the tree's; groups of one such disk have them together.
  absl::StatusOr<std::unique_ptr<ResourceGroup>> CreateGroup(const std::string& name, const GroupLimits& limits,
                                                             const std::optional<Disk>& own_disk);
  absl::StatusOr<std::vector<std::string>> SetSideLimits(const GroupLimits& limits);
  Usage ReadSideUsage() const;

 private:
  friend class TreeGroup;
  GroupTree(std::unique_ptr<GroupFiles> parent, std::string device)
      : parent_(std::move(parent)), device_(std::move(device)) {}
  absl::Status MakeParent(const Disk& disk);
  absl::StatusOr<std::vector<std::string>> SetLimits(TreeGroup* group, const GroupLimits& limits);
  void Remove(TreeGroup* group);
  // Runs `body` while the side has this weight and the group the greatest: to stand still or to die takes CPU time, and
  // the lowest weight gives none on a busy machine. Standing still takes microseconds, dying may take longer.
  absl::Status WithWeight(const TreeGroup& group, int64_t weight, const std::function<absl::Status()>& body);
  // All REQUIRE mutex_ held.
  GroupLimits Effective(const TreeGroup& group, const GroupLimits& wanted) const;
  bool DividesDisk(const TreeGroup& group) const;
  absl::Status ApplyTo(TreeGroup* group, const GroupLimits& wanted);
  static absl::Status Apply(const GroupFiles& files, const std::string& device, const GroupLimits& wanted,
                            std::optional<GroupLimits>* current);
  absl::Status ApplyToAll();
  // What SetLimits answers: sentences; a lost file system is one of them, and told to OnLost's function.
  absl::StatusOr<std::vector<std::string>> Answer(const GroupLimits& limits, const GroupAbilities& abilities,
                                                  const absl::Status& applied);
  // What a group holds whose disk is another one: tried on its files.
  GroupAbilities AbilitiesWith(const Disk& disk, const GroupFiles& files) const;

  const std::unique_ptr<GroupFiles> parent_;
  const std::string device_;
  GroupAbilities abilities_, of_any_disk_;  // set before anyone else sees the tree
  std::vector<UniqueFd> locks_;             // on the parent's folders
  std::filesystem::path left_for_;          // v2: the leaf that this process moved to; empty = it did not
  mutable std::mutex mutex_;
  // All below: guarded by mutex_.
  GroupLimits side_;
  std::optional<GroupLimits> side_written_ = kFreshLimits;
  std::set<TreeGroup*> groups_;
  int hurried_ = 0;  // WithWeight's bodies that run
  Usage ended_;      // of groups that are gone: what the parent's own files do not keep
  std::function<void(const absl::Status&)> lost_;
};

// v2: hands the controllers of `place` down to groups below it. A group that holds processes may not (but the root):
// then this process moves to the leaf `leaf` if it is alone. Gives the leaf, or "" if it stayed.
absl::StatusOr<std::filesystem::path> HandDownControllers(const std::filesystem::path& place, const std::string& leaf);
// Undoes it.
void ReturnFromLeaf(const std::filesystem::path& leaf);
// The same for a group that is empty; what is not there is left out.
absl::Status EnableControllers(const std::filesystem::path& folder);

}  // namespace tandem::isolation
