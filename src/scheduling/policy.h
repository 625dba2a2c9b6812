#pragma once
// The policy: who gets what, and when to give way. Pure: no clock, no thread, no I/O; the same snapshot gives the same
// actions, each with a reason in words.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace tandem::scheduling {

enum class JobPhase { kQueued, kActive, kPaused };

struct JobDemand {
  int32_t id = 0;
  JobPhase phase = JobPhase::kQueued;
  int64_t priority = 0;
  int64_t waiting_ms = 0;     // since it was queued
  int64_t not_before_ms = 0;  // > now: a retry that waits
  int64_t threads = 1;        // asked for; 0 = as many as there are
  int64_t memory_bytes = 0;   // estimated
  bool pause_requested = false;
};

struct Snapshot {
  int64_t now_ms = 0;
  int cpus = 1;                       // usable
  int64_t training_threads = 1;       // threads that the training side may use
  int64_t training_memory_bytes = 0;  // memory that the training side may use
  int max_running_jobs = 1;
  bool stopping = false;  // the daemon is shutting down: start nothing
  std::vector<JobDemand> jobs;
};

struct StartJob {
  int32_t id = 0;
  int64_t threads = 1;
  std::string reason;
};
struct KeepWaiting {
  int32_t id = 0;
  std::string reason;
};  // why, and what would start it
struct PauseJob {
  int32_t id = 0;
  std::string reason;
};
struct ResumeJob {
  int32_t id = 0;
  std::string reason;
};
struct Actions {
  std::vector<StartJob> start;
  std::vector<KeepWaiting> waiting;
  std::vector<PauseJob> pause;
  std::vector<ResumeJob> resume;
};

class Policy {
 public:
  virtual ~Policy() = default;
  virtual std::string_view name() const = 0;
  virtual Actions Decide(const Snapshot& snapshot) const = 0;
};

// "static_split": fixed shares; the highest priority first, then the longest waiting; a job starts if it fits.
absl::StatusOr<std::unique_ptr<Policy>> MakePolicy(std::string_view name);

}  // namespace tandem::scheduling
