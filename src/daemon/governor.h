#pragma once
// Holds both sides to what the policy grants: the training side's limits, each job's pressure word, serving's CPU
// budget. The control loop asks it 10 times a second; a thread of its own (the fast gate) looks every 20 ms while a job
// runs or serving is held to a share, and sleeps otherwise.
#include <condition_variable>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "base/pressure_word.h"
#include "daemon/load_meter.h"
#include "daemon/model_catalog.h"
#include "daemon/policy_book.h"
#include "daemon/rules.h"
#include "isolation/isolation.h"
#include "scheduling/policy.h"
#include "serving/cpu_budget.h"
#include "serving/serving.h"

namespace tandem::daemon {

struct GovernorParts {  // all outlive it
  Clock* clock;
  isolation::Isolation* isolation;
  serving::Serving* serving;
  serving::CpuBudget* budget;
  PolicyBook* book;
  const ModelCatalog* catalog;
  // Enforces serving's disk limits (the disk fields only); gives what does not hold.
  std::function<std::vector<std::string>(const isolation::GroupLimits&)> set_serving_disk;
  // Enforces training's disk_write on what this process itself writes; 0 = no limit.
  std::function<void(double bytes_per_s)> set_training_rate;
  int cpus = 1;
  int64_t training_threads = 1, training_memory_bytes = 0, memory_bytes = 0;
  int max_running_jobs = 1;
  double default_slo_ms = 0;  // 0 = no target
};

// What is in force now, for whoever shows it.
struct GovernorView {
  std::shared_ptr<const Rules> rules;
  scheduling::Grant grant;
  scheduling::ShareMemory memory;
  int64_t training_threads = 1;  // that the settings give all jobs together
  int allowed_threads = 0;       // by the gate
  std::string gate_reason;
  bool automatic = true;
  std::vector<std::string> not_enforced;
};

class Governor {
 public:
  Governor(const GovernorParts& parts, std::shared_ptr<const Rules> rules);
  ~Governor();
  Governor(const Governor&) = delete;
  Governor& operator=(const Governor&) = delete;

  // Thread-safe from here...
  std::shared_ptr<const Rules> rules() const;
  void SetRules(std::shared_ptr<const Rules> rules);
  GovernorView View() const;
  double SloOf(const std::string& model) const;
  // Sets the share back to what it was before the last decision, and keeps it for an hour.
  absl::Status Undo();
  LoadMeter& meter() { return meter_; }
  // A job's word; RemoveJob when its trainer is gone. `file` is made.
  absl::Status AddJob(int32_t job, int threads, const std::filesystem::path& file);
  void RemoveJob(int32_t job);
  // Nothing of it runs while it is held.
  void HoldJob(int32_t job, bool hold);
  // ...to here. The rest is for the control loop's thread.

  // Everything but the jobs. What it points to holds until the next call.
  void FillSnapshot(scheduling::Snapshot* snapshot);
  scheduling::Actions Decide(const scheduling::Snapshot& snapshot) const { return deciding_->policy->Decide(snapshot); }
  void Enforce(const scheduling::Actions& actions);

 private:
  struct Job {
    std::unique_ptr<PressureWord> word;
    int threads = 1;
    bool held = false;
  };
  void Loop();
  void GateRound();
  // What it looked at in a round of `elapsed` seconds in which serving used `used` CPU seconds.
  scheduling::GateSnapshot LookAtServing(double elapsed, double used) const;
  bool Busy() const;  // REQUIRES: mutex_ held
  void WriteWords();  // REQUIRES: mutex_ held
  void EnforceLimits(const scheduling::Grant& grant);
  void EnforceServingDisk(const scheduling::SideShare& disk);
  // That requests took, in this process and in those of engines.
  double ServingCpuSeconds() const;

  const GovernorParts parts_;
  LoadMeter meter_;
  const SloLookup slo_;

  // Of the control loop's thread.
  std::shared_ptr<const Rules> deciding_;
  int64_t cpu_read_nanos_ = 0;
  double cpu_read_seconds_ = 0, serving_cpus_ = 0;
  scheduling::SideShare serving_disk_;                  // enforced
  std::vector<std::string> serving_disk_not_enforced_;  // of it
  int64_t enforce_again_nanos_ = 0;                     // when a refused limit is tried again; 0 = none was

  // Of the gate's thread.
  int64_t gate_nanos_ = 0, sampled_nanos_ = 0;
  double gate_cpu_seconds_ = 0;
  int64_t closed_since_ms_ = 0, calm_since_ms_ = 0;

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  // All below: guarded by mutex_.
  std::shared_ptr<const Rules> rules_;
  scheduling::Grant grant_;
  scheduling::ShareMemory memory_;
  int64_t held_until_nanos_ = 0;  // the share is not adjusted before; monotonic
  int allowed_ = 1;
  std::string_view gate_reason_;
  std::vector<std::string> not_enforced_;
  std::map<int32_t, Job> jobs_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace tandem::daemon
