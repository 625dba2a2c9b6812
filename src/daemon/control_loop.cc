#include "daemon/control_loop.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/match.h"
#include "base/status.h"
#include "telemetry/log.h"

namespace tandem::daemon {
namespace {

// Of a trainer that was told to leave: until it says that it does; and to write its last checkpoint, on a slow disk.
constexpr int64_t kLeaveGraceNanos = 10'000'000'000;
constexpr int64_t kWriteGraceNanos = 600'000'000'000;

scheduling::JobPhase PhaseOf(jobs::State state) {
  if (state == jobs::State::kQueued) return scheduling::JobPhase::kQueued;
  if (state == jobs::State::kStopping) return scheduling::JobPhase::kStopping;
  // One on its way to rest can be called back: a trainer that hangs would never say that it rests.
  const bool pauses = state == jobs::State::kPausing || state == jobs::State::kPaused;
  return pauses ? scheduling::JobPhase::kPaused : scheduling::JobPhase::kActive;
}

}  // namespace

void ControlLoop::Complain(std::string_view what, int32_t job, const absl::Status& status) {
  if (!status.ok()) Log(LogLevel::kError, what, {{"job", job}, {"error", MessageOf(status)}});
}

ControlLoop::ControlLoop(const ControlParts& parts, const TrainingSettings& settings)
    : parts_(parts), settings_(settings) {}

ControlLoop::~ControlLoop() = default;

void ControlLoop::Wake() {
  std::lock_guard lock(mutex_);
  woken_ = true;
  wake_.notify_all();
}

void ControlLoop::WaitForWork(int timeout_ms) {
  std::unique_lock lock(mutex_);
  wake_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [&] { return woken_; });
  woken_ = false;
}

void ControlLoop::BeginStop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    for (auto& [job, preparing] : preparing_) preparing->stop = true;
  }
  parts_.pauses->LeaveAll();
  Wake();
}

bool ControlLoop::Idle() const {
  std::lock_guard lock(mutex_);
  return running_.empty() && preparing_.empty();
}

std::map<int32_t, isolation::Usage> ControlLoop::ReadUsage() const {
  std::lock_guard lock(mutex_);
  std::map<int32_t, isolation::Usage> usage;
  for (const auto& [job, runner] : running_) usage[job] = runner->ReadUsage();
  return usage;
}

std::map<int32_t, ControlLoop::UsageReading> ControlLoop::TakeUsage() {
  std::lock_guard lock(mutex_);
  std::map<int32_t, UsageReading> readings = std::move(ended_usage_);
  ended_usage_.clear();
  // A job whose next attempt runs already began a new group: its former one is in the accounts a round later.
  for (const auto& [job, runner] : running_) readings.try_emplace(job, UsageReading{runner->ReadUsage()});
  return readings;
}

void ControlLoop::Step() {
  RecordAgain();
  TakeEnds();
  TakePrepared();
  SendCancels();
  EndDeafTrainers();
  scheduling::Actions actions = parts_.governor->Decide(BuildSnapshot());
  parts_.governor->Enforce(actions);
  Apply(actions);
  SettlePauses();
}

scheduling::Snapshot ControlLoop::BuildSnapshot() {
  scheduling::Snapshot snapshot;
  snapshot.now_ms = parts_.clock->UnixMillis();
  parts_.governor->FillSnapshot(&snapshot);
  {
    std::lock_guard lock(mutex_);
    snapshot.stopping = stopping_;
  }
  std::map<int32_t, int64_t> queued_since;
  for (const jobs::JobRecord& record : parts_.jobs->Active()) {
    // Since it was last queued: else a job that was pre-empted would outrank the one that it made room for.
    int64_t since = record.attempt == 0 ? record.created_ms : snapshot.now_ms;
    if (record.state == jobs::State::kQueued) {
      auto known = queued_since_ms_.find(record.id);
      since = known == queued_since_ms_.end() ? since : known->second;
      queued_since[record.id] = since;
    }
    const JobRunner* runner = record.pid != 0 ? Running(record.id) : nullptr;
    snapshot.jobs.push_back({.id = record.id,
                             .phase = PhaseOf(record.state),
                             .priority = record.priority,
                             .waiting_ms = std::max<int64_t>(0, snapshot.now_ms - since),
                             .not_before_ms = record.not_before_ms,
                             .threads = record.threads,
                             .memory_bytes = record.memory_bytes,
                             .pause_requested = record.pause_requested,
                             .window = record.window,
                             .checkpoint_ms = runner == nullptr ? 0 : runner->checkpoint_ms(),
                             .time_limit_ms = record.time_limit_ms,
                             .ran_ms = record.ran_ms});
  }
  queued_since_ms_ = std::move(queued_since);
  return snapshot;
}

void ControlLoop::Apply(const scheduling::Actions& actions) {
  for (const scheduling::JobReason& release : actions.release) Leave(release.id, {release.reason});
  for (const scheduling::JobReason& expire : actions.expire) {
    if (Running(expire.id) != nullptr || IsPreparing(expire.id)) {
      Leave(expire.id, {expire.reason, true});
    } else {  // its last checkpoint took longer than what was left of its time
      Finish(expire.id, jobs::State::kTimedOut, expire.reason);
      parts_.events->Changed(expire.id);
    }
  }
  std::map<int32_t, std::string> asked;
  {
    std::lock_guard lock(mutex_);
    asked.swap(release_asked_);
  }
  for (const auto& [job, reason] : asked) Leave(job, {reason});
  for (const scheduling::JobReason& pause : actions.pause) PauseJob(pause);
  for (const scheduling::JobReason& resume : actions.resume) ResumeJob(resume);
  for (const scheduling::StartJob& start : actions.start) Start(start);
  for (const scheduling::JobReason& waiting : actions.waiting) KeepWaiting(waiting);
}

JobRunner* ControlLoop::Running(int32_t job) {
  std::lock_guard lock(mutex_);
  auto runner = running_.find(job);
  return runner == running_.end() ? nullptr : runner->second.get();
}

void ControlLoop::KeepWaiting(const scheduling::JobReason& waiting) {
  std::string& told = told_waiting_[waiting.id];
  if (told == waiting.reason) return;
  told = waiting.reason;
  Complain("a reason could not be kept", waiting.id,
           parts_.jobs->Move(waiting.id, jobs::State::kQueued, waiting.reason));
  parts_.events->Changed(waiting.id);
}

absl::Status ControlLoop::Release(int32_t job, std::string_view reason) {
  std::lock_guard lock(mutex_);
  if (running_.count(job) == 0 && preparing_.count(job) == 0)
    return FailedPrecondition("job ", job, " does not run, so it holds nothing that it could give back");
  release_asked_[job] = std::string(reason);
  woken_ = true;
  wake_.notify_all();
  return absl::OkStatus();
}

void ControlLoop::PauseJob(const scheduling::JobReason& pause) {
  absl::StatusOr<jobs::JobRecord> record = parts_.jobs->Get(pause.id);
  if (!record.ok() || record->state != jobs::State::kRunning) return;
  const JobPauses::Standing standing = parts_.pauses->Pause(pause.id);
  if (standing == JobPauses::Standing::kRefused) return;
  Complain("state", pause.id,
           standing == JobPauses::Standing::kFrozen
               ? parts_.jobs->Move(pause.id, jobs::State::kPaused, StrCat("paused in memory: ", pause.reason))
               : parts_.jobs->Move(pause.id, jobs::State::kPausing, pause.reason));
  parts_.pauses->TellToRest(pause.id);
  parts_.events->Changed(pause.id);
}

void ControlLoop::ResumeJob(const scheduling::JobReason& resume) {
  if (!parts_.pauses->Resume(resume.id)) return;
  Complain("state", resume.id, parts_.jobs->Move(resume.id, jobs::State::kRunning, resume.reason));
  parts_.events->Changed(resume.id);
}

void ControlLoop::SettlePauses() {
  const JobPauses::Round round = parts_.pauses->Settle();
  for (int32_t job : round.resting) Rests(job);
  for (int32_t job : round.ended) {
    leaving_[job] = {.reason = "its trainer went on computing while it was paused, and was ended"};
  }
}

void ControlLoop::Rests(int32_t job) {
  Complain("state", job, parts_.jobs->Move(job, jobs::State::kPaused, "paused in memory"));
  parts_.events->Changed(job);
}

void ControlLoop::Leave(int32_t job, Leaving leaving) {
  if ((Running(job) == nullptr && !IsPreparing(job)) || leaving_.count(job) != 0) return;
  Complain("state", job,
           leaving.expired ? parts_.jobs->Move(job, jobs::State::kStopping, leaving.reason)
                           : parts_.jobs->Release(job, leaving.reason));
  leaving_[job] = std::move(leaving);
  if (Running(job) == nullptr) {
    StopPreparing(job);
  } else {
    told_to_leave_nanos_.try_emplace(job, parts_.clock->MonotonicNanos());
    parts_.pauses->Leave(job);
  }
  parts_.events->Changed(job);
}

JobHooks ControlLoop::Hooks(int32_t job) {
  JobHooks hooks;
  hooks.training_memory_bytes = [this] { return parts_.governor->View().grant.training_memory_bytes; };
  hooks.on_progress = [this, job](const wire::Progress& progress) {
    parts_.jobs->SetProgress(job, progress);
    parts_.events->Changed(job);
  };
  hooks.on_checkpoint = [this, job] { Complain("progress", job, parts_.jobs->KeepProgress(job)); };
  hooks.on_paused = [this, job](bool paused) {
    absl::StatusOr<jobs::JobRecord> record = parts_.jobs->Get(job);
    if (paused && record.ok() && record->state == jobs::State::kPausing) return Rests(job);
    parts_.events->Changed(job);
  };
  hooks.on_end = [this, job](JobOutcome outcome) {
    if (outcome.kind == JobOutcome::Kind::kFinished) BringResult(job, &outcome);
    std::lock_guard lock(mutex_);
    ends_.push_back({job, std::move(outcome)});
    woken_ = true;
    wake_.notify_all();
  };
  return hooks;
}

void ControlLoop::SendCancels() {
  for (const jobs::JobRecord& record : parts_.jobs->Active()) {
    if (!record.cancel_requested) continue;
    if (record.state == jobs::State::kQueued) {
      Finish(record.id, jobs::State::kCancelled, "cancelled before it started");
      continue;
    }
    if (StopPreparing(record.id)) {
      Complain("state", record.id, parts_.jobs->Move(record.id, jobs::State::kStopping, "cancelling"));
      parts_.events->Changed(record.id);
      continue;
    }
    if (Running(record.id) == nullptr) continue;
    if (!told_to_leave_nanos_.try_emplace(record.id, parts_.clock->MonotonicNanos()).second) continue;
    Complain("state", record.id, parts_.jobs->Move(record.id, jobs::State::kStopping, "cancelling"));
    parts_.pauses->Leave(record.id);
    parts_.events->Changed(record.id);
  }
}

// A trainer that gets no CPU, or hangs, does not hear that it is to leave.
void ControlLoop::EndDeafTrainers() {
  const int64_t now = parts_.clock->MonotonicNanos();
  for (auto& [job, told_nanos] : told_to_leave_nanos_) {
    JobRunner* runner = Running(job);
    absl::StatusOr<jobs::JobRecord> record = parts_.jobs->Get(job);
    if (runner == nullptr || !record.ok()) continue;
    const bool heard = absl::StartsWith(record->progress.phase(), "checkpointing");
    if (now - told_nanos <= (heard ? kWriteGraceNanos : kLeaveGraceNanos)) continue;
    told_nanos = now;
    Log(LogLevel::kError, "a trainer does not leave although it was told to; it is ended", {{"job", job}});
    if (auto left = leaving_.find(job); left != leaving_.end()) {
      left->second.reason += "; its trainer did not leave, and was ended";
    }
    runner->Kill();
  }
}

}  // namespace tandem::daemon
