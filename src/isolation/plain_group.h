#pragma once
// Groups where no cgroup can be written: a group is the sessions of its children, seen through /proc. Their descendants
// belong to it as long as they make no session of their own.
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "isolation/isolation.h"

namespace tandem::isolation {

// A line of /proc/PID/stat.
struct ProcessStat {
  pid_t pid = 0, session = 0;
  char state = '?';
  double cpu_seconds = 0;   // its own and that of children it has waited for
  int64_t start_ticks = 0;  // since boot
  int64_t memory_bytes = 0;
  int64_t threads = 0;
};
std::optional<ProcessStat> ParseProcessStat(std::string_view text, int64_t ticks_per_second, int64_t page_bytes);
std::optional<ProcessStat> ReadProcessStat(pid_t pid);

// Makes the groups and sums what those that ended have used. Thread-safe; kept alive by its groups.
class PlainGroups : public std::enable_shared_from_this<PlainGroups> {
 public:
  enum class Lowering { kAutogroup, kNice, kNone };  // what children do to themselves
  std::unique_ptr<ResourceGroup> CreateGroup(const std::string& name, const GroupLimits& limits, Lowering lowering);
  // Of all groups, those that ended too.
  Usage ReadUsage() const;

 private:
  friend class PlainGroup;
  // Every process's session, read at most once a second for usage; now if `fresh`.
  std::vector<ProcessStat> Sessions(bool fresh) const;

  mutable std::mutex mutex_;
  // All below: guarded by mutex_.
  std::set<const ResourceGroup*> groups_;
  Usage ended_;

  mutable std::mutex scan_mutex_;
  mutable std::vector<ProcessStat> scanned_;  // guarded by scan_mutex_
  mutable int64_t scanned_nanos_ = 0;         // guarded by scan_mutex_
};

// What these groups do not hold; `lowering` kNone for "off".
std::vector<std::string> PlainNotEnforced(const GroupLimits& limits, PlainGroups::Lowering lowering);

}  // namespace tandem::isolation
