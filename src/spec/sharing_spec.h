#pragma once
// How the machine is shared, as a person writes it: the YAML of `tandem policy set` and of `sharing:` in tandem.yaml.
//
//   policy: latency_first            # latency_first, windows, static_split
//   automatic: true                  # false: the training share is not adjusted by itself
//   training_share: 100%             # with automatic: false, and where latency_first begins
//   min_training: 5%                 # latency_first never leaves training less
//   gate: true                       # false: no look every 20 ms that takes threads back while requests need them
//   lend: true
//   serving:  {cpu: 70%, memory: 60%, disk_write: 50MB/s, disk_read: 0, disk_iops: 0, disk_area: 20GB}
//   training: {cpu: 30%, memory: 40%, disk_write: 20MB/s, disk_area: 100GB}
//   ratio: {training: 70%, every: 10s}
//   time_zone: Europe/Berlin         # of windows that give none
//   holidays: [2026-12-25]
//   slo_ms: {fashion: 5}             # target p99 of models
//   windows:
//     - {name: weekend, days: weekend, training: {cpu: 100%}, ratio: none, over: night}
//     - {name: night, days: daily, from: "22:00", to: "06:00", serving: {cpu: 10%}}
//
// Where the cpu of one side alone is given, or overridden, the other side has the rest. A window takes what it does not
// say from the outer level; `over` names windows written below it that it wins against where both are open. disk_area:
// the greatest size of the side's folder, at all times.
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/calendar.h"

namespace tandem::spec {

struct SideSpec {
  double cpu = 0, memory = 0;                                                    // 0..1; memory 0 = not stated
  int64_t disk_write_bytes_per_s = 0, disk_read_bytes_per_s = 0, disk_iops = 0;  // 0 = no limit
  int64_t disk_area_bytes = 0;                                                   // 0 = no limit; outer level only
  bool operator==(const SideSpec&) const = default;
};

struct SplitSpec {
  SideSpec serving = {.cpu = 1}, training;
  bool lend = true;
  double ratio_training = 0;  // with ratio_every_s > 0
  double ratio_every_s = 0;   // 0 = no ratio
  bool operator==(const SplitSpec&) const = default;
};

struct WindowOfSharing {
  std::string name;
  WindowSpec when;
  CalendarWindow window;
  SplitSpec split;                // complete: what the window does not say is the outer level's
  std::vector<std::string> over;  // later windows that may be open with it and say something else
};

// Plain data; thread-compatible.
struct SharingSpec {
  std::string policy = "latency_first";
  bool automatic = true;
  bool gate = true;
  double training_share = 1, min_training = 0.05;
  SplitSpec split;
  std::string time_zone;
  std::vector<std::string> holidays;
  std::map<std::string, double> slo_ms;  // by model
  std::vector<WindowOfSharing> windows;  // the first open one counts
};

// "file:line:column: key: what is wrong; what to do". Errors: shares of both sides above 100 %; a window that never
// opens; two windows open at the same time that say different things ("windows 'a' (line 3) and 'b' (line 9) are both
// open on Monday 2026-01-05 from 22:00 and give training.cpu 90% and 10%"), unless the first is `over` the second; a
// side that could never run (share 0 and lend false, or 0 % of a ratio, outside the windows and in each). `overrides`
// are "key.path=value", applied after the text; a window is named by its index or name ("windows.night.from=23:00").
// The answer does not depend on the time of the call. Models may be unknown.
absl::StatusOr<SharingSpec> ParseSharing(std::string_view yaml, std::string_view source,
                                         const std::vector<std::string>& overrides = {});
// Canonical YAML; ParseSharing of it gives the same.
std::string ToYaml(const SharingSpec& sharing);

}  // namespace tandem::spec
