#include "serving/memory.h"

#include <algorithm>

#include "absl/strings/str_join.h"
#include "base/status.h"
#include "base/text.h"

namespace tandem::serving {

absl::Status CheckMemory(std::string_view model, int32_t version, int64_t needed, int64_t limit,
                         const std::vector<MemoryUser>& users) {
  if (limit == 0) return absl::OkStatus();
  int64_t taken = 0;
  std::vector<std::string> holders;
  for (const auto& [status, evictable, last_used] : users) {
    taken += status.memory_bytes;
    holders.push_back(StrCat("'", status.model, "' version ", status.version, " (", HumanBytes(status.memory_bytes),
                             status.state == VersionState::kUnloading ? ", being unloaded)" : ")"));
  }
  if (needed <= limit - taken) return absl::OkStatus();
  std::string advice =
      holders.empty() ? "; raise the limit" : StrCat("; unload one of ", absl::StrJoin(holders, ", "), ", or raise it");
  return ResourceExhausted("model '", model, "' version ", version, " needs ", HumanBytes(needed), " of memory, and ",
                           HumanBytes(taken), " of the limit of ", HumanBytes(limit), " (serving.memory) are taken",
                           advice);
}

std::vector<size_t> ChooseEvictions(int64_t needed, int64_t limit, const std::vector<MemoryUser>& users) {
  std::vector<size_t> candidates;
  int64_t taken = 0;
  for (size_t i = 0; i < users.size(); ++i) {
    if (users[i].status.state == VersionState::kUnloading) continue;
    taken += users[i].status.memory_bytes;
    if (users[i].evictable) candidates.push_back(i);
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [&](size_t a, size_t b) { return users[a].last_used_nanos < users[b].last_used_nanos; });
  std::vector<size_t> chosen;
  for (size_t i : candidates) {
    if (limit == 0 || taken + needed <= limit) break;
    taken -= users[i].status.memory_bytes;
    chosen.push_back(i);
  }
  if (limit != 0 && taken + needed > limit) chosen.clear();
  return chosen;
}

}  // namespace tandem::serving
