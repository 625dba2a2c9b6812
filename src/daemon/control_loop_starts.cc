// How jobs start: at once, or once the model that they start from was prepared.
#include "base/status.h"
#include "daemon/control_loop.h"
#include "telemetry/log.h"

namespace tandem::daemon {

ControlLoop::Preparing::~Preparing() {
  stop = true;
  if (thread.joinable()) thread.join();
}

void ControlLoop::Start(const scheduling::StartJob& action) {
  absl::Status starting = parts_.jobs->Starting(action.id);
  if (!starting.ok()) {
    std::string& told = told_waiting_[action.id];  // it is tried again each round, and said once
    if (told != MessageOf(starting)) Complain("a job could not be started", action.id, starting);
    told = MessageOf(starting);
    return;
  }
  told_waiting_.erase(action.id);
  parts_.events->Changed(action.id);
  absl::Status begun = [&]() -> absl::Status {
    TANDEM_ASSIGN_OR_RETURN(jobs::JobRecord record, parts_.jobs->Get(action.id));
    TANDEM_ASSIGN_OR_RETURN(bool prepare, parts_.starter->NeedsPreparing(record));
    if (!prepare) return Launch(record, action);
    Prepare(std::move(record), action);
    return absl::OkStatus();
  }();
  if (!begun.ok()) NotStarted(action.id, begun);
  parts_.events->Changed(action.id);
}

absl::Status ControlLoop::Launch(const jobs::JobRecord& record, const scheduling::StartJob& action) {
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<JobRunner> runner,
                          parts_.starter->Start(record, action.threads, action.weight, Hooks(record.id)));
  parts_.jobs->SetPid(record.id, runner->pid());
  Log(LogLevel::kInfo, "job started",
      {{"job", record.id},
       {"attempt", record.attempt},
       {"pid", static_cast<int>(runner->pid())},
       {"threads", action.threads},
       {"why", action.reason}});
  parts_.pauses->Add(record.id, runner.get());
  {
    std::lock_guard lock(mutex_);
    running_[record.id] = std::move(runner);
  }
  Record(record.id, [this, id = record.id] { return parts_.jobs->Move(id, jobs::State::kRunning, ""); });
  return absl::OkStatus();
}

// Meanwhile other jobs go on, and what this one will take is counted as taken: it is starting.
void ControlLoop::Prepare(jobs::JobRecord record, const scheduling::StartJob& action) {
  Complain("a reason could not be kept", record.id,
           parts_.jobs->Move(record.id, jobs::State::kStarting, "its model is being prepared"));
  auto made = std::make_unique<Preparing>(action);
  Preparing* const preparing = made.get();
  {
    std::lock_guard lock(mutex_);
    preparing_[record.id] = std::move(made);
  }
  preparing->thread = std::thread([this, preparing, record = std::move(record)] {
    absl::Status status = CatchToStatus("prepare the model that the job starts from",
                                        [&] { return parts_.starter->Prepare(record, preparing->stop); });
    std::lock_guard lock(mutex_);
    prepared_.push_back({record.id, std::move(status)});
    woken_ = true;
    wake_.notify_all();
  });
}

bool ControlLoop::IsPreparing(int32_t job) const {
  std::lock_guard lock(mutex_);
  return preparing_.count(job) != 0;
}

bool ControlLoop::StopPreparing(int32_t job) {
  std::lock_guard lock(mutex_);
  auto preparing = preparing_.find(job);
  return preparing != preparing_.end() && !preparing->second->stop.exchange(true);
}

void ControlLoop::TakePrepared() {
  std::deque<Prepared> prepared;
  {
    std::lock_guard lock(mutex_);
    prepared.swap(prepared_);
  }
  for (const Prepared& one : prepared) PreparationEnded(one);
}

void ControlLoop::PreparationEnded(const Prepared& prepared) {
  std::unique_ptr<Preparing> preparing;
  bool stopping;
  {
    std::lock_guard lock(mutex_);
    preparing = std::move(preparing_.extract(prepared.job).mapped());  // Prepare stored it, on this thread
    stopping = stopping_;
  }
  const scheduling::StartJob action = preparing->action;
  preparing.reset();
  auto left = leaving_.extract(prepared.job);
  absl::StatusOr<jobs::JobRecord> record = parts_.jobs->Get(prepared.job);
  if (!record.ok()) return;
  // What became of the file does not matter to one that is to leave.
  if (record->cancel_requested) {
    Finish(prepared.job, jobs::State::kCancelled, "cancelled before it started");
  } else if (!left.empty()) {
    Finish(prepared.job, left.mapped().expired ? jobs::State::kTimedOut : jobs::State::kQueued, left.mapped().reason);
  } else if (stopping) {
    Finish(prepared.job, jobs::State::kQueued, "the server stopped before it started");
  } else {
    const absl::Status started = prepared.status.ok() ? Launch(*record, action) : prepared.status;
    if (!started.ok()) NotStarted(prepared.job, started);
  }
  parts_.events->Changed(prepared.job);
}

// What passes (a full disk, a machine without descriptors or time, a server that stops) is not the job's fault.
void ControlLoop::NotStarted(int32_t job, const absl::Status& why) {
  if (!absl::IsResourceExhausted(why) && !absl::IsUnavailable(why) && !absl::IsDeadlineExceeded(why)) {
    return Finish(job, jobs::State::kFailed, MessageOf(why));
  }
  constexpr int64_t kDelayMs = 5000;
  Log(LogLevel::kWarning, "a job could not be started yet", {{"job", job}, {"error", MessageOf(why)}});
  const std::string reason = StrCat("could not be started: ", MessageOf(why), "; tried again every 5 s");
  Record(job, [this, job, reason] { return parts_.jobs->Postpone(job, reason, kDelayMs); });
}

}  // namespace tandem::daemon
