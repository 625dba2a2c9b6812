#include "daemon/control_loop.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <shared_mutex>

#include "base/files.h"
#include "base/status.h"
#include "daemon/deployer.h"
#include "telemetry/log.h"

namespace tandem::daemon {
namespace {

constexpr double kJoinTimeoutSeconds = 120;
constexpr int64_t kCancelGraceNanos = 10'000'000'000;

scheduling::JobPhase PhaseOf(jobs::State state) {
  if (state == jobs::State::kQueued) return scheduling::JobPhase::kQueued;
  return state == jobs::State::kPaused ? scheduling::JobPhase::kPaused : scheduling::JobPhase::kActive;
}

void Complain(std::string_view what, int32_t job, const absl::Status& status) {
  if (!status.ok()) Log(LogLevel::kError, what, {{"job", job}, {"error", MessageOf(status)}});
}

std::string MetricsJson(const google::protobuf::Map<std::string, double>& metrics) {
  nlohmann::json json = nlohmann::json::object();
  for (const auto& [name, value] : metrics) json[name] = value;
  return json.dump();
}

}  // namespace

int64_t EstimateMemoryBytes(const spec::TrainSpec& spec, const wire::Dataset& dataset, int64_t threads,
                            int64_t model_file_bytes) {
  constexpr int64_t kRuntimeBytes = 350'000'000;
  constexpr int64_t kFeatureMapsPerInput = 96;  // activations kept for backward, as multiples of the input
  int64_t elements = 1;
  for (int32_t dim : dataset.shape()) elements *= dim;
  const int64_t samples = int64_t{dataset.train()} + dataset.val();
  int64_t weights = model_file_bytes > 0                    ? model_file_bytes
                    : spec.model.architecture == "resnet18" ? 45'000'000
                                                            : 4'000'000;
  int64_t micro_batch = spec.micro_batch > 0 ? spec.micro_batch : std::min<int64_t>(spec.batch, 32);
  return kRuntimeBytes + samples * elements + weights * (4 + threads) +
         threads * micro_batch * elements * 4 * kFeatureMapsPerInput;
}

ControlLoop::ControlLoop(const ControlParts& parts, Paths paths, const TrainingSettings& settings)
    : parts_(parts), paths_(std::move(paths)), settings_(settings) {}

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
  std::lock_guard lock(mutex_);
  stopping_ = true;
  for (auto& [job, runner] : running_) runner->Send(wire::Control::STOP);
  woken_ = true;
  wake_.notify_all();
}

bool ControlLoop::Idle() const {
  std::lock_guard lock(mutex_);
  return running_.empty();
}

std::map<int32_t, isolation::Usage> ControlLoop::ReadUsage() const {
  std::lock_guard lock(mutex_);
  std::map<int32_t, isolation::Usage> usage;
  for (const auto& [job, runner] : running_) usage[job] = runner->ReadUsage();
  return usage;
}

void ControlLoop::Step() {
  RecordEndsAgain();
  TakeEnds();
  SendCancels();
  Apply(parts_.policy->Decide(BuildSnapshot()));
}

scheduling::Snapshot ControlLoop::BuildSnapshot() const {
  scheduling::Snapshot snapshot;
  snapshot.now_ms = parts_.clock->UnixMillis();
  snapshot.cpus = settings_.cpus;
  snapshot.training_threads = settings_.threads;
  snapshot.training_memory_bytes = settings_.memory_bytes;
  snapshot.max_running_jobs = settings_.max_running_jobs;
  {
    std::lock_guard lock(mutex_);
    snapshot.stopping = stopping_;
  }
  for (const jobs::JobRecord& record : parts_.jobs->List()) {
    if (jobs::IsEnd(record.state)) continue;
    snapshot.jobs.push_back({.id = record.id,
                             .phase = PhaseOf(record.state),
                             .priority = record.priority,
                             .waiting_ms = snapshot.now_ms - record.created_ms,
                             .not_before_ms = record.not_before_ms,
                             .threads = record.threads,
                             .memory_bytes = record.memory_bytes,
                             .pause_requested = record.pause_requested});
  }
  return snapshot;
}

void ControlLoop::Apply(const scheduling::Actions& actions) {
  for (const scheduling::StartJob& start : actions.start) Start(start);
  for (const scheduling::KeepWaiting& waiting : actions.waiting) {
    std::string& told = told_waiting_[waiting.id];
    if (told == waiting.reason) continue;
    told = waiting.reason;
    Complain("a reason could not be kept", waiting.id,
             parts_.jobs->Move(waiting.id, jobs::State::kQueued, waiting.reason));
    parts_.events->Changed(waiting.id);
  }
  auto send = [&](int32_t job, wire::Control::Verb verb) {
    std::lock_guard lock(mutex_);
    auto runner = running_.find(job);
    if (runner != running_.end()) runner->second->Send(verb);
  };
  for (const scheduling::PauseJob& pause : actions.pause) {
    absl::StatusOr<jobs::JobRecord> record = parts_.jobs->Get(pause.id);
    if (!record.ok() || record->state != jobs::State::kRunning) continue;
    Complain("state", pause.id, parts_.jobs->Move(pause.id, jobs::State::kPausing, pause.reason));
    parts_.events->Changed(pause.id);
    send(pause.id, wire::Control::PAUSE);
  }
  for (const scheduling::ResumeJob& resume : actions.resume) {
    Complain("state", resume.id, parts_.jobs->Move(resume.id, jobs::State::kRunning, resume.reason));
    parts_.events->Changed(resume.id);
    send(resume.id, wire::Control::RESUME);
  }
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
  absl::Status started = [&]() -> absl::Status {
    TANDEM_ASSIGN_OR_RETURN(jobs::JobRecord record, parts_.jobs->Get(action.id));
    TANDEM_ASSIGN_OR_RETURN(wire::Assignment assignment, Assign(record, action.threads));
    TANDEM_ASSIGN_OR_RETURN(
        std::unique_ptr<JobRunner> runner,
        JobRunner::Start(assignment, parts_.isolation, paths_.JobLog(action.id).string(), Hooks(action.id)));
    parts_.jobs->SetPid(action.id, runner->pid());
    Log(LogLevel::kInfo, "job started",
        {{"job", action.id},
         {"attempt", record.attempt},
         {"pid", static_cast<int>(runner->pid())},
         {"threads", action.threads},
         {"why", action.reason}});
    std::lock_guard lock(mutex_);
    running_[action.id] = std::move(runner);
    return absl::OkStatus();
  }();
  if (started.ok()) {
    Complain("state", action.id, parts_.jobs->Move(action.id, jobs::State::kRunning, ""));
  } else {
    Finish(action.id, jobs::State::kFailed, MessageOf(started));
  }
  parts_.events->Changed(action.id);
}

absl::StatusOr<wire::Assignment> ControlLoop::Assign(const jobs::JobRecord& record, int64_t threads) {
  TANDEM_ASSIGN_OR_RETURN(spec::TrainSpec spec, spec::ParseTrainSpec(record.spec, StrCat("job ", record.id)));
  const std::filesystem::path folder = paths_.JobFolder(record.id);
  TANDEM_RETURN_IF_ERROR(MakeFolders(folder));
  wire::Assignment assignment;
  assignment.set_job(record.id);
  assignment.set_attempt(record.attempt);
  assignment.set_kind("train");
  assignment.set_spec(record.spec);
  assignment.set_threads(static_cast<int32_t>(threads));
  assignment.set_folder(folder.string());
  assignment.set_output_path((folder / "trained.onnx").string());
  TANDEM_ASSIGN_OR_RETURN(*assignment.mutable_dataset(), parts_.registry->GetDataset(spec.dataset));
  if (spec.model.architecture.empty()) {
    // A copy of the job's own: what the owner changes or deletes later changes no attempt.
    std::filesystem::path start = folder / "start.onnx";
    if (!std::filesystem::exists(start)) TANDEM_RETURN_IF_ERROR(PlaceStartingModel(spec, start.string()));
    assignment.set_model_path(start.string());
  }
  return assignment;
}

absl::Status ControlLoop::PlaceStartingModel(const spec::TrainSpec& spec, const std::string& destination) {
  std::string source = spec.model.onnx;
  if (!spec.model.from.empty()) {
    TANDEM_ASSIGN_OR_RETURN(spec::ModelRef ref, spec::ParseModelRef(spec.model.from));
    TANDEM_ASSIGN_OR_RETURN(registry::Version version, parts_.registry->Resolve(ref.name, ref.alias, ref.version));
    TANDEM_ASSIGN_OR_RETURN(std::filesystem::path path, parts_.artifacts->PathOf(version.sha256));
    source = path.string();
  }
  return parts_.children->RunChecked(
      {BesideSelf("tandem-engine-host").string(), "model", "join", source, "--out", destination}, kJoinTimeoutSeconds);
}

JobHooks ControlLoop::Hooks(int32_t job) {
  JobHooks hooks;
  hooks.on_progress = [this, job](const wire::Progress& progress) {
    parts_.jobs->SetProgress(job, progress);
    parts_.events->Changed(job);
  };
  hooks.on_paused = [this, job](bool paused) {
    absl::StatusOr<jobs::JobRecord> record = parts_.jobs->Get(job);
    if (paused && record.ok() && record->state == jobs::State::kPausing) {
      Complain("state", job, parts_.jobs->Move(job, jobs::State::kPaused, "paused in memory"));
    }
    parts_.events->Changed(job);
  };
  hooks.on_end = [this, job](const JobOutcome& outcome) {
    std::lock_guard lock(mutex_);
    ends_.push_back({job, outcome});
    woken_ = true;
    wake_.notify_all();
  };
  return hooks;
}

void ControlLoop::SendCancels() {
  for (const jobs::JobRecord& record : parts_.jobs->List()) {
    if (jobs::IsEnd(record.state) || !record.cancel_requested) continue;
    if (record.state == jobs::State::kQueued) {
      Finish(record.id, jobs::State::kCancelled, "cancelled before it started");
      continue;
    }
    std::lock_guard lock(mutex_);
    auto runner = running_.find(record.id);
    if (runner == running_.end()) continue;
    auto [sent, first] = cancel_sent_nanos_.try_emplace(record.id, parts_.clock->MonotonicNanos());
    // A trainer that gets no CPU, or hangs, does not hear the request.
    if (parts_.clock->MonotonicNanos() - sent->second > kCancelGraceNanos) runner->second->Kill();
    if (!first) continue;
    Complain("state", record.id, parts_.jobs->Move(record.id, jobs::State::kStopping, "cancelling"));
    runner->second->Send(wire::Control::STOP);
    parts_.events->Changed(record.id);
  }
}

void ControlLoop::TakeEnds() {
  std::deque<End> ends;
  {
    std::lock_guard lock(mutex_);
    ends.swap(ends_);
  }
  for (const End& end : ends) Ended(end);
}

void ControlLoop::Ended(const End& end) {
  std::unique_ptr<JobRunner> runner;
  {
    std::lock_guard lock(mutex_);
    runner = std::move(running_.extract(end.job).mapped());  // Start stored it in an earlier round, on this thread
  }
  runner.reset();
  cancel_sent_nanos_.erase(end.job);
  parts_.jobs->SetPid(end.job, 0);
  absl::StatusOr<jobs::JobRecord> record = parts_.jobs->Get(end.job);
  if (!record.ok()) return;
  switch (end.outcome.kind) {
    case JobOutcome::Kind::kFinished: {
      absl::Status finished = Finished(*record, end.outcome.finished);
      if (!finished.ok()) FailedAttempt(*record, StrCat("the result could not be kept: ", MessageOf(finished)), true);
      break;
    }
    case JobOutcome::Kind::kStopped:
      if (record->cancel_requested) {
        Finish(end.job, jobs::State::kCancelled,
               StrCat("cancelled at step ", end.outcome.step, "; its checkpoint is kept until the job is deleted"));
      } else {
        Finish(end.job, jobs::State::kQueued,
               StrCat("stopped with the server at step ", end.outcome.step, "; goes on from there"));
      }
      break;
    case JobOutcome::Kind::kFailed:
      FailedAttempt(*record, end.outcome.error, end.outcome.retry);
      break;
    case JobOutcome::Kind::kDied:
      FailedAttempt(*record, end.outcome.error, true);
      break;
  }
  parts_.events->Changed(end.job);
}

absl::Status ControlLoop::Finished(const jobs::JobRecord& record, const wire::Finished& finished) {
  TANDEM_ASSIGN_OR_RETURN(spec::TrainSpec spec, spec::ParseTrainSpec(record.spec, StrCat("job ", record.id)));
  const std::string metrics = MetricsJson(finished.metrics());
  registry::Version version;
  std::shared_lock recording(parts_.artifacts->record_mutex());
  if (spec.register_as) {
    TANDEM_ASSIGN_OR_RETURN(storage::ArtifactStore::Artifact artifact,
                            parts_.artifacts->AdoptFile(finished.output_path()));
    DeployRule rule{.alias = spec.register_as->alias, .dataset = spec.dataset};
    if (spec.register_as->promote_if) {
      rule.conditional = true;
      rule.metric = spec.register_as->promote_if->metric;
      rule.better_than = spec.register_as->promote_if->better_than;
    }
    version.model = spec.register_as->model;
    version.sha256 = artifact.sha256;
    version.bytes = artifact.bytes;
    version.source = StrCat("job ", record.id);
    version.created_by = record.submitted_by;
    version.job = record.id;
    version.attempt = record.attempt;
    version.metrics_json = metrics;
    version.deploy = "pending";
    version.promote_json = ToJson(rule);
  }
  TANDEM_RETURN_IF_ERROR(parts_.store->Write([&](storage::Store::Transaction& transaction) -> absl::Status {
    if (spec.register_as) {
      TANDEM_ASSIGN_OR_RETURN(version, parts_.registry->AddVersionInTransaction(transaction, version));
    }
    return parts_.jobs->FinishInTransaction(transaction, record.id, record.attempt, version.model, version.version,
                                            metrics);
  }));
  TANDEM_RETURN_IF_ERROR(parts_.jobs->Reload(record.id));
  Log(LogLevel::kInfo, "job succeeded",
      {{"job", record.id}, {"model", version.model}, {"version", version.version}, {"metrics", metrics}});
  if (spec.register_as) parts_.on_version();
  return absl::OkStatus();
}

void ControlLoop::FailedAttempt(const jobs::JobRecord& record, const std::string& error, bool retry) {
  if (record.cancel_requested) return Finish(record.id, jobs::State::kCancelled, StrCat("cancelled; ", error));
  bool stopping;
  {
    std::lock_guard lock(mutex_);
    stopping = stopping_;
  }
  if (stopping) return Finish(record.id, jobs::State::kQueued, "the server stopped; goes on from its last checkpoint");
  if (!retry || record.failures + 1 >= settings_.max_attempts) {
    std::string tries = retry ? StrCat(" (", record.failures + 1, " attempts)") : "";
    return Finish(record.id, jobs::State::kFailed, StrCat(error, tries));
  }
  const int64_t delay_ms = int64_t{1000} << std::min(record.failures, 6);
  Log(LogLevel::kWarning, "job will be tried again", {{"job", record.id}, {"error", error}, {"delay_ms", delay_ms}});
  std::string reason = StrCat(error, "; the next attempt begins in ", delay_ms / 1000, " s, from the last checkpoint");
  RecordEnd(record.id, [this, id = record.id, reason, delay_ms] { return parts_.jobs->Retry(id, reason, delay_ms); });
}

// Without this a job whose end found the disk full would stand as running, without a trainer, until a restart.
void ControlLoop::RecordEnd(int32_t job, std::function<absl::Status()> write) {
  absl::Status written = write();
  Complain("state", job, written);
  if (absl::IsResourceExhausted(written)) unrecorded_[job] = std::move(write);
}

void ControlLoop::RecordEndsAgain() {
  std::erase_if(unrecorded_, [this](const auto& entry) {
    absl::Status written = entry.second();
    if (absl::IsResourceExhausted(written)) return false;
    Complain("state", entry.first, written);
    parts_.events->Changed(entry.first);
    return true;
  });
}

void ControlLoop::Finish(int32_t job, jobs::State state, std::string_view reason) {
  RecordEnd(job, [this, job, state, reason = std::string(reason)] { return parts_.jobs->Move(job, state, reason); });
  Log(state == jobs::State::kFailed ? LogLevel::kError : LogLevel::kInfo, "job ended or was queued again",
      {{"job", job}, {"state", jobs::StateName(state)}, {"reason", reason}});
  parts_.events->Changed(job);
}

}  // namespace tandem::daemon
