#pragma once
// What a person allows each side: shares, windows, ratios. Plain data, checked where it was parsed (spec/sharing_spec).
#include <cstdint>
#include <string>
#include <vector>

#include "base/calendar.h"

namespace tandem::scheduling {

// One side's part of the machine, as fractions 0..1 of the usable CPUs and memory. A share is a guarantee: the two
// sides' shares add to at most 1, and when both want more than there is, each is held to what the other's guarantee
// leaves.
struct SideShare {
  double cpu = 0;
  double memory = 0;                   // 0 = not stated
  int64_t disk_write_bytes_per_s = 0;  // 0 = no limit; also the next two
  int64_t disk_read_bytes_per_s = 0;
  int64_t disk_iops = 0;
  bool operator==(const SideShare&) const = default;
};

// With lend, either side may use what the other leaves idle, and gives it back at once; what nobody is sure of goes to
// serving first. Without lend a share is a wall, also while the other side idles.
struct Split {
  SideShare serving = {.cpu = 1}, training;  // by default: training gets what serving leaves
  bool lend = true;
  // Time ratio: of every `ratio_every_ms`, training may run in the first `ratio_training` part, serving has the rest
  // alone. 0 = no ratio.
  int64_t ratio_every_ms = 0;
  double ratio_training = 0;  // 0..1
  bool operator==(const Split&) const = default;
};

struct Window {
  std::string name;
  CalendarWindow when;
  Split split;
};

struct Sharing {
  Split split;                  // outside every window
  std::vector<Window> windows;  // the first open one counts
  double min_training = 0.05;   // latency_first never leaves training less of the machine, 0..1
  bool gate = true;             // false: nothing is taken back between the policy's decisions
};

}  // namespace tandem::scheduling
