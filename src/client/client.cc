#include "client/client.h"

#include <filesystem>

#include "base/files.h"
#include "base/status.h"
#include "client/json.h"
#include "client/tar_source.h"
#include "nlohmann/json.hpp"

namespace tandem::client {
namespace {

constexpr std::string_view kApi = "/api/v1/";
constexpr double kWatchSeconds = 20;

absl::StatusOr<HttpResponse> Ask(Transport* transport, const HttpRequest& request) {
  TANDEM_ASSIGN_OR_RETURN(HttpResponse response, transport->Call(request));
  TANDEM_RETURN_IF_ERROR(CheckAnswer(request, response));
  return response;
}

template <typename Message>
absl::StatusOr<Message> AskFor(Transport* transport, const HttpRequest& request) {
  TANDEM_ASSIGN_OR_RETURN(HttpResponse response, Ask(transport, request));
  Message message;
  TANDEM_RETURN_IF_ERROR(FromJson(response.body, &message));
  return message;
}

HttpRequest Get(std::string_view target, Deadline deadline) {
  return {.target = StrCat(kApi, target), .timeout_s = deadline.seconds};
}

HttpRequest Send(std::string_view method, std::string_view target, std::string body, Deadline deadline) {
  return {.method = std::string(method),
          .target = StrCat(kApi, target),
          .body = std::move(body),
          .timeout_s = deadline.seconds};
}

std::string ModelPath(std::string_view model, std::string_view rest = "") {
  return StrCat("models/", EncodeUrl(model), rest);
}

}  // namespace

// ---- Jobs

absl::StatusOr<wire::Job> Jobs::Submit(const wire::SubmitJobRequest& request, Deadline deadline) {
  return AskFor<wire::Job>(transport_, Send("POST", "jobs", ToJson(request), deadline));
}

absl::StatusOr<wire::JobList> Jobs::List(Deadline deadline) {
  return AskFor<wire::JobList>(transport_, Get("jobs", deadline));
}

absl::StatusOr<wire::Job> Jobs::Show(int32_t job, Deadline deadline) {
  return AskFor<wire::Job>(transport_, Get(StrCat("jobs/", job), deadline));
}

absl::Status Jobs::Cancel(int32_t job, Deadline deadline) {
  return Ask(transport_, Send("POST", StrCat("jobs/", job, "/cancel"), "", deadline)).status();
}

absl::Status Jobs::Pause(int32_t job, Deadline deadline) {
  return Ask(transport_, Send("POST", StrCat("jobs/", job, "/pause"), "", deadline)).status();
}

absl::Status Jobs::Resume(int32_t job, Deadline deadline) {
  return Ask(transport_, Send("POST", StrCat("jobs/", job, "/resume"), "", deadline)).status();
}

absl::Status Jobs::Delete(int32_t job, Deadline deadline) {
  return Ask(transport_, Send("DELETE", StrCat("jobs/", job), "", deadline)).status();
}

absl::StatusOr<wire::LogText> Jobs::Logs(int32_t job, int64_t offset, Deadline deadline) {
  return AskFor<wire::LogText>(transport_, Get(StrCat("jobs/", job, "/logs?offset=", offset), deadline));
}

absl::StatusOr<wire::JobExplanation> Jobs::Explain(int32_t job, Deadline deadline) {
  return AskFor<wire::JobExplanation>(transport_, Get(StrCat("jobs/", job, "/explain"), deadline));
}

absl::Status Jobs::Release(int32_t job, Deadline deadline) {
  return Ask(transport_, Send("POST", StrCat("jobs/", job, "/release"), "", deadline)).status();
}

absl::StatusOr<Jobs::Change> Jobs::Watch(int32_t job, int64_t seen, double wait_s) {
  HttpRequest request =
      Get(StrCat("jobs/", job, "/watch?change=", seen, "&timeout_s=", wait_s), Deadline{wait_s + Deadline{}.seconds});
  TANDEM_ASSIGN_OR_RETURN(HttpResponse response, Ask(transport_, request));
  auto json = nlohmann::json::parse(response.body, nullptr, false);
  if (!json.is_object() || !json.contains("job") || !json.contains("change") || !json["change"].is_number()) {
    return Internal("the server's answer to ", request.target, " lacks 'job' or 'change'");
  }
  Change change{.job = {}, .number = json["change"].get<int64_t>()};
  TANDEM_RETURN_IF_ERROR(FromJson(json["job"].dump(), &change.job));
  return change;
}

absl::StatusOr<wire::Job> Jobs::Follow(int32_t job, const std::function<bool(const wire::Job&)>& on_change) {
  int64_t seen = 0;
  while (true) {
    TANDEM_ASSIGN_OR_RETURN(Change change, Watch(job, seen, kWatchSeconds));
    bool changed = change.number != seen || seen == 0;
    seen = change.number;
    bool wanted = !changed || on_change(change.job);
    if (!wanted || IsOver(change.job)) return change.job;
  }
}

absl::Status Jobs::FollowLogs(int32_t job, const std::function<bool(std::string_view)>& on_text) {
  int64_t offset = 0;
  int64_t seen = 0;
  bool over = false;
  while (true) {
    TANDEM_ASSIGN_OR_RETURN(wire::LogText log, Logs(job, offset));
    offset = static_cast<int64_t>(log.next_offset());
    if (!log.text().empty() && !on_text(log.text())) return absl::OkStatus();
    if (log.complete() || (over && log.text().empty())) return absl::OkStatus();
    if (!log.text().empty()) continue;
    // A running trainer that writes also reports progress: wait for that instead of asking in a loop.
    TANDEM_ASSIGN_OR_RETURN(Change change, Watch(job, seen, 1));
    seen = change.number;
    over = IsOver(change.job);
  }
}

bool HasEnded(const wire::Job& job) {
  const std::string& state = job.state();
  return state == "succeeded" || state == "failed" || state == "cancelled" || state == "timed_out";
}

bool IsOver(const wire::Job& job) { return HasEnded(job) && job.deploy() != "pending"; }

// ---- Recurring

absl::StatusOr<wire::RecurringList> Recurring::List(Deadline deadline) {
  return AskFor<wire::RecurringList>(transport_, Get("recurring", deadline));
}

absl::StatusOr<wire::RecurringJob> Recurring::Show(int32_t id, Deadline deadline) {
  return AskFor<wire::RecurringJob>(transport_, Get(StrCat("recurring/", id), deadline));
}

absl::StatusOr<wire::RecurringJob> Recurring::Pause(int32_t id, Deadline deadline) {
  return AskFor<wire::RecurringJob>(transport_, Send("POST", StrCat("recurring/", id, "/pause"), "", deadline));
}

absl::StatusOr<wire::RecurringJob> Recurring::Resume(int32_t id, Deadline deadline) {
  return AskFor<wire::RecurringJob>(transport_, Send("POST", StrCat("recurring/", id, "/resume"), "", deadline));
}

absl::Status Recurring::Delete(int32_t id, Deadline deadline) {
  return Ask(transport_, Send("DELETE", StrCat("recurring/", id), "", deadline)).status();
}

// ---- Models

absl::StatusOr<wire::ModelVersion> Models::Import(std::string_view model, const std::string& file,
                                                  std::string_view source, std::string_view precision,
                                                  Deadline deadline) {
  std::error_code error;
  const bool folder = std::filesystem::is_directory(file, error);
  TANDEM_ASSIGN_OR_RETURN(auto stream, folder ? OpenTarSource(file) : OpenFileSource(file));
  const std::string query = StrCat("source=", EncodeUrl(source), "&precision=", EncodeUrl(precision));
  HttpRequest request = Send("POST", ModelPath(model, StrCat("/versions?", query)), "", deadline);
  request.content_type = "application/octet-stream";
  request.stream = stream.get();
  return AskFor<wire::ModelVersion>(transport_, request);
}

absl::StatusOr<wire::ModelList> Models::List(Deadline deadline) {
  return AskFor<wire::ModelList>(transport_, Get("models", deadline));
}

absl::StatusOr<wire::Model> Models::Show(std::string_view model, Deadline deadline) {
  return AskFor<wire::Model>(transport_, Get(ModelPath(model), deadline));
}

absl::StatusOr<wire::ModelVersion> Models::Deploy(const wire::DeployRequest& request, Deadline deadline) {
  return AskFor<wire::ModelVersion>(transport_,
                                    Send("POST", ModelPath(request.model(), "/deploy"), ToJson(request), deadline));
}

absl::StatusOr<wire::ModelVersion> Models::RollBack(std::string_view model, Deadline deadline) {
  return AskFor<wire::ModelVersion>(transport_, Send("POST", ModelPath(model, "/rollback"), "", deadline));
}

absl::StatusOr<wire::ModelVersion> Models::Promote(const wire::PromoteRequest& request, Deadline deadline) {
  return AskFor<wire::ModelVersion>(transport_,
                                    Send("POST", ModelPath(request.model(), "/promote"), ToJson(request), deadline));
}

absl::StatusOr<wire::TrafficSplit> Models::SetCanary(const wire::SplitRequest& request, Deadline deadline) {
  return AskFor<wire::TrafficSplit>(transport_,
                                    Send("POST", ModelPath(request.model(), "/canary"), ToJson(request), deadline));
}

absl::StatusOr<wire::TrafficSplit> Models::SetShadow(const wire::SplitRequest& request, Deadline deadline) {
  return AskFor<wire::TrafficSplit>(transport_,
                                    Send("POST", ModelPath(request.model(), "/shadow"), ToJson(request), deadline));
}

absl::StatusOr<wire::ModelVersion> Models::Approve(const wire::ApproveRequest& request, bool approved,
                                                   Deadline deadline) {
  std::string path = ModelPath(request.model(), approved ? "/approve" : "/reject");
  return AskFor<wire::ModelVersion>(transport_, Send("POST", path, ToJson(request), deadline));
}

absl::StatusOr<wire::ModelVersion> Models::Measure(const wire::MeasureRequest& request, Deadline deadline) {
  return AskFor<wire::ModelVersion>(transport_,
                                    Send("POST", ModelPath(request.model(), "/measure"), ToJson(request), deadline));
}

absl::StatusOr<wire::ServingConfig> Models::Config(std::string_view model, Deadline deadline) {
  return AskFor<wire::ServingConfig>(transport_, Get(ModelPath(model, "/config"), deadline));
}

absl::StatusOr<wire::ServingConfig> Models::Configure(const wire::ConfigureRequest& request, Deadline deadline) {
  return AskFor<wire::ServingConfig>(transport_,
                                     Send("PUT", ModelPath(request.model(), "/config"), ToJson(request), deadline));
}

absl::Status Models::SetAlias(const wire::SetAliasRequest& request, Deadline deadline) {
  return Ask(transport_, Send("POST", ModelPath(request.model(), "/alias"), ToJson(request), deadline)).status();
}

absl::StatusOr<int64_t> Models::Export(std::string_view model, std::string_view alias, int32_t version,
                                       const std::string& file, Deadline deadline) {
  TANDEM_ASSIGN_OR_RETURN(AtomicFile out, AtomicFile::Create(file));
  int64_t bytes = 0;
  std::string query = version > 0 ? StrCat("?version=", version) : alias.empty() ? "" : "?alias=" + EncodeUrl(alias);
  HttpRequest request = Get(ModelPath(model, "/file" + query), deadline);
  request.sink = [&](std::string_view piece) {
    bytes += static_cast<int64_t>(piece.size());
    return out.Write(piece);
  };
  TANDEM_RETURN_IF_ERROR(Ask(transport_, request).status());
  TANDEM_RETURN_IF_ERROR(out.Commit());
  return bytes;
}

absl::Status Models::Delete(std::string_view model, int32_t version, Deadline deadline) {
  std::string query = version > 0 ? StrCat("?version=", version) : "";
  return Ask(transport_, Send("DELETE", ModelPath(model, query), "", deadline)).status();
}

// ---- Datasets

absl::StatusOr<wire::Dataset> Datasets::Add(const wire::AddDatasetRequest& request, Deadline deadline) {
  return AskFor<wire::Dataset>(transport_, Send("POST", "datasets", ToJson(request), deadline));
}

absl::StatusOr<wire::Dataset> Datasets::Upload(const wire::AddDatasetRequest& request, const std::string& path,
                                               Deadline deadline) {
  TANDEM_ASSIGN_OR_RETURN(auto stream, OpenTarSource(path));
  HttpRequest upload = Send("POST", "datasets/upload?request=" + EncodeUrl(ToJson(request)), "", deadline);
  upload.content_type = "application/x-tar";
  upload.stream = stream.get();
  return AskFor<wire::Dataset>(transport_, upload);
}

absl::StatusOr<wire::DatasetList> Datasets::List(Deadline deadline) {
  return AskFor<wire::DatasetList>(transport_, Get("datasets", deadline));
}

absl::StatusOr<wire::Dataset> Datasets::Show(std::string_view name, Deadline deadline) {
  return AskFor<wire::Dataset>(transport_, Get("datasets/" + EncodeUrl(name), deadline));
}

absl::Status Datasets::Delete(std::string_view name, Deadline deadline) {
  return Ask(transport_, Send("DELETE", "datasets/" + EncodeUrl(name), "", deadline)).status();
}

// ---- Admin

absl::StatusOr<wire::Status> Admin::Status(Deadline deadline) {
  return AskFor<wire::Status>(transport_, Get("status", deadline));
}

absl::StatusOr<wire::DoctorReport> Admin::Doctor(Deadline deadline) {
  return AskFor<wire::DoctorReport>(transport_, Get("doctor", deadline));
}

absl::StatusOr<wire::GcReport> Admin::CollectGarbage(bool dry_run, Deadline deadline) {
  std::string body = nlohmann::json{{"dry_run", dry_run}}.dump();
  return AskFor<wire::GcReport>(transport_, Send("POST", "gc", std::move(body), deadline));
}

absl::Status Admin::Stop(Deadline deadline) { return Ask(transport_, Send("POST", "stop", "", deadline)).status(); }

absl::Status Admin::SetLogLevel(std::string_view level, Deadline deadline) {
  std::string body =
      nlohmann::json{{"level", std::string(level)}}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return Ask(transport_, Send("PUT", "log-level", std::move(body), deadline)).status();
}

// ---- Sharing

absl::StatusOr<wire::PolicyState> Sharing::Show(Deadline deadline) {
  return AskFor<wire::PolicyState>(transport_, Get("policy", deadline));
}

absl::StatusOr<wire::PolicyHistory> Sharing::History(Deadline deadline) {
  return AskFor<wire::PolicyHistory>(transport_, Get("policy/history", deadline));
}

absl::StatusOr<wire::PolicyState> Sharing::Set(const wire::SetPolicyRequest& request, Deadline deadline) {
  return AskFor<wire::PolicyState>(transport_, Send("PUT", "policy", ToJson(request), deadline));
}

absl::StatusOr<wire::PolicyState> Sharing::Revert(const wire::RevertPolicyRequest& request, Deadline deadline) {
  return AskFor<wire::PolicyState>(transport_, Send("POST", "policy/revert", ToJson(request), deadline));
}

absl::StatusOr<wire::PolicyState> Sharing::Undo(Deadline deadline) {
  return AskFor<wire::PolicyState>(transport_, Send("POST", "policy/undo", "", deadline));
}

absl::StatusOr<std::string> Sharing::RecordedLoad(int64_t seconds, Deadline deadline) {
  TANDEM_ASSIGN_OR_RETURN(HttpResponse response,
                          Ask(transport_, Get(StrCat("policy/load?seconds=", seconds), deadline)));
  return std::move(response.body);
}

absl::StatusOr<wire::UsageReport> Sharing::Usage(const UsageQuery& query, Deadline deadline) {
  std::string target = StrCat("usage?from_ms=", query.from_ms, "&to_ms=", query.to_ms, "&by=", EncodeUrl(query.by),
                              "&side=", EncodeUrl(query.side), "&kind=", EncodeUrl(query.kind));
  return AskFor<wire::UsageReport>(transport_, Get(std::move(target), deadline));
}

// ---- Client

Client::Client(std::unique_ptr<Transport> transport)
    : transport_(std::move(transport)),
      jobs_(transport_.get()),
      recurring_(transport_.get()),
      models_(transport_.get()),
      datasets_(transport_.get()),
      inference_(transport_.get()),
      admin_(transport_.get()),
      sharing_(transport_.get()) {}

absl::StatusOr<std::unique_ptr<Client>> Client::Create(Endpoint endpoint) {
  TANDEM_ASSIGN_OR_RETURN(auto transport, Transport::Create(std::move(endpoint)));
  return std::unique_ptr<Client>(new Client(std::move(transport)));
}

}  // namespace tandem::client
