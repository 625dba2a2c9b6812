#include "daemon/explain.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "base/status.h"
#include "base/text.h"
#include "scheduling/timetable.h"

namespace tandem::daemon {
namespace {

using jobs::State;

const scheduling::Window* FindWindow(const Rules& rules, const std::string& name) {
  for (const scheduling::Window& window : rules.sharing.windows) {
    if (window.name == name) return &window;
  }
  return nullptr;
}

// What would start a job that waits, and when at the earliest (UTC; 0 = nobody can say).
struct Start {
  std::string how;
  int64_t earliest_ms = 0;
};

// While training may not run: a share by time, or its part of a ratio.
Start TrainingsNextTime(const GovernorView& view, int64_t now_ms) {
  const scheduling::Sharing& sharing = view.rules->sharing;
  const scheduling::Timetable timetable(&sharing, view.rules->policy->name() != "static_split");
  const scheduling::Split& split = timetable.SplitAt(now_ms);
  if (scheduling::GivesTraining(split) && split.ratio_training > 0 && split.ratio_every_ms > 0) {
    return {"the beginning of training's part of the time ratio",
            (now_ms / split.ratio_every_ms + 1) * split.ratio_every_ms};
  }
  const std::optional<int64_t> next = timetable.NextTraining(now_ms);
  if (!next.has_value()) return {"a share for training, or a ratio that leaves it some (tandem policy set)"};
  return {"the opening of the next window in which training may run", *next};
}

Start WhatWouldStart(const jobs::JobRecord& job, const GovernorView& view, int64_t now_ms) {
  if (job.pause_requested) return {StrCat("tandem jobs resume ", job.id)};
  if (job.not_before_ms > now_ms) return {"the time of its next attempt", job.not_before_ms};
  if (job.threads > view.training_threads)
    return {"its spec with fewer resources.threads, or more training.threads in the server's settings"};
  if (job.memory_bytes > view.grant.training_memory_bytes)
    return {"its spec with a smaller batch or resources.memory, or more training.memory"};
  if (!job.window.empty()) {
    const scheduling::Window* window = FindWindow(*view.rules, job.window);
    if (window == nullptr)
      return {StrCat("a window '", job.window, "' in the sharing document (tandem policy set), or a spec without one")};
    if (!window->when.IsOpen(now_ms))
      return {StrCat("the opening of window '", job.window, "', or a spec without 'window'"),
              window->when.NextOpening(now_ms).value_or(0)};
  }
  if (!view.grant.training_open) return TrainingsNextTime(view, now_ms);
  return {"the end, pause or release of what runs; more training.max_jobs, threads or memory; or a higher priority"};
}

int Ahead(const jobs::JobRecord& job, const std::vector<jobs::JobRecord>& active) {
  return static_cast<int>(std::count_if(active.begin(), active.end(), [&](const jobs::JobRecord& other) {
    if (other.state != State::kQueued || other.id == job.id) return false;
    return other.priority > job.priority || (other.priority == job.priority && other.created_ms < job.created_ms);
  }));
}

void ExplainQueued(const jobs::JobRecord& job, const std::vector<jobs::JobRecord>& active, const GovernorView& view,
                   int64_t now_ms, wire::JobExplanation* out) {
  out->set_waits_for(job.reason.empty() ? "its turn" : job.reason);
  Start start = WhatWouldStart(job, view, now_ms);
  out->set_would_start(std::move(start.how));
  out->set_earliest_ms(static_cast<double>(start.earliest_ms));
  out->add_facts(StrCat(Ahead(job, active), " queued jobs are ahead of it (priority ", job.priority, ")"));
}

void ExplainRunning(const GovernorView& view, int64_t now_ms, wire::JobExplanation* out) {
  if (view.allowed_threads > 0) return;
  if (view.grant.training_open) {
    out->set_waits_for(StrCat("its turn on the CPU: serving needs all of it (", view.gate_reason, ")"));
    return;
  }
  Start next = TrainingsNextTime(view, now_ms);
  out->set_waits_for("its turn: training may not run now");
  out->set_would_start(std::move(next.how));
  out->set_earliest_ms(static_cast<double>(next.earliest_ms));
}

void AddFacts(const std::vector<jobs::JobRecord>& active, const GovernorView& view,
              const isolation::Capabilities& capabilities, wire::JobExplanation* out) {
  std::string running;
  for (const jobs::JobRecord& other : active) {
    if (other.state == State::kQueued) continue;
    StrAppend(&running, running.empty() ? "" : ", ", other.id, " (", other.name, ", ", jobs::StateName(other.state),
              ")");
  }
  out->add_facts(running.empty() ? "no job runs" : StrCat("jobs that hold resources: ", running));
  out->add_facts(
      StrCat("policy ", view.rules->policy->name(),
             view.grant.window.empty() ? "; no window is open" : StrCat("; window '", view.grant.window, "' is open"),
             "; training ", view.grant.training_open ? "may run" : "may not run now"));
  out->add_facts(StrCat("training may use ", view.allowed_threads, " threads now (share ",
                        std::lround(view.memory.training_share * 100), " % of the CPUs",
                        view.gate_reason.empty() ? "" : StrCat("; gate: ", view.gate_reason), ")"));
  out->add_facts(StrCat("isolation in force: ", isolation::RungName(capabilities.rung)));
}

}  // namespace

wire::JobExplanation Explain(const jobs::JobRecord& job, const std::vector<jobs::JobRecord>& active,
                             const GovernorView& view, const isolation::Capabilities& capabilities, int64_t now_ms) {
  wire::JobExplanation out;
  switch (job.state) {
    case State::kQueued:
      ExplainQueued(job, active, view, now_ms, &out);
      break;
    case State::kPausing:
    case State::kPaused:
      out.set_waits_for("its owner, who paused it");
      out.set_would_start(StrCat("tandem jobs resume ", job.id));
      break;
    case State::kStarting:
      out.set_waits_for(job.reason);
      break;
    case State::kRunning:
      ExplainRunning(view, now_ms, &out);
      break;
    case State::kStopping:
      out.set_waits_for("its checkpoint to be written");
      break;
    default:
      out.set_waits_for("");
      out.set_would_start("submitting its spec again: it has ended");
  }
  AddFacts(active, view, capabilities, &out);
  return out;
}

}  // namespace tandem::daemon
