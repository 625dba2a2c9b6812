#pragma once
// How many instances a version should have, where the configuration leaves their number open. Pure.
#include <algorithm>
#include <cstdint>

namespace tandem::serving {

// What the configuration allows, within what serving's share of the CPU can keep busy (0 = no bound). At least `least`.
inline int MostInstances(int least, int most, int bound) { return bound > 0 ? std::clamp(bound, least, most) : most; }

struct InstanceLook {
  int now = 1;
  int least = 1, most = 1;  // of MostInstances
  // Since the last look: runs of the engine, what their requests waited for want of an idle instance, and how long one
  // may on average.
  uint64_t ran = 0, waited_ns = 0;
  double bearable_ns = 0;
  int64_t idle_ns = 0;   // since the last of them ran
  bool may_grow = true;  // there is memory for one more
};
enum class InstanceChange { kNone, kOneMore, kOneLess };

// More while requests wait, fewer when one idled for a minute; at once when there are more than may be.
inline InstanceChange JudgeInstances(const InstanceLook& look) {
  constexpr int64_t kIdleNanos = 60'000'000'000;
  if (look.now > look.most) return InstanceChange::kOneLess;
  if (look.ran > 0 && static_cast<double>(look.waited_ns) / static_cast<double>(look.ran) > look.bearable_ns) {
    return look.may_grow && look.now < look.most ? InstanceChange::kOneMore : InstanceChange::kNone;
  }
  return look.now > look.least && look.idle_ns > kIdleNanos ? InstanceChange::kOneLess : InstanceChange::kNone;
}

}  // namespace tandem::serving
