#include "daemon/job_pauses.h"

#include "base/status.h"
#include "telemetry/log.h"

namespace tandem::daemon {
namespace {

constexpr int64_t kFrozenNanos = 200'000'000;  // how long a pause stays frozen
constexpr int64_t kRestNanos = 2'000'000'000;  // how often a paused trainer is looked at
constexpr double kRestingCpus = 0.2;           // what a paused trainer may use: timers, its listener
constexpr int kMostWarnings = 2;

struct Standstill {
  int64_t since_nanos = 0;  // or since it was last looked at
  double cpu_seconds = -1;  // when it had had time to come to rest; -1 = not yet
  int warnings = 0;
  bool told = false;  // to rest
};

// Whether it used more than one that rests in each of the last looks, of which this is one.
bool ComputesOn(const PausableTrainer& trainer, int64_t now, Standstill* pause) {
  const double used = trainer.ReadUsage().cpu_seconds;
  const double seconds = static_cast<double>(now - pause->since_nanos) / 1e9;
  const bool works = pause->cpu_seconds >= 0 && used - pause->cpu_seconds > kRestingCpus * seconds;
  pause->warnings = works ? pause->warnings + 1 : 0;
  pause->cpu_seconds = used;
  pause->since_nanos = now;
  return pause->warnings >= kMostWarnings;
}

}  // namespace

struct JobPauses::Job {
  Job(int32_t job, PausableTrainer* pausable, bool leaves) : id(job), trainer(pausable), must_leave(leaves) {}

  const int32_t id;
  std::mutex mutex;  // held while its trainer is frozen or thawed, which may take a second
  // All below: guarded by mutex.
  PausableTrainer* trainer;             // null once it was removed
  bool must_leave;                      // it was told to; its last checkpoint is not to be disturbed
  int anticipated = 0;                  // how many callers write what it does
  std::optional<Standstill> pause;      // nothing: it may run
  bool frozen = false;                  // and known to stand
  std::optional<int64_t> thaw_nanos;    // when it is to be thawed; nothing: no thread of it is frozen
  bool thaw_failure_is_logged = false;  // since it was last thawed
};

void JobPauses::Add(int32_t job, PausableTrainer* trainer) {
  std::lock_guard lock(mutex_);
  jobs_[job] = std::make_shared<Job>(job, trainer, stopping_);
}

void JobPauses::Remove(int32_t job) {
  std::shared_ptr<Job> removed;
  {
    std::lock_guard lock(mutex_);
    auto found = jobs_.find(job);
    if (found == jobs_.end()) return;
    removed = std::move(found->second);
    jobs_.erase(found);
  }
  std::lock_guard lock(removed->mutex);  // others may have found it before
  removed->trainer = nullptr;
}

std::shared_ptr<JobPauses::Job> JobPauses::Find(int32_t job) const {
  std::lock_guard lock(mutex_);
  auto found = jobs_.find(job);
  return found == jobs_.end() ? nullptr : found->second;
}

std::vector<std::shared_ptr<JobPauses::Job>> JobPauses::All() const {
  std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Job>> all;
  all.reserve(jobs_.size());
  for (const auto& [id, job] : jobs_) all.push_back(job);
  return all;
}

template <typename Body>
void JobPauses::WithRunning(int32_t job, Body body) {
  std::shared_ptr<Job> found = Find(job);
  if (found == nullptr) return;
  std::lock_guard lock(found->mutex);
  if (found->trainer != nullptr) body(*found);
}

absl::Status JobPauses::Anticipate(int32_t job, bool paused, const std::function<absl::Status()>& write) {
  std::shared_ptr<Job> found = Find(job);
  if (found == nullptr) return write();
  {
    std::lock_guard lock(found->mutex);
    ++found->anticipated;
    Follow(*found, paused);
  }
  absl::Status written = write();
  std::lock_guard lock(found->mutex);
  // The last one sees what all of them wrote, in whatever order.
  if (--found->anticipated == 0) Follow(*found, std::nullopt);
  return written;
}

JobPauses::Standing JobPauses::Pause(int32_t job) {
  Standing standing = Standing::kRefused;
  WithRunning(job, [&](Job& running) {
    if (running.must_leave || running.anticipated > 0) return;
    StandStill(running);
    standing = running.frozen ? Standing::kFrozen : Standing::kEnding;
  });
  return standing;
}

bool JobPauses::Resume(int32_t job) {
  bool resumed = false;
  WithRunning(job, [&](Job& running) {
    if (running.must_leave || running.anticipated > 0) return;
    GoOn(running);
    resumed = true;
  });
  return resumed;
}

void JobPauses::TellToRest(int32_t job) {
  WithRunning(job, [](Job& running) {
    if (!running.must_leave) Tell(running);
  });
}

void JobPauses::Leave(int32_t job) {
  WithRunning(job, [this](Job& running) { Dismiss(running); });
}

void JobPauses::LeaveAll() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  for (const std::shared_ptr<Job>& job : All()) {
    std::lock_guard lock(job->mutex);
    if (job->trainer != nullptr) Dismiss(*job);
  }
}

JobPauses::Round JobPauses::Settle() {
  Round round;
  for (const std::shared_ptr<Job>& shared : All()) {
    Job& job = *shared;
    std::lock_guard lock(job.mutex);
    if (job.trainer == nullptr) continue;
    const int64_t now = parts_.clock->MonotonicNanos();
    if (job.thaw_nanos && now >= *job.thaw_nanos) Thaw(job);
    if (!job.pause || job.must_leave) continue;  // it may write its checkpoint
    Standstill& pause = *job.pause;
    absl::StatusOr<jobs::JobRecord> record = parts_.jobs->Get(job.id);
    if (!pause.told) pause.since_nanos = now;  // it does not know yet, while a slow disk takes the pause
    if (record.ok()) {
      if (record->progress.phase() == "loading") pause.since_nanos = now;  // it rests once it has its data
      // It says so once: before it was asked again, or while the record could not be written.
      const bool rests = record->state == jobs::State::kPausing && record->progress.phase() == "paused";
      if (rests) round.resting.push_back(job.id);
    }
    if (now - pause.since_nanos < kRestNanos || !ComputesOn(*job.trainer, now, &pause)) continue;
    End(job);
    round.ended.push_back(job.id);
  }
  return round;
}

void JobPauses::Follow(Job& job, std::optional<bool> paused) {
  if (job.trainer == nullptr || job.must_leave) return;
  absl::StatusOr<jobs::JobRecord> record = parts_.jobs->Get(job.id);
  if (!record.ok()) return;
  const bool said = record->state == jobs::State::kPausing || record->state == jobs::State::kPaused;
  if (!said && record->state != jobs::State::kRunning) return;
  if (!paused.value_or(record->pause_requested)) return GoOn(job);
  StandStill(job);
  // Its record has said so all along, so nobody will move it and tell: a resume that was not written had it go on, or
  // one that this pause overtook.
  if (said) Tell(job);
}

void JobPauses::StandStill(Job& job) {
  if (job.pause) return;
  const int64_t now = parts_.clock->MonotonicNanos();
  job.pause = Standstill{.since_nanos = now};
  parts_.hold(job.id, true);
  absl::Status frozen = job.trainer->Freeze();
  if (frozen.ok()) {
    job.frozen = true;
    job.thaw_nanos = now + kFrozenNanos;
  } else if (!absl::IsUnimplemented(frozen)) {
    // A thread that waits for a slow disk stands only after that, and the others would stand with it until then.
    Thaw(job);
  }
}

void JobPauses::GoOn(Job& job) {
  if (!job.pause) return;
  job.pause.reset();
  job.trainer->Send(wire::Control::RESUME);
  parts_.hold(job.id, false);
  if (job.thaw_nanos) Thaw(job);
}

void JobPauses::Tell(Job& job) {
  if (!job.pause || job.pause->told) return;
  job.pause->told = true;
  job.trainer->Send(wire::Control::PAUSE);
}

// What cannot be thawed is tried again in each round: nobody else would, and the job would stand for ever.
void JobPauses::Thaw(Job& job) {
  job.frozen = false;
  absl::Status thawed = job.trainer->Thaw();
  if (thawed.ok() || absl::IsUnimplemented(thawed)) {
    job.thaw_nanos.reset();
    job.thaw_failure_is_logged = false;
    return;
  }
  job.thaw_nanos = parts_.clock->MonotonicNanos();
  if (job.thaw_failure_is_logged) return;
  job.thaw_failure_is_logged = true;
  Log(LogLevel::kError, "a trainer could not be thawed; it is tried again until it can, or the job ends",
      {{"job", job.id}, {"error", MessageOf(thawed)}});
}

void JobPauses::Dismiss(Job& job) {
  job.must_leave = true;
  job.trainer->Send(wire::Control::STOP);
  Thaw(job);  // it could not listen
}

// Frozen for good, so that it takes nothing more from anybody until it is gone.
void JobPauses::End(Job& job) {
  job.must_leave = true;
  job.trainer->Freeze().IgnoreError();
  Log(LogLevel::kError, "a trainer computes although it was told to pause; it is ended", {{"job", job.id}});
  job.trainer->Kill();
  // Where a frozen process does not hear that, and Kill could not thaw it.
  job.thaw_nanos = parts_.clock->MonotonicNanos();
}

}  // namespace tandem::daemon
