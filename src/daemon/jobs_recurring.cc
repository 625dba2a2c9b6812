// The verbs of recurring jobs, and of giving back and explaining.
#include "base/status.h"
#include "base/text.h"
#include "daemon/explain.h"
#include "daemon/jobs_service.h"
#include "jobs/recurring_runs.h"

namespace tandem::daemon {
namespace {

wire::RecurringJob RecurringToWire(const jobs::RecurringRecord& record) {
  wire::RecurringJob out;
  out.set_id(record.id);
  out.set_name(record.name);
  out.set_cron(record.cron);
  out.set_time_zone(record.time_zone);
  out.set_catch_up(record.catch_up);
  out.set_overlap(record.overlap);
  out.set_next_ms(static_cast<double>(record.next_ms));
  out.set_last_ms(static_cast<double>(record.last_ms));
  out.set_last_job(record.last_job);
  out.set_paused(record.paused);
  out.set_submitted_by(record.submitted_by);
  out.set_note(record.note);
  out.set_spec(record.spec);
  return out;
}

}  // namespace

absl::StatusOr<wire::JobExplanation> JobsService::Explain(int32_t job) {
  TANDEM_ASSIGN_OR_RETURN(jobs::JobRecord record, parts_.jobs->Get(job));
  wire::JobExplanation out = daemon::Explain(record, parts_.jobs->Active(), parts_.governor->View(),
                                             parts_.isolation->capabilities(), parts_.clock->UnixMillis());
  *out.mutable_job() = ToWire(record);
  TANDEM_ASSIGN_OR_RETURN(std::vector<jobs::JobEvent> events, parts_.jobs->Events(job));
  for (const jobs::JobEvent& event : events) {
    wire::JobEvent* added = out.add_events();
    added->set_when_ms(static_cast<double>(event.when_ms));
    added->set_state(std::string(jobs::StateName(event.state)));
    added->set_reason(event.reason);
  }
  return out;
}

absl::Status JobsService::Release(const api::Caller&, int32_t job) {
  TANDEM_RETURN_IF_ERROR(parts_.jobs->Get(job).status());
  TANDEM_RETURN_IF_ERROR(parts_.loop->Release(job, "its owner asked for its resources back"));
  // It waits until it is resumed; else it would start again at once.
  return parts_.jobs->RequestPause(job, true);
}

absl::StatusOr<wire::Job> JobsService::SubmitRecurring(const api::Caller& caller, spec::TrainSpec spec) {
  const spec::RecurringSpec when = *spec.recurring;
  spec.recurring.reset();  // what is submitted each time
  TANDEM_RETURN_IF_ERROR(Check(caller, spec).status());
  TANDEM_ASSIGN_OR_RETURN(jobs::RecurringRecord record, parts_.recurring->Add({.name = spec.name,
                                                                               .spec = spec::ToYaml(spec),
                                                                               .submitted_by = caller.name,
                                                                               .cron = when.cron,
                                                                               .time_zone = when.time_zone,
                                                                               .catch_up = when.catch_up,
                                                                               .overlap = when.overlap}));
  wire::Job job;
  job.set_name(spec.name);
  job.set_kind(spec.kind);
  job.set_state("recurring");
  job.set_recurring(record.id);
  job.set_submitted_by(caller.name);
  job.set_spec(record.spec);
  TANDEM_ASSIGN_OR_RETURN(absl::TimeZone zone, LoadZone(record.time_zone));
  job.set_reason(record.next_ms == 0 ? std::string("it never runs")
                                     : StrCat("first runs at ", CivilText(record.next_ms, zone)));
  return job;
}

wire::RecurringList JobsService::ListRecurring() {
  wire::RecurringList list;
  for (const jobs::RecurringRecord& record : parts_.recurring->List()) *list.add_recurring() = RecurringToWire(record);
  return list;
}

absl::StatusOr<wire::RecurringJob> JobsService::ShowRecurring(int32_t id) {
  TANDEM_ASSIGN_OR_RETURN(jobs::RecurringRecord record, parts_.recurring->Get(id));
  return RecurringToWire(record);
}

absl::Status JobsService::PauseRecurring(const api::Caller&, int32_t id, bool paused) {
  return parts_.recurring->SetPaused(id, paused);
}

absl::Status JobsService::DeleteRecurring(const api::Caller&, int32_t id) { return parts_.recurring->Delete(id); }

void JobsService::SubmitDue() {
  jobs::SubmitDueRuns(parts_.recurring, parts_.jobs, [this](const jobs::DueRun& due) { return SubmitRun(due); });
}

absl::StatusOr<int32_t> JobsService::SubmitRun(const jobs::DueRun& due) {
  TANDEM_ASSIGN_OR_RETURN(spec::TrainSpec spec,
                          spec::ParseTrainSpec(due.record.spec, StrCat("recurring job ", due.record.id)));
  // A file of this machine was allowed when the recurring job was made.
  TANDEM_ASSIGN_OR_RETURN(jobs::JobRecord record, Check({.name = due.record.submitted_by, .local = true}, spec));
  record.idempotency_key = due.idempotency_key;
  record.recurring = due.record.id;
  TANDEM_ASSIGN_OR_RETURN(jobs::JobRecord submitted, parts_.jobs->Submit(std::move(record)));
  parts_.loop->Wake();
  return submitted.id;
}

}  // namespace tandem::daemon
