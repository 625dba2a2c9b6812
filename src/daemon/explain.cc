#include "daemon/explain.h"

#include <algorithm>

#include "base/status.h"
#include "base/text.h"

namespace tandem::daemon {
namespace {

using jobs::State;

const scheduling::Window* FindWindow(const Rules& rules, const std::string& name) {
  for (const scheduling::Window& window : rules.sharing.windows) {
    if (window.name == name) return &window;
  }
  return nullptr;
}

// When the job's window opens next; 0 = it is open, or there is none.
int64_t OpeningOf(const jobs::JobRecord& job, const GovernorView& view, int64_t now_ms) {
  const scheduling::Window* window = FindWindow(*view.rules, job.window);
  if (window == nullptr || window->when.IsOpen(now_ms)) return 0;
  return window->when.NextOpening(now_ms).value_or(0);
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
  const int64_t opening = OpeningOf(job, view, now_ms);
  if (job.pause_requested) {
    out->set_would_start(StrCat("tandem jobs resume ", job.id));
  } else if (job.not_before_ms > now_ms) {
    out->set_would_start("the time of its next attempt");
    out->set_earliest_ms(static_cast<double>(job.not_before_ms));
  } else if (opening != 0) {
    out->set_would_start(StrCat("the opening of window '", job.window, "', or a spec without 'window'"));
    out->set_earliest_ms(static_cast<double>(opening));
  } else if (!view.grant.training_open) {
    out->set_would_start("the opening of the next window in which training may run");
    out->set_earliest_ms(static_cast<double>(view.grant.next_edge_ms));
  } else {
    out->set_would_start(
        "the end, pause or release of what runs; more training.max_jobs, threads or memory; or a higher priority");
  }
  out->add_facts(StrCat(Ahead(job, active), " queued jobs are ahead of it (priority ", job.priority, ")"));
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
                        static_cast<int>(view.memory.training_share * 100 + 0.5), " % of the CPUs",
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
    case State::kRunning:
      if (view.allowed_threads == 0)
        out.set_waits_for(StrCat("its turn on the CPU: serving needs all of it (", view.gate_reason, ")"));
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
