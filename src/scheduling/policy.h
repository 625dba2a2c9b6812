#pragma once
// The policy: who gets what, and when to give way. Pure: no clock, no thread, no I/O; the same snapshot gives the same
// actions, each with a reason in words. What a policy must remember from one round to the next it gives back in
// Actions::memory, and finds in the next Snapshot.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "scheduling/sharing.h"

namespace tandem::scheduling {

enum class JobPhase { kQueued, kActive, kPaused, kStopping };

struct JobDemand {
  int32_t id = 0;
  JobPhase phase = JobPhase::kQueued;
  int64_t priority = 0;
  int64_t waiting_ms = 0;     // since it was last queued (a released job begins anew)
  int64_t not_before_ms = 0;  // > now: a retry that waits
  int64_t threads = 1;        // asked for; 0 = as many as there are
  int64_t memory_bytes = 0;   // estimated
  bool pause_requested = false;
  std::string window;              // only while this window is open; "" = whenever training may run
  int64_t checkpoint_ms = 0;       // what writing a checkpoint takes; 0 = unknown
  int64_t lost_if_stopped_ms = 0;  // work since its last checkpoint (a clean stop loses none)
  int64_t time_limit_ms = 0;       // of all attempts together; 0 = none
  int64_t ran_ms = 0;              // all attempts together
};

// What one served model did since the last round and over the last second.
struct ModelLoad {
  std::string name;
  double slo_ms = 0;          // target p99; 0 = none
  double p99_ms = 0;          // over the last second; 0 without requests
  double requests_per_s = 0;  // over the last second
  int64_t requests = 0;       // in that second
  int waiting = 0;            // queued now
};

// How strongly training is kept away from serving by the kernel.
enum class Strength { kRealtime, kWeight, kWeak };

// What a policy remembers: the slow share's state, and the last round's window.
struct ShareMemory {
  double training_share = 1;  // of the usable CPUs, 0..1
  int64_t changed_ms = 0;     // when it was last changed
  int64_t lowered_ms = 0;     // when it was last lowered
  int64_t calm_since_ms = 0;  // since when all targets are met with a margin; 0 = they are not
  int64_t idle_since_ms = 0;  // since when no model with a target has requests; 0 = some has
  std::string window;         // that was open
  bool operator==(const ShareMemory&) const = default;
};

struct Snapshot {
  int64_t now_ms = 0;                 // UTC
  int cpus = 1;                       // usable
  int64_t training_threads = 1;       // threads that the training side may use
  int64_t training_memory_bytes = 0;  // memory that the training side may use
  int64_t memory_bytes = 0;           // usable by both sides: what memory shares are parts of; 0 = training's
  int max_running_jobs = 1;
  bool stopping = false;  // the daemon is shutting down: start nothing
  std::vector<JobDemand> jobs;

  Strength strength = Strength::kWeak;
  double serving_cpus = 0;  // CPUs in use by serving over the last second
  std::vector<ModelLoad> models;
  const Sharing* sharing = nullptr;  // never null for Decide
  ShareMemory memory;
  bool automatic = true;  // false: the share is set by hand and stays
};

struct StartJob {
  int32_t id = 0;
  int64_t threads = 1;
  int64_t weight = 1000;  // among training jobs, 1..10000: the first has 1000, one that fills gaps 50
  std::string reason;
};
struct JobReason {
  int32_t id = 0;
  std::string reason;
};

// What each side may use from now on.
struct Grant {
  std::string window;         // the open window's name; "" = none
  bool training_open = true;  // false: no job may run (no share now, or not its part of a ratio)
  double training_cpus = 0;   // hard cap, in CPUs; 0 = none (weights and the gate do the work)
  double serving_cpus = 0;    // admission cap, in CPUs; 0 = none
  int serving_instances = 0;  // of each version where their number is open: what a wall's CPUs keep busy; 0 = no bound
  int training_threads = 1;   // all jobs together may run so many at once (>= 1 while open, else 0)
  int64_t training_memory_bytes = 0, training_memory_high_bytes = 0;  // max and high of the training side
  int64_t serving_memory_bytes = 0;                                   // 0 = no limit
  SideShare training_disk, serving_disk;                              // the disk fields only
  int64_t next_edge_ms = 0;  // when windows change this next; 0 = never. (A ratio's edges are not in it.)
  bool operator==(const Grant&) const = default;
};

// One thing that the policy changed by itself: kept, shown, can be undone.
struct Decision {
  std::string what;  // "training_share", "window"
  double from = 0, to = 0;
  std::string reason;
};

struct Actions {
  std::vector<StartJob> start;
  std::vector<JobReason> waiting;  // queued jobs: why, and what would start it
  std::vector<JobReason> pause;    // frozen in memory
  std::vector<JobReason> resume;
  std::vector<JobReason> release;  // active or paused: checkpoint and back to the queue (window's edge, pre-empted)
  std::vector<JobReason> expire;   // out of time
  Grant grant;
  ShareMemory memory;
  std::vector<Decision> decisions;
};

class Policy {
 public:
  virtual ~Policy() = default;
  virtual std::string_view name() const = 0;
  virtual Actions Decide(const Snapshot& snapshot) const = 0;
};

// "latency_first": the shares of the open window, and the training share follows the models' targets. "windows": the
// shares of the open window. "static_split": the outer shares, always.
// All three start jobs by priority (that rises with waiting: one step an hour), then by waiting time, where they fit.
absl::StatusOr<std::unique_ptr<Policy>> MakePolicy(std::string_view name);
std::vector<std::string> PolicyNames();

// The fast gate, every 10-50 ms: how many training threads may run until the next round. Pure as well: the caller keeps
// what GateDecision gives back and hands it in again.
struct GateSnapshot {
  Strength strength = Strength::kWeak;
  int granted_threads = 1;              // by the slow share
  int64_t now_ms = 0;                   // monotonic
  int busy_instances = 0, waiting = 0;  // requests that run and that wait now
  double serving_cpus = 0;              // over the last round, in CPUs
  int cpus = 1;
  double worst_ratio = 0;      // max over models with a target of (p99 of the last ~100 ms / target); 0 = no requests
  int64_t worst_requests = 0;  // that it was measured on
  std::string worst_model;     // whose it is, and its target; for the reason only
  double worst_slo_ms = 0;
  int allowed = 1;              // what the last round gave
  int64_t closed_since_ms = 0;  // since when no thread may run; 0 = some may
  int64_t calm_since_ms = 0;    // since when nothing speaks against opening; 0 = something does
  bool off = false;             // a person turned the gate off: all that is granted may run
};
struct GateDecision {
  int allowed = 1;
  int64_t closed_since_ms = 0, calm_since_ms = 0;
  std::string_view reason;  // a literal
};
GateDecision DecideGate(const GateSnapshot& snapshot);
// The decision's reason with the figures of the snapshot that it was made from, for people.
std::string ReasonWithFigures(const GateSnapshot& snapshot, const GateDecision& decision);

}  // namespace tandem::scheduling
