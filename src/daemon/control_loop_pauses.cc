// How jobs are paused and go on.
#include "base/status.h"
#include "daemon/control_loop.h"
#include "telemetry/log.h"

namespace tandem::daemon {
namespace {

constexpr int64_t kFrozenNanos = 200'000'000;  // how long a pause stays frozen
constexpr int64_t kRestNanos = 2'000'000'000;  // how often a paused trainer is looked at
constexpr double kRestingCpus = 0.2;           // what a paused trainer may use: timers, its listener
constexpr int kMostWarnings = 2;

bool Pauses(const jobs::JobRecord& record) {
  return record.state == jobs::State::kPausing || record.state == jobs::State::kPaused;
}

}  // namespace

void ControlLoop::Anticipate(int32_t job, bool paused) {
  std::lock_guard lock(mutex_);
  anticipated_[job] = paused;
  woken_ = true;
  wake_.notify_all();
}

void ControlLoop::TakeAnticipated() {
  std::map<int32_t, bool> anticipated;
  {
    std::lock_guard lock(mutex_);
    anticipated.swap(anticipated_);
  }
  for (const auto& [job, paused] : anticipated) {
    JobRunner* runner = Running(job);
    absl::StatusOr<jobs::JobRecord> record = parts_.jobs->Get(job);
    if (runner == nullptr || !record.ok() || MustLeave(job)) continue;
    if (!Pauses(*record) && record->state != jobs::State::kRunning) continue;
    if (!paused) {
      GoOn(job, runner);
    } else if (pauses_.count(job) == 0) {
      StandStill(job, runner);
      // Its record has said so all along, so PauseJob will not: a resume that was not written had it go on, or one that
      // the next pause overtook.
      if (Pauses(*record)) runner->Send(wire::Control::PAUSE);
    }
  }
}

bool ControlLoop::MustLeave(int32_t job) const {
  if (leaving_.count(job) != 0 || told_to_leave_nanos_.count(job) != 0) return true;
  std::lock_guard lock(mutex_);
  return stopping_;
}

bool ControlLoop::StandStill(int32_t job, JobRunner* runner) {
  auto [pause, added] = pauses_.try_emplace(job);
  if (added) {
    parts_.governor->HoldJob(job, true);
    pause->second.since_nanos = parts_.clock->MonotonicNanos();
    if (runner->Freeze().ok()) {
      pause->second.frozen_nanos = pause->second.since_nanos;
    } else {
      // A thread that waits for a slow disk stands only after that, and the others would stand with it until then
      // and for ever: nobody thaws what is not known to be frozen.
      runner->Thaw().IgnoreError();
    }
  }
  return pause->second.frozen_nanos != 0;
}

void ControlLoop::GoOn(int32_t job, JobRunner* runner) {
  auto pause = pauses_.find(job);
  if (pause == pauses_.end()) return;
  runner->Send(wire::Control::RESUME);
  parts_.governor->HoldJob(job, false);
  if (pause->second.frozen_nanos != 0) Complain("thaw", job, runner->Thaw());
  pauses_.erase(pause);
}

void ControlLoop::PauseJob(const scheduling::JobReason& pause) {
  absl::StatusOr<jobs::JobRecord> record = parts_.jobs->Get(pause.id);
  JobRunner* runner = Running(pause.id);
  if (!record.ok() || record->state != jobs::State::kRunning || runner == nullptr || MustLeave(pause.id)) return;
  Complain("state", pause.id,
           StandStill(pause.id, runner)
               ? parts_.jobs->Move(pause.id, jobs::State::kPaused, StrCat("paused in memory: ", pause.reason))
               : parts_.jobs->Move(pause.id, jobs::State::kPausing, pause.reason));
  runner->Send(wire::Control::PAUSE);  // not before: its answer is looked for in the state "pausing"
  parts_.events->Changed(pause.id);
}

void ControlLoop::ResumeJob(const scheduling::JobReason& resume) {
  JobRunner* runner = Running(resume.id);
  if (runner == nullptr || MustLeave(resume.id)) return;
  GoOn(resume.id, runner);
  Complain("state", resume.id, parts_.jobs->Move(resume.id, jobs::State::kRunning, resume.reason));
  parts_.events->Changed(resume.id);
}

void ControlLoop::SettlePauses() {
  const int64_t now = parts_.clock->MonotonicNanos();
  for (auto& [job, pause] : pauses_) {
    JobRunner* runner = Running(job);
    if (runner == nullptr || MustLeave(job)) continue;  // it was thawed, and may write its checkpoint
    if (pause.frozen_nanos != 0 && now - pause.frozen_nanos >= kFrozenNanos) {
      Complain("thaw", job, runner->Thaw());
      pause.frozen_nanos = 0;
    }
    absl::StatusOr<jobs::JobRecord> record = parts_.jobs->Get(job);
    if (record.ok() && record->progress.phase() == "loading") pause.since_nanos = now;  // rests once it has its data
    // It says so once: before it was asked again, or while the record could not be written.
    if (record.ok() && record->state == jobs::State::kPausing && record->progress.phase() == "paused") Rests(job);
    if (now - pause.since_nanos >= kRestNanos) WatchResting(job, runner, &pause);
  }
}

void ControlLoop::Rests(int32_t job) {
  Complain("state", job, parts_.jobs->Move(job, jobs::State::kPaused, "paused in memory"));
  parts_.events->Changed(job);
}

// A trainer that computes on after it was told to rest: frozen for good, then ended, and its owner told.
void ControlLoop::WatchResting(int32_t job, JobRunner* runner, Pause* pause) {
  const double used = runner->ReadUsage().cpu_seconds;
  const int64_t now = parts_.clock->MonotonicNanos();
  if (pause->cpu_seconds < 0) {
    *pause = {.since_nanos = now, .cpu_seconds = used};
    return;
  }
  const double seconds = static_cast<double>(now - pause->since_nanos) / 1e9;
  const bool works = used - pause->cpu_seconds > kRestingCpus * seconds;
  *pause = {.since_nanos = now, .cpu_seconds = used, .warnings = works ? pause->warnings + 1 : 0};
  if (pause->warnings < kMostWarnings) return;
  runner->Freeze().IgnoreError();
  Log(LogLevel::kError, "a trainer computes although it was told to pause; it is ended", {{"job", job}});
  leaving_[job] = {.reason = "its trainer went on computing while it was paused, and was ended"};
  runner->Kill();
}

}  // namespace tandem::daemon
