#pragma once
// The choice of the rung, as a pure function of what was found.
#include <string>

#include "absl/status/statusor.h"
#include "isolation/isolation.h"

namespace tandem::isolation {

struct Found {
  bool realtime = false;
  std::string why_not_realtime;
  bool cgroup = false;
  std::string cgroup_kind;  // "v1", "v2", "hybrid", "none"
  std::string why_not_cgroup;
  bool autogroup = false;
};
struct Choice {
  Rung rung = Rung::kNice;
  bool realtime = false, cgroup = false, autogroup = false;  // what is used
  std::string explanation;
};
// The best rung that is not above `wanted`.
Choice Climb(const Found& found, Rung wanted);
// "auto" is kRealtime, the top. InvalidArgument for an unknown name.
absl::StatusOr<Rung> ParseWanted(const std::string& wanted);

}  // namespace tandem::isolation
