#include "scheduling/simulator.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/status.h"
#include "scheduling/request_model.h"

namespace tandem::scheduling {
namespace {

constexpr int kSlotsPerRound = 5;  // the policy's
constexpr int64_t kShortestSampleMs = 2000, kLongestSampleMs = 60'000;
constexpr int64_t kSamplePart = 50;           // one in so many
constexpr int64_t kLongestUnrestMs = 60'000;  // a policy that does not come to rest is sampled as it is
constexpr int64_t kBeforeEdgeMs = 5000;       // jobs are released a while before a window's edge
constexpr double kRestingBacklogMs = 20;      // a queue that grows by more in a sample is not at rest
// Of the CPU time that training could have (docs/isolation.md): one job sleeps at the join of each step.
constexpr double kEfficiencyOfOneJob = 0.96, kEfficiencyOfMore = 0.99;
constexpr int64_t kMemory = int64_t{1} << 40;  // never short: the load file says nothing about memory

class Simulation {
 public:
  Simulation(const std::vector<LoadPoint>& load, const Policy& policy, const Sharing& sharing,
             const SimulationOptions& options, const std::vector<RequestModel::Model>& models)
      : load_(load),
        policy_(policy),
        sharing_(sharing),
        options_(options),
        requests_(options.cpus, options.strength, options.seed, models),
        now_ms_(load.front().unix_ms),
        end_ms_(load.back().unix_ms) {
    for (size_t i = 0; i < models.size(); ++i) index_[models[i].name] = i;
    snapshot_.cpus = options.cpus;
    snapshot_.training_threads = options.cpus;
    snapshot_.training_memory_bytes = kMemory;
    snapshot_.max_running_jobs = std::max(1, options.jobs);
    snapshot_.strength = options.strength;
    snapshot_.sharing = &sharing;
    snapshot_.automatic = options.automatic;
    snapshot_.memory.training_share = options.training_share;
    for (int id = 1; id <= options.jobs; ++id) snapshot_.jobs.push_back({.id = id, .threads = 0});
    gate_.strength = options.strength;
    gate_.cpus = options.cpus;
    gate_.allowed = 0;
  }

  SimulationResult Run() {
    size_t next_point = 0;
    while (now_ms_ < end_ms_) {
      for (; next_point < load_.size() && load_[next_point].unix_ms <= now_ms_; ++next_point) {
        const LoadPoint& point = load_[next_point];
        requests_.SetLoad(index_.at(point.model), point.requests_per_s, point.service_ms);
      }
      RunStretch(next_point < load_.size() ? load_[next_point].unix_ms : end_ms_);
    }
    return Result();
  }

 private:
  // The same rates until `until_ms`.
  void RunStretch(int64_t until_ms) {
    int64_t began_ms = now_ms_;  // or was skipped to
    BeginSample();
    while (now_ms_ < until_ms) {
      const bool changed = RunRound(until_ms);
      const bool may_rest = now_ms_ - began_ms < kLongestUnrestMs;
      if (changed && may_rest) BeginSample();
      const int64_t edge_ms = actions_.grant.next_edge_ms;
      const int64_t same_until_ms = edge_ms > 0 ? std::min(until_ms, edge_ms - kBeforeEdgeMs) : until_ms;
      const int64_t sample_ms = now_ms_ - sample_began_ms_;
      if (sample_ms < SampleLength(same_until_ms - began_ms) || same_until_ms <= now_ms_) continue;
      if (may_rest && requests_.BacklogMs() > sample_backlog_ms_ + kRestingBacklogMs) {
        BeginSample();
        continue;
      }
      SkipTo(same_until_ms);
      began_ms = now_ms_;
    }
  }

  // Long enough for chance, and whole turns of a time ratio.
  int64_t SampleLength(int64_t stretch_ms) const {
    const int64_t length = std::clamp(stretch_ms / kSamplePart, kShortestSampleMs, kLongestSampleMs);
    int64_t turn_ms = sharing_.split.ratio_every_ms;
    for (const Window& window : sharing_.windows) turn_ms = std::max(turn_ms, window.split.ratio_every_ms);
    return turn_ms > 0 ? (length + turn_ms - 1) / turn_ms * turn_ms : length;
  }

  void BeginSample() {
    requests_.BeginSample();
    training_ms_sample_ = 0;
    sample_began_ms_ = now_ms_;
    sample_backlog_ms_ = requests_.BacklogMs();
  }

  void SkipTo(int64_t ms) {
    const double sample_ms = static_cast<double>(now_ms_ - sample_began_ms_),
                 skipped = static_cast<double>(ms - now_ms_);
    requests_.Extrapolate(sample_ms, skipped);
    training_ms_ += training_ms_sample_ * skipped / sample_ms;
    now_ms_ = ms;
    BeginSample();
  }

  // One round of the policy, or what `until_ms` leaves of it; true if something changed that is not chance.
  bool RunRound(int64_t until_ms) {
    const bool changed = Decide();
    for (int slot = 0; slot < kSlotsPerRound && now_ms_ < until_ms; ++slot) RunSlot();
    return changed;
  }

  bool Decide() {
    snapshot_.now_ms = now_ms_;
    requests_.FillLoads(&snapshot_.models);
    snapshot_.serving_cpus = requests_.ServingCpus();
    actions_ = policy_.Decide(snapshot_);
    decisions_ += static_cast<int64_t>(actions_.decisions.size());
    bool changed = !actions_.decisions.empty() || actions_.grant.window != snapshot_.memory.window;
    // A share that counts the seconds until it rises.
    const ShareMemory& memory = actions_.memory;
    changed |= memory.training_share < 1 && (memory.calm_since_ms > 0 || memory.idle_since_ms > 0);
    auto set = [&](int32_t id, JobPhase phase) {
      snapshot_.jobs[id - 1].phase = phase;
      // A time ratio holds starts for its part only; its turns are in the sample.
      changed |= actions_.grant.training_open;
    };
    for (const StartJob& start : actions_.start) set(start.id, JobPhase::kActive);
    for (const JobReason& release : actions_.release) set(release.id, JobPhase::kQueued);
    snapshot_.memory = memory;
    requests_.SetAdmissionCap(actions_.grant.serving_cpus);
    return changed;
  }

  int ActiveJobs() const {
    return static_cast<int>(std::count_if(snapshot_.jobs.begin(), snapshot_.jobs.end(),
                                          [](const JobDemand& job) { return job.phase == JobPhase::kActive; }));
  }

  void RunSlot() {
    const double busy_cpus = requests_.RunSlot(training_threads_) / kSlotMs;
    const int active = ActiveJobs();
    double training_cpus = std::clamp(options_.cpus - busy_cpus, 0.0, static_cast<double>(training_threads_));
    if (actions_.grant.training_cpus > 0) training_cpus = std::min(training_cpus, actions_.grant.training_cpus);
    training_cpus *= active > 1 ? kEfficiencyOfMore : kEfficiencyOfOneJob;
    training_ms_ += training_cpus * kSlotMs;
    training_ms_sample_ += training_cpus * kSlotMs;
    now_ms_ += kSlotMs;
    gate_now_ms_ += kSlotMs;
    RunGate(busy_cpus, active);
  }

  void RunGate(double busy_cpus, int active) {
    gate_.now_ms = gate_now_ms_;
    gate_.granted_threads = active > 0 ? actions_.grant.training_threads : 0;
    gate_.serving_cpus = busy_cpus;
    gate_.off = !sharing_.gate;
    requests_.FillGate(&gate_);
    const GateDecision decision = DecideGate(gate_);
    gate_.allowed = decision.allowed;
    gate_.closed_since_ms = decision.closed_since_ms;
    gate_.calm_since_ms = decision.calm_since_ms;
    // Threads begin at once, and stop when their micro-batch ends.
    if (gate_.allowed < training_threads_ && static_cast<double>(late_slots_ * kSlotMs) < options_.micro_batch_ms) {
      ++late_slots_;
      return;
    }
    training_threads_ = gate_.allowed;
    late_slots_ = 0;
  }

  SimulationResult Result() const {
    SimulationResult result;
    result.policy = std::string(policy_.name());
    const double total_ms = static_cast<double>(end_ms_ - load_.front().unix_ms);
    result.hours = total_ms / 3'600'000;
    double requests = 0, attained = 0;
    for (size_t i = 0; i < requests_.size(); ++i) {
      const RequestTally& tally = requests_.all(i);
      result.models.push_back({.model = requests_.model(i).name,
                               .requests = std::llround(tally.requests),
                               .refused = std::llround(tally.refused),
                               .attainment = tally.requests > 0 ? tally.attained / tally.requests : 1,
                               .p99_ms = requests_.P99Ms(i)});
      requests += tally.requests;
      attained += tally.attained;
    }
    if (requests > 0) result.attainment = attained / requests;
    result.training_cpu_hours = training_ms_ / 3'600'000;
    const double left_ms = total_ms * options_.cpus - requests_.serving_ms();
    if (left_ms > 0) result.training_fraction = std::min(1.0, training_ms_ / left_ms);
    result.decisions = decisions_;
    return result;
  }

  const std::vector<LoadPoint>& load_;
  const Policy& policy_;
  const Sharing& sharing_;
  const SimulationOptions& options_;
  std::map<std::string, size_t> index_;
  RequestModel requests_;
  int64_t now_ms_;
  const int64_t end_ms_;
  Snapshot snapshot_;
  Actions actions_;
  GateSnapshot gate_;
  int64_t gate_now_ms_ = 1;   // a clock of its own: skipped time is no time for the gate
  int training_threads_ = 0;  // that run
  int64_t late_slots_ = 0;
  int64_t sample_began_ms_ = 0;
  double sample_backlog_ms_ = 0;
  double training_ms_ = 0, training_ms_sample_ = 0;
  int64_t decisions_ = 0;
};

absl::Status CheckOptions(const SimulationOptions& options) {
  if (options.cpus < 1 || options.cpus > 4096) return InvalidArgument("cpus is ", options.cpus, ", must be 1 to 4096");
  if (options.jobs < 0 || options.jobs > 1000) return InvalidArgument("jobs is ", options.jobs, ", must be 0 to 1000");
  if (!(options.micro_batch_ms > 0 && options.micro_batch_ms <= 60'000)) {
    return InvalidArgument("micro_batch_ms is ", options.micro_batch_ms, ", must be above 0, up to 60000");
  }
  if (!(options.training_share >= 0 && options.training_share <= 1)) {
    return InvalidArgument("training_share is ", options.training_share, ", must be 0 to 1");
  }
  if (!(options.default_slo_ms > 0))
    return InvalidArgument("default_slo_ms is ", options.default_slo_ms, ", must be above 0");
  for (const auto& [model, slo_ms] : options.slo_ms) {
    if (!(slo_ms > 0)) return InvalidArgument("slo_ms of '", model, "' is ", slo_ms, ", must be above 0");
  }
  return absl::OkStatus();
}

// The models of the load, in the order of their names, with their targets.
absl::StatusOr<std::vector<RequestModel::Model>> ModelsOf(const std::vector<LoadPoint>& load,
                                                          const SimulationOptions& options) {
  std::map<std::string, double> targets;
  for (size_t i = 0; i < load.size(); ++i) {
    targets[load[i].model] = options.default_slo_ms;
    if (i > 0 && load[i].unix_ms < load[i - 1].unix_ms) {
      return InvalidArgument("the load's times must rise: point ", i + 1, " is before point ", i);
    }
  }
  for (const auto& [name, slo_ms] : options.slo_ms) {
    auto found = targets.find(name);
    if (found != targets.end()) found->second = slo_ms;
  }
  std::vector<RequestModel::Model> models;
  for (const auto& [name, target] : targets) models.push_back({.name = name, .target_ms = target});
  return models;
}

}  // namespace

absl::StatusOr<SimulationResult> Simulate(const std::vector<LoadPoint>& load, const Policy& policy,
                                          const Sharing& sharing, const SimulationOptions& options) {
  TANDEM_RETURN_IF_ERROR(CheckOptions(options));
  if (load.empty() || load.front().unix_ms == load.back().unix_ms) {
    return InvalidArgument("the load must have two times at least: the last one is the end");
  }
  TANDEM_ASSIGN_OR_RETURN(std::vector<RequestModel::Model> models, ModelsOf(load, options));
  return Simulation(load, policy, sharing, options, models).Run();
}

absl::StatusOr<BestSplit> FindBestStaticSplit(const std::vector<LoadPoint>& load, double attainment,
                                              const SimulationOptions& options) {
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<Policy> policy, MakePolicy("static_split"));
  BestSplit best;
  for (int percent = 0; percent <= 100; percent += 5) {
    const double share = percent / 100.0;
    const Sharing sharing{.split = {.serving = {.cpu = 1 - share}, .training = {.cpu = share}, .lend = false}};
    TANDEM_ASSIGN_OR_RETURN(SimulationResult result, Simulate(load, *policy, sharing, options));
    const bool good = result.attainment >= attainment, best_is_good = best.result.attainment >= attainment;
    const bool better = good != best_is_good ? good
                        : good               ? result.training_cpu_hours > best.result.training_cpu_hours
                                             : result.attainment > best.result.attainment;
    if (percent == 0 || better) best = {share, std::move(result)};
  }
  return best;
}

}  // namespace tandem::scheduling
