#pragma once
// What the fast gate changed lately: when, from how many threads to how many, and why. In memory only: a change lasts
// from 20 ms to seconds, and ends by itself. The gate may move at each look, 50 times a second; moves of one kind
// within a minute are one entry with their number. So the record covers half an hour of a gate that flaps all the time,
// and weeks of one that rarely moves.
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "scheduling/policy.h"

namespace tandem::daemon {

enum class GateStep { kClosed, kNarrowed, kOpened };  // to no thread; to fewer; to more
constexpr std::array<GateStep, 3> kGateSteps = {GateStep::kClosed, GateStep::kNarrowed, GateStep::kOpened};
std::string_view GateStepName(GateStep step);  // "closed", "narrowed", "opened"

// One or more moves of one kind: the same step for the same reason, within GateRecord::kMergedMillis of the first.
struct GateChange {
  GateStep step = GateStep::kClosed;
  int64_t first_ms = 0, last_ms = 0;  // UTC
  int32_t times = 0;
  int from = 0, to = 0;  // training threads that might run before the first, and might after the last
  std::string reason;    // with the figures of the last
};

// Thread-safe. Its lock is held for a look through kKept entries at most.
class GateRecord {
 public:
  static constexpr size_t kKept = 200;
  static constexpr int64_t kMergedMillis = 60'000;

  // The gate moved from seen.allowed to decided.allowed, which differ.
  void Add(int64_t unix_ms, const scheduling::GateSnapshot& seen, const scheduling::GateDecision& decided);
  std::vector<GateChange> Changes() const;  // the one that moved last first
  uint64_t Total(GateStep step) const;      // moves since the start

 private:
  struct Entry {
    GateChange change;
    std::string_view why;  // the reason without figures: a literal
  };

  mutable std::mutex mutex_;
  std::deque<Entry> entries_;                         // guarded by mutex_; in the order of their last moves
  std::array<uint64_t, kGateSteps.size()> totals_{};  // guarded by mutex_
};

}  // namespace tandem::daemon
