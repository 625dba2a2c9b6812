#include "daemon/governor.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>

#include "base/status.h"
#include "telemetry/log.h"

namespace tandem::daemon {
namespace {

constexpr auto kGateRound = std::chrono::milliseconds(20);
constexpr int64_t kSampleNanos = 95'000'000;  // about every fifth round
constexpr int64_t kUndoneNanos = 3'600'000'000'000;
constexpr int64_t kEnforceAgainNanos = 5'000'000'000;

scheduling::Strength StrengthOf(isolation::Rung rung) {
  switch (rung) {
    case isolation::Rung::kRealtime:
      return scheduling::Strength::kRealtime;
    case isolation::Rung::kCgroupWeight:
      return scheduling::Strength::kWeight;
    default:
      return scheduling::Strength::kWeak;
  }
}

scheduling::ShareMemory WithWindow(scheduling::ShareMemory memory, const std::string& window) {
  memory.window = window;
  return memory;
}

}  // namespace

Governor::Governor(const GovernorParts& parts, std::shared_ptr<const Rules> rules)
    : parts_(parts),
      meter_(parts.serving),
      slo_([this](const std::string& model) { return SloOf(model); }),
      rules_(std::move(rules)) {
  memory_.training_share = rules_->spec.training_share;
  grant_.training_threads = static_cast<int>(parts_.training_threads);
  allowed_ = grant_.training_threads;
  thread_ = std::thread([this] { Loop(); });
}

Governor::~Governor() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
  }
  thread_.join();
}

std::shared_ptr<const Rules> Governor::rules() const {
  std::lock_guard lock(mutex_);
  return rules_;
}

void Governor::SetRules(std::shared_ptr<const Rules> rules) {
  std::lock_guard lock(mutex_);
  // A share set by hand counts from now on; one that the policy found stays.
  bool by_hand = rules->spec.training_share != rules_->spec.training_share || !rules->spec.automatic;
  if (by_hand) memory_ = WithWindow({.training_share = rules->spec.training_share}, memory_.window);
  held_until_nanos_ = 0;
  rules_ = std::move(rules);
}

// The policy's word first, then the model's own, then the server's.
double Governor::SloOf(const std::string& model) const {
  return rules()->SloOf(model, parts_.catalog->SloOf(model, parts_.default_slo_ms));
}

GovernorView Governor::View() const {
  std::lock_guard lock(mutex_);
  return {.rules = rules_,
          .grant = grant_,
          .memory = memory_,
          .training_threads = parts_.training_threads,
          .allowed_threads = allowed_,
          .gate_reason = std::string(gate_reason_),
          .automatic = rules_->spec.automatic && parts_.clock->MonotonicNanos() >= held_until_nanos_,
          .not_enforced = not_enforced_};
}

absl::Status Governor::Undo() {
  for (const KeptDecision& kept : parts_.book->Decisions()) {
    if (kept.decision.what != "training_share") continue;
    scheduling::Decision undone{"training_share", kept.decision.to, kept.decision.from, "undone by hand"};
    {
      std::lock_guard lock(mutex_);
      memory_ =
          WithWindow({.training_share = kept.decision.from, .changed_ms = parts_.clock->UnixMillis()}, memory_.window);
      held_until_nanos_ = parts_.clock->MonotonicNanos() + kUndoneNanos;
    }
    parts_.book->Decided(undone);
    return absl::OkStatus();
  }
  return FailedPrecondition(
      "the policy has changed nothing by itself yet; there is nothing to undo (the gate takes its changes back by "
      "itself; 'tandem policy set --set gate=false' turns it off)");
}

absl::Status Governor::AddJob(int32_t job, int threads, const std::filesystem::path& file) {
  // Not under the lock, which a pause of another job takes: a file is made.
  TANDEM_ASSIGN_OR_RETURN(auto word, PressureWord::Create(file, static_cast<uint32_t>(threads)));
  std::lock_guard lock(mutex_);
  jobs_[job] = {.word = std::move(word), .threads = threads};
  WriteWords();
  wake_.notify_all();
  return absl::OkStatus();
}

void Governor::RemoveJob(int32_t job) {
  std::lock_guard lock(mutex_);
  jobs_.erase(job);
  WriteWords();
}

void Governor::HoldJob(int32_t job, bool hold) {
  std::lock_guard lock(mutex_);
  auto found = jobs_.find(job);
  if (found == jobs_.end()) return;
  found->second.held = hold;
  WriteWords();
}

void Governor::FillSnapshot(scheduling::Snapshot* snapshot) {
  const int64_t now = parts_.clock->MonotonicNanos();
  if (now - cpu_read_nanos_ >= 1'000'000'000) {
    double seconds = ServingCpuSeconds();
    if (cpu_read_nanos_ > 0)
      serving_cpus_ = std::max(0.0, seconds - cpu_read_seconds_) / (static_cast<double>(now - cpu_read_nanos_) / 1e9);
    cpu_read_nanos_ = now;
    cpu_read_seconds_ = seconds;
  }
  snapshot->cpus = parts_.cpus;
  snapshot->training_threads = parts_.training_threads;
  snapshot->training_memory_bytes = parts_.training_memory_bytes;
  snapshot->memory_bytes = parts_.memory_bytes;
  snapshot->max_running_jobs = parts_.max_running_jobs;
  snapshot->strength = StrengthOf(parts_.isolation->capabilities().rung);
  snapshot->serving_cpus = serving_cpus_;
  snapshot->models = meter_.LastSecond(slo_);
  std::lock_guard lock(mutex_);
  deciding_ = rules_;
  snapshot->sharing = &deciding_->sharing;
  snapshot->memory = memory_;
  snapshot->automatic = rules_->spec.automatic && now >= held_until_nanos_;
}

void Governor::Enforce(const scheduling::Actions& actions) {
  for (const scheduling::Decision& decision : actions.decisions) {
    parts_.book->Decided(decision);
    Log(LogLevel::kInfo, "the policy decided",
        {{"what", decision.what}, {"from", decision.from}, {"to", decision.to}, {"reason", decision.reason}});
  }
  bool changed;
  {
    std::lock_guard lock(mutex_);
    changed = !(grant_ == actions.grant);
    // Rules or an undo may have come while the policy decided; then its answer is from before. What is held is the
    // share alone: a window that is not remembered would be said to open in each round.
    if (deciding_ == rules_) {
      const bool held = parts_.clock->MonotonicNanos() < held_until_nanos_;
      memory_ = held ? WithWindow(memory_, actions.memory.window) : actions.memory;
    }
    grant_ = actions.grant;
  }
  // What runs may be above a limit of memory, and has gone a while later.
  const bool again = enforce_again_nanos_ != 0 && parts_.clock->MonotonicNanos() >= enforce_again_nanos_;
  if (changed || again) EnforceLimits(actions.grant);
}

// Writing kernel files may wait: without the lock that the gate takes.
void Governor::EnforceLimits(const scheduling::Grant& grant) {
  // A soft limit at or above the hard one says nothing.
  const bool soft = grant.training_memory_high_bytes < grant.training_memory_bytes;
  isolation::GroupLimits limits{.cpu_cap = grant.training_cpus,
                                .memory_high_bytes = soft ? grant.training_memory_high_bytes : 0,
                                .memory_max_bytes = grant.training_memory_bytes,
                                .disk_write_bytes_per_s = grant.training_disk.disk_write_bytes_per_s,
                                .disk_read_bytes_per_s = grant.training_disk.disk_read_bytes_per_s,
                                .disk_iops = grant.training_disk.disk_iops};
  parts_.serving->SetMemoryLimit(grant.serving_memory_bytes);
  parts_.serving->SetInstanceBound(grant.serving_instances);
  parts_.set_training_rate(static_cast<double>(limits.disk_write_bytes_per_s));
  absl::StatusOr<std::vector<std::string>> set = parts_.isolation->SetSideLimits(limits);
  std::vector<std::string> not_enforced;
  if (set.ok()) {
    not_enforced = *std::move(set);
    enforce_again_nanos_ = 0;
  } else {
    not_enforced.push_back(std::string(MessageOf(set.status())));
    enforce_again_nanos_ = parts_.clock->MonotonicNanos() + kEnforceAgainNanos;
  }
  EnforceServingDisk(grant.serving_disk);
  not_enforced.insert(not_enforced.end(), serving_disk_not_enforced_.begin(), serving_disk_not_enforced_.end());
  std::vector<std::string> said = not_enforced;
  {
    std::lock_guard lock(mutex_);
    said.swap(not_enforced_);
    wake_.notify_all();
  }
  for (const std::string& sentence : not_enforced) {
    if (std::find(said.begin(), said.end(), sentence) != said.end()) continue;
    Log(LogLevel::kWarning, "a limit is not enforced", {{"why", sentence}});
  }
}

void Governor::EnforceServingDisk(const scheduling::SideShare& disk) {
  if (disk == serving_disk_) return;
  serving_disk_ = disk;
  serving_disk_not_enforced_ = parts_.set_serving_disk({.disk_write_bytes_per_s = disk.disk_write_bytes_per_s,
                                                        .disk_read_bytes_per_s = disk.disk_read_bytes_per_s,
                                                        .disk_iops = disk.disk_iops});
  for (std::string& sentence : serving_disk_not_enforced_)
    sentence = StrCat("serving's disk limits, of helpers that check and prepare models: ", sentence);
  if (disk.disk_read_bytes_per_s > 0 || disk.disk_iops > 0) {
    serving_disk_not_enforced_.emplace_back(
        "serving.disk_read and disk_iops hold for helpers that check and prepare models alone: the server itself reads "
        "models by mapping them, and is in no group");
  }
}

double Governor::ServingCpuSeconds() const {
  return parts_.serving->ChildCpuSeconds() + parts_.isolation->LatencyCpuSeconds();
}

bool Governor::Busy() const { return !jobs_.empty() || grant_.serving_cpus > 0 || parts_.budget->limit() > 0; }

void Governor::Loop() {
  pthread_setname_np(pthread_self(), "gate");
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (!Busy()) {
      gate_nanos_ = 0;
      lock.unlock();  // the meter asks for targets, and so for this lock, under its own
      meter_.Forget();
      lock.lock();
      wake_.wait(lock, [&] { return stopping_ || Busy(); });
    }
    wake_.wait_for(lock, kGateRound, [&] { return stopping_; });
    lock.unlock();
    GateRound();
    lock.lock();
  }
}

scheduling::GateSnapshot Governor::LookAtServing(double elapsed, double used) const {
  scheduling::GateSnapshot snapshot;
  for (const serving::LoadNow& load : parts_.serving->Loads()) {
    snapshot.busy_instances += load.busy;
    snapshot.waiting += load.waiting;
  }
  snapshot.strength = StrengthOf(parts_.isolation->capabilities().rung);
  snapshot.now_ms = gate_nanos_ / 1'000'000;
  snapshot.serving_cpus = used / elapsed;
  snapshot.cpus = parts_.cpus;
  WorstLoad worst = meter_.Worst(slo_);
  snapshot.worst_ratio = worst.ratio;
  snapshot.worst_requests = worst.requests;
  snapshot.worst_model = std::move(worst.model);
  snapshot.worst_slo_ms = worst.slo_ms;
  snapshot.closed_since_ms = closed_since_ms_;
  snapshot.calm_since_ms = calm_since_ms_;
  return snapshot;
}

void Governor::GateRound() {
  const int64_t now = parts_.clock->MonotonicNanos();
  if (now - sampled_nanos_ >= kSampleNanos) {
    meter_.Sample(now);
    sampled_nanos_ = now;
  }
  const double cpu_seconds = ServingCpuSeconds();
  const double elapsed = gate_nanos_ > 0 ? static_cast<double>(now - gate_nanos_) / 1e9 : 0;
  // A thread that left takes what it used with it.
  const double used = gate_nanos_ > 0 ? std::max(0.0, cpu_seconds - gate_cpu_seconds_) : 0;
  gate_nanos_ = now;
  gate_cpu_seconds_ = cpu_seconds;
  if (elapsed <= 0) return;

  scheduling::GateSnapshot snapshot = LookAtServing(elapsed, used);
  scheduling::GateDecision decision;
  {
    std::lock_guard lock(mutex_);
    if (parts_.budget->limit() != grant_.serving_cpus) parts_.budget->SetLimit(grant_.serving_cpus);
    parts_.budget->Settle(elapsed, used);
    snapshot.granted_threads = grant_.training_open ? grant_.training_threads : 0;
    snapshot.allowed = allowed_;
    snapshot.off = !rules_->spec.gate;
    decision = scheduling::DecideGate(snapshot);
    closed_since_ms_ = decision.closed_since_ms;
    calm_since_ms_ = decision.calm_since_ms;
    gate_reason_ = decision.reason;
    if (allowed_ == decision.allowed) return;
    allowed_ = decision.allowed;
    WriteWords();
  }
  // Kept once the threads know, and without the lock that others wait for.
  parts_.book->gate().Add(parts_.clock->UnixMillis(), snapshot, decision);
}

// In the order of their numbers: what the first cannot use is the next one's. With nothing taken back every job may use
// all of its threads, and their weights tell them apart.
void Governor::WriteWords() {
  int left = allowed_;
  const bool all = allowed_ >= parts_.training_threads;
  for (auto& [id, job] : jobs_) {
    int threads = job.held ? 0 : std::min(job.threads, all ? job.threads : left);
    if (!job.held) left -= threads;
    job.word->Set(static_cast<uint32_t>(threads));
  }
}

}  // namespace tandem::daemon
