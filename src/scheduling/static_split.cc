// "static_split": fixed shares. The highest priority first, then the longest waiting; a job starts if it fits.
#include <algorithm>

#include "base/status.h"
#include "base/text.h"
#include "scheduling/policy.h"

namespace tandem::scheduling {
namespace {

bool ComesFirst(const JobDemand& a, const JobDemand& b) {
  if (a.priority != b.priority) return a.priority > b.priority;
  if (a.waiting_ms != b.waiting_ms) return a.waiting_ms > b.waiting_ms;
  return a.id < b.id;
}

// What active jobs have left of the training side.
struct Room {
  int jobs = 0;
  int64_t memory_bytes = 0;
};

int64_t ThreadsFor(const JobDemand& job, const Snapshot& snapshot) {
  return job.threads > 0 ? job.threads : snapshot.training_threads;
}

// Why a job cannot start now, in words that say what would start it; "" if it can.
std::string Obstacle(const JobDemand& job, const Snapshot& snapshot, const Room& room) {
  if (snapshot.stopping) return "the server is stopping; it goes on after the next start";
  if (job.pause_requested) return "paused before it started; resume it to start";
  if (ThreadsFor(job, snapshot) > snapshot.training_threads) {
    return StrCat("asks for ", job.threads, " threads, training has ", snapshot.training_threads,
                  "; lower resources.threads, or raise training.threads");
  }
  if (job.memory_bytes > snapshot.training_memory_bytes) {
    return StrCat("needs about ", HumanBytes(job.memory_bytes), " of memory, training has ",
                  HumanBytes(snapshot.training_memory_bytes), "; lower batch, or raise training.memory");
  }
  if (room.jobs <= 0) {
    return StrCat("waits for a running job to end (", snapshot.max_running_jobs, " at a time: training.max_jobs)");
  }
  if (job.memory_bytes > room.memory_bytes) {
    return StrCat("waits for ", HumanBytes(job.memory_bytes), " of memory, ", HumanBytes(room.memory_bytes),
                  " of training's is free");
  }
  return "";
}

class StaticSplit : public Policy {
 public:
  std::string_view name() const override { return "static_split"; }

  Actions Decide(const Snapshot& snapshot) const override {
    Actions actions;
    Room room{snapshot.max_running_jobs, snapshot.training_memory_bytes};
    std::vector<const JobDemand*> queued;
    for (const JobDemand& job : snapshot.jobs) {
      if (job.phase == JobPhase::kQueued) {
        queued.push_back(&job);
        continue;
      }
      --room.jobs;
      room.memory_bytes -= job.memory_bytes;
      if (job.phase == JobPhase::kActive && job.pause_requested)
        actions.pause.push_back({job.id, "its owner asked for it"});
      if (job.phase == JobPhase::kPaused && !job.pause_requested)
        actions.resume.push_back({job.id, "its owner asked for it"});
    }
    std::sort(queued.begin(), queued.end(), [](const JobDemand* a, const JobDemand* b) { return ComesFirst(*a, *b); });
    for (const JobDemand* job : queued) {
      if (job->not_before_ms > snapshot.now_ms) continue;  // its record already says when the next attempt begins
      std::string obstacle = Obstacle(*job, snapshot, room);
      if (!obstacle.empty()) {
        actions.waiting.push_back({job->id, obstacle});
        continue;
      }
      actions.start.push_back({job->id, ThreadsFor(*job, snapshot), "first in the queue and fits"});
      --room.jobs;
      room.memory_bytes -= job->memory_bytes;
    }
    return actions;
  }
};

}  // namespace

absl::StatusOr<std::unique_ptr<Policy>> MakePolicy(std::string_view name) {
  if (name == "static_split") return std::make_unique<StaticSplit>();
  return InvalidArgument("policy '", name, "' is not known", DidYouMean(name, {"static_split"}),
                         "; there is: static_split");
}

}  // namespace tandem::scheduling
