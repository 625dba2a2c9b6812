// How jobs end, and what is written about it.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <shared_mutex>

#include "base/status.h"
#include "daemon/control_loop.h"
#include "daemon/deployer.h"
#include "spec/train_spec.h"
#include "telemetry/log.h"

namespace tandem::daemon {
namespace {

std::string MetricsJson(const google::protobuf::Map<std::string, double>& metrics) {
  nlohmann::json json = nlohmann::json::object();
  for (const auto& [name, value] : metrics) json[name] = value;
  return json.dump();
}

// Whether the same write may succeed later: the record is as it was, and the store could not take the change.
bool MayPass(const absl::Status& written) {
  return absl::IsResourceExhausted(written) || absl::IsUnavailable(written) || absl::IsInternal(written) ||
         absl::IsPermissionDenied(written);
}

// The attempts of one job between two accounts, as one: none of them is lost.
void AddAttempt(const isolation::Usage& former, isolation::Usage* usage) {
  auto add = [](int64_t value, int64_t* to) {
    if (value >= 0) *to = std::max<int64_t>(*to, 0) + value;
  };
  usage->cpu_seconds += former.cpu_seconds;
  add(former.disk_read_bytes, &usage->disk_read_bytes);
  add(former.disk_written_bytes, &usage->disk_written_bytes);
}

}  // namespace

void ControlLoop::TakeEnds() {
  std::deque<End> ends;
  {
    std::lock_guard lock(mutex_);
    ends.swap(ends_);
  }
  for (const End& end : ends) Ended(end);
}

void ControlLoop::Ended(const End& end) {
  parts_.pauses->Remove(end.job);  // first: another thread may be freezing it
  std::unique_ptr<JobRunner> runner;
  {
    std::lock_guard lock(mutex_);
    runner = std::move(running_.extract(end.job).mapped());  // Start stored it in an earlier round, on this thread
    UsageReading reading = {runner->ReadUsage(), true};
    auto [ended, first] = ended_usage_.try_emplace(end.job, reading);
    if (!first) {
      AddAttempt(ended->second.usage, &reading.usage);
      ended->second = reading;
    }
  }
  runner.reset();
  parts_.governor->RemoveJob(end.job);
  auto left = leaving_.extract(end.job);
  told_to_leave_nanos_.erase(end.job);
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
      } else if (!left.empty() && left.mapped().expired) {
        Finish(end.job, jobs::State::kTimedOut,
               StrCat(left.mapped().reason, "; its checkpoint of step ", end.outcome.step,
                      " is kept until the job is deleted"));
      } else if (!left.empty()) {
        Finish(end.job, jobs::State::kQueued, StrCat(left.mapped().reason, "; goes on from step ", end.outcome.step));
      } else {
        Finish(end.job, jobs::State::kQueued,
               StrCat("stopped with the server at step ", end.outcome.step, "; goes on from there"));
      }
      break;
    case JobOutcome::Kind::kFailed:
      FailedAttempt(*record, end.outcome.error, end.outcome.retry);
      break;
    case JobOutcome::Kind::kDied:
      if (left.empty() || record->cancel_requested || end.outcome.out_of_memory) {
        FailedAttempt(*record, end.outcome.error, !end.outcome.out_of_memory);
      } else {
        Finish(end.job, left.mapped().expired ? jobs::State::kTimedOut : jobs::State::kQueued,
               StrCat(left.mapped().reason, left.mapped().expired ? "" : "; goes on from its last checkpoint"));
      }
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
    version.precision = spec.register_as->precision;
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
  // It has succeeded, whatever becomes of this.
  Record(record.id, [this, id = record.id] { return parts_.jobs->Reload(id); });
  Log(LogLevel::kInfo, "job succeeded",
      {{"job", record.id}, {"model", version.model}, {"version", version.version}, {"metrics", metrics}});
  if (spec.register_as) parts_.on_version();
  return absl::OkStatus();
}

void ControlLoop::BringResult(int32_t job, JobOutcome* outcome) {
  absl::StatusOr<jobs::JobRecord> record = parts_.jobs->Get(job);
  if (!record.ok()) return;
  absl::StatusOr<spec::TrainSpec> spec = spec::ParseTrainSpec(record->spec, StrCat("job ", job));
  if (!spec.ok() || !spec->register_as) return;
  absl::StatusOr<std::filesystem::path> near = parts_.artifacts->BringNear(outcome->finished.output_path());
  if (near.ok()) {
    outcome->finished.set_output_path(near->string());
  } else {
    *outcome = {.kind = JobOutcome::Kind::kFailed,
                .error = StrCat("the result could not be kept: ", MessageOf(near.status())),
                .retry = true};
  }
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
  Record(record.id, [this, id = record.id, reason, delay_ms] { return parts_.jobs->Retry(id, reason, delay_ms); });
}

// Without this a job whose end found the disk full would stand as running, without a trainer, until a restart; and one
// whose start did, as starting, which nobody can pause and which cannot succeed. What is newer takes its place.
void ControlLoop::Record(int32_t job, std::function<absl::Status()> write) {
  absl::Status written = write();
  Complain("state", job, written);
  if (MayPass(written)) {
    unrecorded_[job] = std::move(write);
  } else if (written.ok()) {
    unrecorded_.erase(job);
  }
}

void ControlLoop::RecordAgain() {
  std::erase_if(unrecorded_, [this](const auto& entry) {
    absl::Status written = entry.second();
    if (MayPass(written)) return false;
    Complain("state", entry.first, written);
    parts_.events->Changed(entry.first);
    return true;
  });
}

void ControlLoop::Finish(int32_t job, jobs::State state, std::string_view reason) {
  Record(job, [this, job, state, reason = std::string(reason)] { return parts_.jobs->Move(job, state, reason); });
  Log(state == jobs::State::kFailed ? LogLevel::kError : LogLevel::kInfo, "job ended or was queued again",
      {{"job", job}, {"state", jobs::StateName(state)}, {"reason", reason}});
  parts_.events->Changed(job);
}

}  // namespace tandem::daemon
