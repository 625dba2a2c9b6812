#pragma once
// Snapshots for the policies' tests.
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "scheduling/policy.h"

namespace tandem::scheduling {

// "2026-11-21T21:00:00Z" -> ms.
inline int64_t At(std::string_view text) {
  absl::Time time;
  std::string error;
  EXPECT_TRUE(absl::ParseTime(absl::RFC3339_sec, AbslView(text), &time, &error)) << text << ": " << error;
  return absl::ToUnixMillis(time);
}

inline Window MakeWindow(std::string name, const WindowSpec& when, Split split) {
  absl::StatusOr<CalendarWindow> window = CalendarWindow::Create(when);
  EXPECT_TRUE(window.ok()) << window.status();
  return {std::move(name), *std::move(window), split};
}

// By day training has nothing; from 22:00 to 06:00 in Berlin it has 90 %.
inline const Sharing& NightSharing() {
  static const auto& sharing =
      *new Sharing{.split = {.serving = {.cpu = 1}, .training = {.cpu = 0}, .lend = false},
                   .windows = {MakeWindow("night", {.from = "22:00", .to = "06:00", .time_zone = "Europe/Berlin"},
                                          {.serving = {.cpu = 0.1}, .training = {.cpu = 0.9}})}};
  return sharing;
}

inline const Sharing& DefaultSharing() {
  static const auto& sharing = *new Sharing;
  return sharing;
}

// Two CPUs, two threads and 1 GB of training's, at 2026-11-21 13:00 in Berlin.
inline Snapshot OneMachine(std::vector<JobDemand> jobs = {}, const Sharing* sharing = &DefaultSharing()) {
  Snapshot snapshot;
  snapshot.now_ms = At("2026-11-21T12:00:00Z");
  snapshot.cpus = 2;
  snapshot.training_threads = 2;
  snapshot.training_memory_bytes = 1'000'000'000;
  snapshot.jobs = std::move(jobs);
  snapshot.sharing = sharing;
  return snapshot;
}

inline Actions DecideBy(std::string_view policy, const Snapshot& snapshot) {
  absl::StatusOr<std::unique_ptr<Policy>> made = MakePolicy(policy);
  EXPECT_TRUE(made.ok()) << made.status();
  return (*made)->Decide(snapshot);
}

}  // namespace tandem::scheduling
