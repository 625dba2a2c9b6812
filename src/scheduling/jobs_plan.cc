#include "scheduling/jobs_plan.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "base/status.h"
#include "base/text.h"
#include "scheduling/grant.h"
#include "scheduling/words.h"

namespace tandem::scheduling {
namespace {

constexpr int64_t kPreemptionGap = 10;  // of priority
constexpr int64_t kFirstWeight = 1000, kFillingWeight = 50;
constexpr int64_t kUnknownCheckpointMs = 2000;  // taken for a job that has written none
constexpr int64_t kLeadMs = 1000;               // before a window's edge, beside the checkpoint
constexpr int64_t kShortestRunMs = 10'000;      // a job does not start for less
constexpr int64_t kAgingStepMs = 3'600'000;
constexpr int64_t kLongestDelayMs = 600'000;  // of a retry; one that seems to wait longer had its clock set back

int64_t CheckpointMs(const JobDemand& job) { return job.checkpoint_ms > 0 ? job.checkpoint_ms : kUnknownCheckpointMs; }

// How long before an edge a job must be told to stop.
int64_t StopMs(const JobDemand& job) { return CheckpointMs(job) + kLeadMs; }

bool ComesFirst(const JobDemand* a, const JobDemand* b) {
  auto key = [](const JobDemand* job) {
    return std::make_tuple(-(job->priority + job->waiting_ms / kAgingStepMs), -job->waiting_ms, job->id);
  };
  return key(a) < key(b);
}

bool CheaperToStop(const JobDemand* a, const JobDemand* b) {
  auto key = [](const JobDemand* job) {
    return std::make_tuple(CheckpointMs(*job), job->lost_if_stopped_ms, job->priority, -job->id);
  };
  return key(a) < key(b);
}

// Seats and memory that are free.
struct Room {
  int seats = 0;
  int64_t memory_bytes = 0;

  bool Fits(const JobDemand& job) const { return seats > 0 && job.memory_bytes <= memory_bytes; }
  void Take(const JobDemand& job) {
    --seats;
    memory_bytes -= job.memory_bytes;
  }
  void Give(const JobDemand& job) {
    ++seats;
    memory_bytes += job.memory_bytes;
  }
};

class JobsPlan {
 public:
  JobsPlan(const Snapshot& snapshot, const Timetable& timetable, Actions* actions)
      : snapshot_(snapshot),
        timetable_(timetable),
        actions_(*actions),
        split_(timetable.SplitAt(snapshot.now_ms)),
        room_{snapshot.max_running_jobs, actions->grant.training_memory_bytes},
        room_soon_(room_) {}

  void Run() {
    for (const JobDemand& job : snapshot_.jobs) {
      if (job.phase == JobPhase::kQueued) {
        queued_.push_back(&job);
      } else {
        PlanRunning(job);
      }
    }
    std::sort(queued_.begin(), queued_.end(), ComesFirst);
    for (const JobDemand* job : queued_) PlanQueued(*job);
  }

 private:
  bool OutOfTime(const JobDemand& job) const { return job.time_limit_ms > 0 && job.ran_ms >= job.time_limit_ms; }

  std::string OutOfTimeText(const JobDemand& job) const {
    return StrCat("ran for ", HumanSeconds(job.ran_ms / 1e3), ", its time limit is ",
                  HumanSeconds(job.time_limit_ms / 1e3));
  }

  void PlanRunning(const JobDemand& job) {
    room_.Take(job);
    if (!Leaves(job)) {
      room_soon_.Take(job);
      running_.push_back(&job);
      if (job.phase == JobPhase::kActive) ++active_;
    }
  }

  // Orders what a job that runs, or is paused, must do now; true if it gives up its room.
  bool Leaves(const JobDemand& job) {
    if (job.phase == JobPhase::kStopping) return true;
    if (snapshot_.stopping) return false;
    if (OutOfTime(job)) {
      actions_.expire.push_back({job.id, OutOfTimeText(job)});
      return true;
    }
    // One that its owner paused waits where it is, in memory.
    if (!(job.phase == JobPhase::kPaused && job.pause_requested)) {
      std::string closing = Closing(job, StopMs(job));
      if (!closing.empty()) {
        actions_.release.push_back({job.id, std::move(closing)});
        return true;
      }
    }
    if (job.phase == JobPhase::kActive && job.pause_requested) {
      actions_.pause.push_back({job.id, "its owner asked for it"});
    }
    if (job.phase == JobPhase::kPaused && !job.pause_requested) {
      actions_.resume.push_back({job.id, "its owner asked for it"});
    }
    return false;
  }

  // Why a job may not run now or in `ahead_ms`, and when it may again; "" if it may.
  std::string Closing(const JobDemand& job, int64_t ahead_ms) {
    const int64_t now = snapshot_.now_ms, then = now + ahead_ms;
    if (!job.window.empty()) {
      const Window* window = timetable_.Find(job.window);
      if (window == nullptr) {
        return StrCat("asks for window '", job.window,
                      "', which does not exist; add it (tandem policy set), or submit the job with another window");
      }
      if (!window->when.IsOpen(now)) return OpeningText(*window);
      if (!window->when.IsOpen(then)) return ClosingText(*window);
    }
    if (!GivesTraining(split_)) return NoShareText(now);
    const int64_t edge = actions_.grant.next_edge_ms;
    if (edge > 0 && edge <= then && !GivesTraining(timetable_.SplitAt(then))) {
      return StrCat("training has no share of the machine from ", Civil(edge), " on; ", NextShareText(then));
    }
    return "";
  }

  // Both texts cost calendar look-ups, and many jobs may wait for one window.
  std::string OpeningText(const Window& window) {
    std::string& text = opening_texts_[&window];
    if (!text.empty()) return text;
    const std::optional<int64_t> opening = window.when.NextOpening(snapshot_.now_ms);
    text =
        opening.has_value()
            ? StrCat("waits for window '", window.name, "', which opens at ", CivilText(*opening, window.when.zone()))
            : StrCat("waits for window '", window.name, "', which never opens again; give it other days");
    return text;
  }

  std::string ClosingText(const Window& window) const {
    const int64_t closing = *window.when.NextEdge(snapshot_.now_ms);
    std::string text = StrCat("window '", window.name, "' closes at ", CivilText(closing, window.when.zone()));
    const std::optional<int64_t> opening = window.when.NextEdge(closing);
    if (opening.has_value()) StrAppend(&text, "; goes on at ", CivilText(*opening, window.when.zone()));
    return text;
  }

  std::string NoShareText(int64_t now_ms) {
    if (no_share_text_.empty()) {
      no_share_text_ = StrCat("training has no share of the machine now",
                              actions_.grant.window.empty() ? "" : StrCat(" (window '", actions_.grant.window, "')"),
                              "; ", NextShareText(now_ms));
    }
    return no_share_text_;
  }

  std::string NextShareText(int64_t after_ms) const {
    const std::optional<int64_t> next = timetable_.NextTraining(after_ms);
    if (next.has_value()) return StrCat("goes on at ", Civil(*next));
    return "give it one: training.cpu above 0, or lend: true (tandem policy set)";
  }

  std::string Civil(int64_t ms) const { return CivilText(ms, timetable_.zone()); }

  int64_t ThreadsFor(const JobDemand& job) const { return job.threads > 0 ? job.threads : snapshot_.training_threads; }

  void PlanQueued(const JobDemand& job) {
    if (OutOfTime(job)) {
      actions_.expire.push_back({job.id, OutOfTimeText(job)});
      return;
    }
    const int64_t delay_ms = job.not_before_ms - snapshot_.now_ms;
    // Its record says when it is tried again.
    if (delay_ms > 0 && delay_ms <= kLongestDelayMs && !snapshot_.stopping) return;
    std::string obstacle = Obstacle(job);
    if (obstacle.empty() && !room_.Fits(job)) {
      obstacle = MakeRoom(job);
      room_wanted_ = true;
      ++waiting_for_room_;
    }
    if (!obstacle.empty()) {
      actions_.waiting.push_back({job.id, std::move(obstacle)});
      return;
    }
    const bool first = active_ == 0;
    actions_.start.push_back({job.id, ThreadsFor(job), first ? kFirstWeight : kFillingWeight,
                              first ? "first in the queue and fits" : "fits beside what runs, and fills its gaps"});
    ++active_;
    room_.Take(job);
    room_soon_.Take(job);
  }

  // What other jobs cannot change: why this one cannot start, in words that say what would start it; "" if it can.
  std::string Obstacle(const JobDemand& job) {
    if (snapshot_.stopping) return "the server is stopping; it goes on after the next start";
    if (job.pause_requested) return "paused before it started; resume it to start";
    const Grant& grant = actions_.grant;
    if (ThreadsFor(job) > snapshot_.training_threads) {
      return StrCat("asks for ", job.threads, " threads, training has ", snapshot_.training_threads,
                    "; lower resources.threads, or raise training.threads");
    }
    if (job.memory_bytes > grant.training_memory_bytes) {
      return StrCat("needs about ", HumanBytes(job.memory_bytes), " of memory, training has ",
                    HumanBytes(grant.training_memory_bytes), "; lower batch, or raise training.memory");
    }
    std::string closing = Closing(job, StopMs(job) + kShortestRunMs);
    if (!closing.empty()) return closing;
    if (!InTrainingsPart(split_, snapshot_.now_ms)) {
      if (split_.ratio_training <= 0)
        return "the time ratio leaves training nothing; raise ratio.training (tandem policy set)";
      return StrCat("waits for training's part of the time ratio (the first ", Percent(split_.ratio_training),
                    " of every ", Short(split_.ratio_every_ms / 1e3), " s)");
    }
    return "";
  }

  // REQUIRES: the job does not fit. Releases what is in its way if it may; why it waits.
  std::string MakeRoom(const JobDemand& job) {
    if (!room_wanted_ && room_soon_.Fits(job)) {
      Reserve(job);
      return "waits for a job that is stopping";
    }
    std::vector<const JobDemand*> victims;
    if (!room_wanted_) victims = Victims(job);
    for (const JobDemand* victim : victims) {
      room_soon_.Give(*victim);
      actions_.release.push_back(
          {victim->id, StrCat("makes room for job ", job.id, ", whose priority is ", job.priority, " (this one's is ",
                              victim->priority, "); goes on when a seat is free")});
      std::erase_if(actions_.pause, [&](const JobReason& pause) { return pause.id == victim->id; });
      std::erase_if(actions_.resume, [&](const JobReason& resume) { return resume.id == victim->id; });
    }
    if (!victims.empty()) {
      Reserve(job);
      return StrCat("waits for job ", victims.front()->id, " to stop, which makes room for it");
    }
    std::string ahead = waiting_for_room_ == 0 ? "" : StrCat("; ", waiting_for_room_, " ahead of it");
    if (room_.seats <= 0) {
      return StrCat("waits for a running job to end (", snapshot_.max_running_jobs, " at a time: training.max_jobs)",
                    ahead);
    }
    return StrCat("waits for ", HumanBytes(job.memory_bytes), " of memory, ",
                  HumanBytes(std::max<int64_t>(0, room_.memory_bytes)), " of training's is free", ahead);
  }

  // What is free, and what becomes free, is this job's: none behind it takes it away.
  void Reserve(const JobDemand& job) {
    room_.Take(job);
    room_soon_.Take(job);
  }

  // The cheapest jobs of much lower priority whose end makes room; none if even all would not.
  std::vector<const JobDemand*> Victims(const JobDemand& job) {
    std::vector<const JobDemand*> lower;
    for (const JobDemand* running : running_) {
      if (running->priority <= job.priority - kPreemptionGap) lower.push_back(running);
    }
    std::sort(lower.begin(), lower.end(), CheaperToStop);
    Room room = room_soon_;
    for (size_t i = 0; i < lower.size(); ++i) {
      // The cheapest one that is enough alone, else the cheapest ones together.
      Room alone = room_soon_;
      alone.Give(*lower[i]);
      if (alone.Fits(job)) return {lower[i]};
    }
    for (size_t i = 0; i < lower.size(); ++i) {
      room.Give(*lower[i]);
      if (room.Fits(job)) return {lower.begin(), lower.begin() + static_cast<ptrdiff_t>(i) + 1};
    }
    return {};
  }

  const Snapshot& snapshot_;
  const Timetable& timetable_;
  Actions& actions_;
  const Split& split_;
  Room room_;       // now
  Room room_soon_;  // when what is stopping has stopped
  int active_ = 0;
  bool room_wanted_ = false;  // a job before this one in order waits for room: this one releases nobody
  int waiting_for_room_ = 0;
  std::vector<const JobDemand*> queued_, running_;
  std::map<const Window*, std::string> opening_texts_;
  std::string no_share_text_;
};

}  // namespace

void PlanJobs(const Snapshot& snapshot, const Timetable& timetable, Actions* actions) {
  JobsPlan(snapshot, timetable, actions).Run();
}

}  // namespace tandem::scheduling
