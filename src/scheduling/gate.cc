// The fast gate. What is closed here and when depends on how well the kernel keeps training away from serving:
//   real time  a request never waits for training: closing it only idles a core. It closes when a target is missed all
//              the same (memory bandwidth), half of what is open a round.
//   weight     a request that finds every CPU taken may wait for a tick: one CPU is kept free while requests queue.
//   weak       a request waits for ticks often: training stops while requests come.
#include <algorithm>

#include "absl/strings/str_join.h"
#include "base/strings.h"
#include "scheduling/policy.h"
#include "scheduling/words.h"

namespace tandem::scheduling {
namespace {

constexpr int64_t kLeastRequests = 10;      // in ~100 ms; a p99 of fewer says nothing
constexpr double kCalmRatio = 0.8;          // p99 / target below which a real-time gate reopens
constexpr int64_t kRealtimeCalmMs = 100;    // of calm before it reopens, one thread a round
constexpr int64_t kCalmMs = 20;             // of calm before the others reopen, wholly
constexpr double kServingCpus = 0.05;       // CPUs of serving in the last round above which a weak gate closes
constexpr int64_t kLongestClosedMs = 2000;  // training must not starve: then it opens for
constexpr int64_t kShortestOpenMs = 20;
constexpr double kLeastShownCpus = 0.005;

struct Ceiling {
  int threads;
  std::string_view reason;  // why it is below the grant
};

Ceiling CeilingOf(const GateSnapshot& s) {
  if (s.strength == Strength::kWeight && (s.waiting > 0 || s.busy_instances >= s.cpus)) {
    return {std::max(0, s.granted_threads - 1), "requests wait for a CPU: one thread less"};
  }
  const bool requests = s.busy_instances > 0 || s.waiting > 0;
  if (s.strength == Strength::kWeak && requests && s.serving_cpus > kServingCpus) {
    return {0, "requests run, and the kernel does not put them first"};
  }
  return {s.granted_threads, ""};
}

GateDecision Close(const GateSnapshot& s, int allowed, std::string_view reason) {
  GateDecision decision{allowed, s.closed_since_ms, 0, reason};
  if (allowed > 0) {
    decision.closed_since_ms = 0;
    return decision;
  }
  if (s.closed_since_ms == 0) decision.closed_since_ms = s.now_ms;
  const int64_t closed_ms = s.now_ms - decision.closed_since_ms;
  if (closed_ms < kLongestClosedMs) return decision;
  if (closed_ms < kLongestClosedMs + kShortestOpenMs || s.allowed == 0) {
    // The count goes on while it is open, to know when that was long enough; a late round opens it late, never not.
    if (s.allowed == 0) decision.closed_since_ms = s.now_ms - kLongestClosedMs;
    decision.allowed = 1;
    decision.reason = "open for 20 ms after 2 s closed: training must not starve";
    return decision;
  }
  decision.closed_since_ms = s.now_ms;
  return decision;
}

}  // namespace

GateDecision DecideGate(const GateSnapshot& s) {
  if (s.granted_threads <= 0) return {0, 0, s.calm_since_ms, "training may not run now"};
  if (s.off) return {s.granted_threads, 0, 0, "as granted: the gate is off"};
  const Ceiling ceiling = CeilingOf(s);
  const bool missed = s.worst_ratio > 1 && s.worst_requests >= kLeastRequests;
  const bool realtime = s.strength == Strength::kRealtime;
  // In a forced opening the gate counts as closed.
  const int held = s.closed_since_ms > 0 ? 0 : s.allowed;
  if (missed) return Close(s, std::min(held / 2, ceiling.threads), "a target is missed: half of what was open");
  if (ceiling.threads < s.granted_threads) return Close(s, ceiling.threads, ceiling.reason);
  if (realtime && s.worst_ratio >= kCalmRatio) {
    return held >= s.granted_threads ? GateDecision{s.granted_threads, 0, 0, "as granted"}
                                     : Close(s, held, "near a target: stays as it is");
  }
  const int64_t calm_since = s.calm_since_ms > 0 ? s.calm_since_ms : s.now_ms;
  if (held >= s.granted_threads) return {s.granted_threads, 0, calm_since, "as granted"};
  if (s.now_ms - calm_since < (realtime ? kRealtimeCalmMs : kCalmMs)) {
    GateDecision decision = Close(s, held, "waits for calm before it opens");
    decision.calm_since_ms = calm_since;
    return decision;
  }
  const int allowed = realtime ? held + 1 : s.granted_threads;
  return {allowed, 0, calm_since, allowed < s.granted_threads ? "calm: opens one thread a round" : "as granted"};
}

std::string ReasonWithFigures(const GateSnapshot& s, const GateDecision& decision) {
  std::vector<std::string> figures;
  if (s.worst_requests > 0) {
    figures.push_back(StrCat("p99 of '", s.worst_model, "' ", Short(s.worst_ratio * s.worst_slo_ms), " ms, target ",
                             Short(s.worst_slo_ms), " ms, over ", s.worst_requests, " requests"));
  }
  if (s.busy_instances > 0 || s.waiting > 0)
    figures.push_back(StrCat("requests: ", s.busy_instances, " run, ", s.waiting, " wait"));
  if (s.serving_cpus >= kLeastShownCpus) figures.push_back(StrCat("serving uses ", Short(s.serving_cpus), " CPUs"));
  if (figures.empty()) return std::string(decision.reason);
  return StrCat(decision.reason, " (", absl::StrJoin(figures, "; "), ")");
}

}  // namespace tandem::scheduling
