// "latency_first": the open window's shares, and on top a training share that follows the models' targets: halved when
// a p99 is above its target, raised by steps when all have been well below for a while (AIMD, as TCP does: Chiu and
// Jain, "Analysis of the increase and decrease algorithms for congestion avoidance", 1989).
#include <algorithm>
#include <limits>

#include "base/status.h"
#include "scheduling/grant.h"
#include "scheduling/jobs_plan.h"
#include "scheduling/policies.h"
#include "scheduling/words.h"

namespace tandem::scheduling {
namespace {

constexpr double kLowerFactor = 0.5;
constexpr int64_t kLowerEveryMs = 500;  // at most one halving in so long: its effect must show first
constexpr int64_t kLeastRequests = 20;  // in the last second; a p99 of fewer says nothing
constexpr double kCalmRatio = 0.8;      // p99 / target below which there is a margin; up to 1 the share stays
constexpr int64_t kCalmMs = 3000;       // of margin before the share rises
constexpr int64_t kCoolDownMs = 5000;   // after a halving before it rises
constexpr double kRaiseStep = 0.1;      // of the machine
constexpr int64_t kRaiseEveryMs = 1000;
// Snapshots count the requests of one second: none seen for another one means none for two.
constexpr int64_t kIdleMs = 1000;

// A clock that was set back makes no wait longer.
int64_t Elapsed(int64_t now_ms, int64_t since_ms) {
  return since_ms > now_ms ? std::numeric_limits<int64_t>::max() : now_ms - since_ms;
}

// Keeps a "since" while `holds`, 0 when it does not.
int64_t Since(bool holds, int64_t former_ms, int64_t now_ms) {
  if (!holds) return 0;
  return former_ms == 0 || former_ms > now_ms ? now_ms : former_ms;
}

struct Loads {
  const ModelLoad* missing = nullptr;  // the worst whose p99 is above its target
  const ModelLoad* nearest = nullptr;  // the one with requests and the least margin
  bool calm = true;                    // all with requests have a margin
  bool idle = true;                    // none has requests
};

double Ratio(const ModelLoad& load) { return load.p99_ms / load.slo_ms; }

Loads LookAt(const std::vector<ModelLoad>& models) {
  Loads loads;
  for (const ModelLoad& load : models) {
    if (load.slo_ms <= 0 || (load.requests == 0 && load.waiting == 0)) continue;
    loads.idle = false;
    if (loads.nearest == nullptr || Ratio(load) > Ratio(*loads.nearest)) loads.nearest = &load;
    // Requests that wait while none ends are no calm either.
    if (Ratio(load) >= kCalmRatio || load.requests == 0) loads.calm = false;
    if (load.requests < kLeastRequests || Ratio(load) <= 1) continue;
    if (loads.missing == nullptr || Ratio(load) > Ratio(*loads.missing)) loads.missing = &load;
  }
  return loads;
}

std::string P99Of(const ModelLoad& load, std::string_view relation) {
  return StrCat("p99 of '", load.name, "' ", Short(load.p99_ms), " ms ", relation, " target ", Short(load.slo_ms),
                " ms over ", load.requests, " requests");
}

class Share {
 public:
  Share(const Snapshot& snapshot, Actions* actions)
      : now_ms_(snapshot.now_ms), memory_(actions->memory), actions_(actions) {}

  void Follow(const Loads& loads, double guaranteed, double floor) {
    memory_.calm_since_ms = Since(loads.calm, memory_.calm_since_ms, now_ms_);
    memory_.idle_since_ms = Since(loads.idle, memory_.idle_since_ms, now_ms_);
    if (memory_.training_share < floor) {
      const bool by_guarantee = guaranteed >= floor;
      Set(floor,
          StrCat(by_guarantee ? "the split guarantees training " : "min_training leaves training ", Percent(floor)));
    }
    if (loads.missing != nullptr) {
      Lower(*loads.missing, floor);
    } else if (memory_.training_share < 1) {
      Raise(loads);
    }
  }

 private:
  void Lower(const ModelLoad& missing, double floor) {
    if (memory_.training_share <= floor || Elapsed(now_ms_, memory_.lowered_ms) < kLowerEveryMs) return;
    const double share = std::max(floor, memory_.training_share * kLowerFactor);
    Set(share, P99Of(missing, ">") + (share == floor ? "; this is training's least" : ""));
    memory_.lowered_ms = now_ms_;
  }

  void Raise(const Loads& loads) {
    if (loads.idle) {
      if (Elapsed(now_ms_, memory_.idle_since_ms) >= kIdleMs) Set(1, "no requests for 2 s");
      return;
    }
    if (!loads.calm || Elapsed(now_ms_, memory_.calm_since_ms) < kCalmMs ||
        Elapsed(now_ms_, memory_.lowered_ms) < kCoolDownMs || Elapsed(now_ms_, memory_.changed_ms) < kRaiseEveryMs) {
      return;
    }
    Set(std::min(1.0, memory_.training_share + kRaiseStep),
        StrCat(P99Of(*loads.nearest, "<"), ", all have had a margin for ", kCalmMs / 1000, " s"));
  }

  void Set(double share, std::string reason) {
    actions_->decisions.push_back({"training_share", memory_.training_share, share, std::move(reason)});
    memory_.training_share = share;
    memory_.changed_ms = now_ms_;
  }

  const int64_t now_ms_;
  ShareMemory& memory_;
  Actions* const actions_;
};

class LatencyFirst : public Policy {
 public:
  std::string_view name() const override { return "latency_first"; }

  Actions Decide(const Snapshot& snapshot) const override {
    const Timetable timetable(snapshot.sharing, /*follows_windows=*/true);
    Actions actions;
    actions.memory = snapshot.memory;
    if (snapshot.automatic) {
      const double guaranteed = timetable.SplitAt(snapshot.now_ms).training.cpu;
      const double floor = std::clamp(std::max(snapshot.sharing->min_training, guaranteed), 0.0, 1.0);
      Share(snapshot, &actions).Follow(LookAt(snapshot.models), guaranteed, floor);
    }
    GrantByTimetable(snapshot, timetable, actions.memory.training_share, &actions);
    PlanJobs(snapshot, timetable, &actions);
    return actions;
  }
};

}  // namespace

std::unique_ptr<Policy> MakeLatencyFirst() { return std::make_unique<LatencyFirst>(); }

}  // namespace tandem::scheduling
