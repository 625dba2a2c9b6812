// /api/v1/jobs and /api/v1/recurring.
#include <algorithm>

#include "absl/strings/numbers.h"
#include "api/http/handlers.h"
#include "api/http/json_writer.h"
#include "api/http/uri.h"
#include "api/http/wire_json.h"
#include "base/status.h"

namespace tandem::api::http {
namespace {

constexpr double kLongestWatchSeconds = 60;
// How soon a waiting request sees that the server stops.
constexpr double kWatchSliceSeconds = 0.5;

absl::StatusOr<int32_t> JobId(const Request& request) {
  int32_t id = 0;
  if (!absl::SimpleAtoi(AbslView(request.Param("id")), &id) || id <= 0) {
    return InvalidArgument("job '", request.Param("id"), "' is not a job number; tandem jobs list shows them");
  }
  return id;
}

absl::StatusOr<int32_t> RecurringId(const Request& request) {
  int32_t id = 0;
  if (!absl::SimpleAtoi(AbslView(request.Param("id")), &id) || id <= 0) {
    return InvalidArgument("recurring job '", request.Param("id"),
                           "' is not a number; tandem recurring list shows them");
  }
  return id;
}

absl::StatusOr<Reply> SetRecurringPaused(const Services& services, const Request& request, bool paused) {
  TANDEM_ASSIGN_OR_RETURN(int32_t id, RecurringId(request));
  TANDEM_RETURN_IF_ERROR(services.jobs->PauseRecurring(request.caller, id, paused));
  TANDEM_ASSIGN_OR_RETURN(wire::RecurringJob recurring, services.jobs->ShowRecurring(id));
  return MessageReply(recurring);
}

using JobVerb = absl::Status (Jobs::*)(const Caller&, int32_t);

// Does it, and answers with the job as it is then.
absl::StatusOr<Reply> Apply(const Services& services, const Request& request, JobVerb verb) {
  TANDEM_ASSIGN_OR_RETURN(int32_t id, JobId(request));
  TANDEM_RETURN_IF_ERROR((services.jobs->*verb)(request.caller, id));
  TANDEM_ASSIGN_OR_RETURN(wire::Job job, services.jobs->Show(id));
  return MessageReply(job);
}

}  // namespace

absl::StatusOr<Reply> SubmitJob(const Services& services, const Request& request) {
  wire::SubmitJobRequest submit;
  TANDEM_RETURN_IF_ERROR(FromJson(request.body, &submit));
  TANDEM_ASSIGN_OR_RETURN(wire::Job job, services.jobs->Submit(request.caller, submit));
  return MessageReply(job);
}

absl::StatusOr<Reply> ListJobs(const Services& services, const Request&) { return MessageReply(services.jobs->List()); }

absl::StatusOr<Reply> ShowJob(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(int32_t id, JobId(request));
  TANDEM_ASSIGN_OR_RETURN(wire::Job job, services.jobs->Show(id));
  return MessageReply(job);
}

absl::StatusOr<Reply> CancelJob(const Services& services, const Request& request) {
  return Apply(services, request, &Jobs::Cancel);
}

absl::StatusOr<Reply> PauseJob(const Services& services, const Request& request) {
  return Apply(services, request, &Jobs::Pause);
}

absl::StatusOr<Reply> ResumeJob(const Services& services, const Request& request) {
  return Apply(services, request, &Jobs::Resume);
}

absl::StatusOr<Reply> DeleteJob(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(int32_t id, JobId(request));
  TANDEM_RETURN_IF_ERROR(services.jobs->Delete(request.caller, id));
  return JsonReply("{}");
}

absl::StatusOr<Reply> JobLogs(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(int32_t id, JobId(request));
  TANDEM_ASSIGN_OR_RETURN(int64_t offset, QueryInt(request.query, "offset", 0));
  if (offset < 0) return InvalidArgument("query parameter 'offset' is ", offset, ", must be 0 or more");
  TANDEM_ASSIGN_OR_RETURN(wire::LogText text, services.jobs->Logs(id, offset));
  return MessageReply(text);
}

absl::StatusOr<Reply> WatchJob(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(int32_t id, JobId(request));
  TANDEM_ASSIGN_OR_RETURN(int64_t seen, QueryInt(request.query, "change", 0));
  TANDEM_ASSIGN_OR_RETURN(double left, QuerySeconds(request.query, "timeout_s", 0));
  left = std::min(left, kLongestWatchSeconds);
  while (true) {
    double slice = std::min(left, kWatchSliceSeconds);
    TANDEM_ASSIGN_OR_RETURN(auto job_and_change, services.jobs->Watch(id, seen, slice));
    left -= slice;
    if (job_and_change.second == seen && left > 0 && !request.stopping->load()) continue;
    TANDEM_ASSIGN_OR_RETURN(std::string job, ToJson(job_and_change.first));
    Reply reply;
    JsonWriter(&reply.body).BeginObject().Key("job").Raw(job).Key("change").Number(job_and_change.second).EndObject();
    return reply;
  }
}

absl::StatusOr<Reply> ExplainJob(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(int32_t id, JobId(request));
  TANDEM_ASSIGN_OR_RETURN(wire::JobExplanation explanation, services.jobs->Explain(id));
  return MessageReply(explanation);
}

absl::StatusOr<Reply> ReleaseJob(const Services& services, const Request& request) {
  return Apply(services, request, &Jobs::Release);
}

absl::StatusOr<Reply> ListRecurring(const Services& services, const Request&) {
  return MessageReply(services.jobs->ListRecurring());
}

absl::StatusOr<Reply> ShowRecurring(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(int32_t id, RecurringId(request));
  TANDEM_ASSIGN_OR_RETURN(wire::RecurringJob recurring, services.jobs->ShowRecurring(id));
  return MessageReply(recurring);
}

absl::StatusOr<Reply> PauseRecurring(const Services& services, const Request& request) {
  return SetRecurringPaused(services, request, true);
}

absl::StatusOr<Reply> ResumeRecurring(const Services& services, const Request& request) {
  return SetRecurringPaused(services, request, false);
}

absl::StatusOr<Reply> DeleteRecurring(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(int32_t id, RecurringId(request));
  TANDEM_RETURN_IF_ERROR(services.jobs->DeleteRecurring(request.caller, id));
  return JsonReply("{}");
}

}  // namespace tandem::api::http
