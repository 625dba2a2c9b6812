#include "scheduling/grant.h"

#include <algorithm>
#include <cmath>

#include "base/status.h"
#include "scheduling/words.h"

namespace tandem::scheduling {
namespace {

// A wall of 0 for serving would mean "no cap": it is this many CPUs instead.
constexpr double kLeastServingCpus = 0.01;

// Threads that these CPUs keep busy, one at least. The small number keeps what rounding made of 3.0 from becoming 4.
int WholeCpus(double cpus) { return std::max(1, static_cast<int>(std::ceil(cpus - 1e-9))); }

SideShare DiskOf(const SideShare& side) {
  SideShare disk = side;
  disk.cpu = disk.memory = 0;
  return disk;
}

void SetMemory(const Snapshot& snapshot, const Split& split, Grant* grant) {
  const int64_t all = snapshot.memory_bytes > 0 ? snapshot.memory_bytes : snapshot.training_memory_bytes;
  auto part = [&](double share) { return static_cast<int64_t>(std::llround(share * static_cast<double>(all))); };
  const int64_t most = snapshot.training_memory_bytes;
  // Without a share of its own training has what serving is not sure of.
  const double share = split.training.memory > 0 ? split.training.memory : 1 - split.serving.memory;
  const int64_t stated = share > 0 ? std::min(part(share), most) : most;
  // What lend gives is taken back by reclaim, above `high`; a wall is `max`.
  grant->training_memory_bytes = split.lend ? most : stated;
  grant->training_memory_high_bytes = stated;
  if (!split.lend && split.serving.memory > 0) grant->serving_memory_bytes = part(split.serving.memory);
}

// CPUs that the jobs that run could use.
double UsableCpus(const Snapshot& snapshot) {
  int64_t threads = 0;
  for (const JobDemand& job : snapshot.jobs) {
    if (job.phase == JobPhase::kActive) threads += job.threads > 0 ? job.threads : snapshot.training_threads;
  }
  return static_cast<double>(std::min(threads, snapshot.training_threads));
}

void SetCpus(const Snapshot& snapshot, const Split& split, Grant* grant) {
  if (!split.lend) {
    grant->training_cpus = split.training.cpu * snapshot.cpus;
    grant->serving_cpus = std::max(split.serving.cpu * snapshot.cpus, kLeastServingCpus);
    grant->serving_instances = WholeCpus(grant->serving_cpus);
    return;
  }
  // What training is sure of is kept from serving as far as training is there to use it.
  const double sure = grant->training_open ? std::min(split.training.cpu * snapshot.cpus, UsableCpus(snapshot)) : 0;
  if (sure > 0) grant->serving_cpus = std::max(snapshot.cpus - sure, kLeastServingCpus);
}

}  // namespace

bool InTrainingsPart(const Split& split, int64_t now_ms) {
  if (split.ratio_every_ms <= 0) return true;
  const int64_t phase = now_ms % split.ratio_every_ms;
  return static_cast<double>(phase) < split.ratio_training * static_cast<double>(split.ratio_every_ms);
}

Grant MakeGrant(const Snapshot& snapshot, const Timetable& timetable, double training_share) {
  Grant grant;
  const Window* window = timetable.OpenWindow(snapshot.now_ms);
  const Split& split = window == nullptr ? timetable.sharing().split : window->split;
  if (window != nullptr) grant.window = window->name;
  grant.training_open = GivesTraining(split) && InTrainingsPart(split, snapshot.now_ms);
  SetCpus(snapshot, split, &grant);
  SetMemory(snapshot, split, &grant);
  double threads = training_share * static_cast<double>(snapshot.training_threads);
  if (!split.lend) threads = std::min(threads, grant.training_cpus);
  grant.training_threads = grant.training_open ? WholeCpus(threads) : 0;
  grant.training_disk = DiskOf(split.training);
  grant.serving_disk = DiskOf(split.serving);
  grant.next_edge_ms = timetable.NextEdge(snapshot.now_ms).value_or(0);
  return grant;
}

void GrantByTimetable(const Snapshot& snapshot, const Timetable& timetable, double training_share, Actions* actions) {
  actions->grant = MakeGrant(snapshot, timetable, training_share);
  const Grant& grant = actions->grant;
  actions->memory.window = grant.window;
  if (grant.window == snapshot.memory.window) return;
  auto split_of = [&](const std::string& name) -> const Split& {
    const Window* window = timetable.Find(name);
    return window == nullptr ? timetable.sharing().split : window->split;
  };
  const Split& split = split_of(grant.window);
  std::string reason = grant.window.empty() ? StrCat("window '", snapshot.memory.window, "' closed")
                                            : StrCat("window '", grant.window, "' opened");
  StrAppend(&reason, ": guaranteed are ", Percent(split.training.cpu), " of the CPUs for training, ",
            Percent(split.serving.cpu), " for serving", split.lend ? "" : ", as walls");
  if (grant.next_edge_ms > 0) StrAppend(&reason, ", until ", CivilText(grant.next_edge_ms, timetable.zone()));
  actions->decisions.push_back(
      {"window", split_of(snapshot.memory.window).training.cpu, split.training.cpu, std::move(reason)});
}

}  // namespace tandem::scheduling
