#pragma once
// Services without anything behind them, for tests and benchmarks of the door: models that echo, and control verbs that
// record what they were asked.
#include <string.h>

#include <atomic>
#include <cmath>
#include <condition_variable>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "api/http/testing/fake_inference.h"
#include "api/service.h"
#include "api/v2/shared_memory.h"
#include "base/files.h"
#include "base/status.h"

namespace tandem::api::http::testing {

class FakeModels : public Models {
 public:
  absl::StatusOr<wire::ModelVersion> Import(const Caller& caller, std::string_view name, std::string_view source,
                                            std::string_view precision, const std::string& file_with_bytes) override {
    TANDEM_ASSIGN_OR_RETURN(std::string bytes, ReadFile(file_with_bytes));
    std::lock_guard lock(mutex);
    imported = bytes;
    imported_path = file_with_bytes;
    wire::ModelVersion version;
    version.set_model(std::string(name));
    version.set_source(std::string(source));
    version.set_precision(std::string(precision));
    version.set_bytes(static_cast<double>(bytes.size()));
    version.set_created_by(caller.name);
    return version;
  }
  wire::ModelList List() override { return {}; }
  absl::StatusOr<wire::Model> Show(std::string_view model) override {
    if (model == "slow") slow.Wait();
    if (model != "echo") return NotFound("there is no model '", model, "'");
    wire::Model result;
    result.set_name("echo");
    return result;
  }
  absl::StatusOr<wire::ModelVersion> Deploy(const Caller&, const wire::DeployRequest& request) override {
    wire::ModelVersion version;
    version.set_model(request.model());
    version.set_version(request.version());
    return version;
  }
  absl::StatusOr<wire::ModelVersion> RollBack(const Caller&, std::string_view model) override {
    return FailedPrecondition("model '", model, "' has no earlier champion");
  }
  absl::StatusOr<wire::ModelVersion> Measure(const Caller&, const wire::MeasureRequest& request) override {
    wire::ModelVersion version;
    version.set_model(request.model());
    version.set_version(request.version());
    version.set_engine_report("{}");
    return version;
  }
  absl::StatusOr<wire::ModelVersion> Promote(const Caller&, const wire::PromoteRequest& request) override {
    wire::ModelVersion version;
    version.set_model(request.model());
    version.set_version(request.version());
    return version;
  }
  absl::StatusOr<wire::TrafficSplit> SetCanary(const Caller&, const wire::SplitRequest& request) override {
    if (request.percent() > 100) return InvalidArgument("percent is ", request.percent());
    wire::TrafficSplit split;
    split.set_canary(request.version());
    split.set_canary_percent(request.percent());
    return split;
  }
  absl::StatusOr<wire::TrafficSplit> SetShadow(const Caller&, const wire::SplitRequest& request) override {
    wire::TrafficSplit split;
    split.set_shadow(request.version());
    split.set_shadow_percent(request.percent());
    return split;
  }
  absl::StatusOr<wire::ModelVersion> Approve(const Caller& caller, const wire::ApproveRequest& request,
                                             bool approved) override {
    wire::ModelVersion version;
    version.set_model(request.model());
    version.set_version(request.version());
    version.set_approval(approved ? "approved" : "rejected");
    version.set_approval_who(caller.name);
    version.set_approval_comment(request.comment());
    return version;
  }
  absl::StatusOr<wire::ServingConfig> Config(std::string_view model) override {
    if (model != "echo") return NotFound("there is no model '", model, "'");
    std::lock_guard lock(mutex);
    wire::ServingConfig config;
    config.set_model("echo");
    config.set_text(configured);
    return config;
  }
  // Keeps the text and the overrides below one another.
  absl::StatusOr<wire::ServingConfig> Configure(const Caller&, const wire::ConfigureRequest& request) override {
    {
      std::lock_guard lock(mutex);
      configured = request.text();
      for (const std::string& override : request.overrides()) StrAppend(&configured, override, "\n");
    }
    return Config(request.model());
  }
  absl::Status SetAlias(const Caller&, const wire::SetAliasRequest&) override { return absl::OkStatus(); }
  absl::StatusOr<std::string> FileOf(std::string_view model, std::string_view, int32_t) override {
    if (file.empty()) return NotFound("there is no model '", model, "'");
    return file;
  }
  absl::Status Delete(const Caller&, std::string_view model, int32_t version) override {
    return FailedPrecondition("model '", model, "' version ", version, " is in use");
  }
  absl::Status SetEnabled(const Caller& caller, std::string_view, bool on) override {
    enabled = on;
    return caller.name.empty() ? Internal("no caller") : absl::OkStatus();
  }

  absl::Status LoadWithOverride(const Caller&, std::string_view model, const spec::ModelConfig& config,
                                const std::map<std::string, std::string>& files) override {
    if (model == "missing" && files.empty()) return NotFound("there is no model 'missing'");
    std::lock_guard lock(mutex);
    loaded_config = config;
    loaded_files = files;
    return absl::OkStatus();
  }

  std::mutex mutex;
  std::string imported, imported_path, configured;
  spec::ModelConfig loaded_config;
  std::map<std::string, std::string> loaded_files;
  std::string file;
  std::atomic<bool> enabled = false;
  Latch slow;
};

class FakeJobs : public Jobs {
 public:
  absl::StatusOr<wire::Job> Submit(const Caller& caller, const wire::SubmitJobRequest& request) override {
    wire::Job job = Make(1);
    job.set_spec(request.spec());
    job.set_submitted_by(caller.name);
    return job;
  }
  wire::JobList List() override {
    wire::JobList list;
    *list.add_jobs() = Make(1);
    return list;
  }
  absl::StatusOr<wire::Job> Show(int32_t job) override {
    if (job != 1) return NotFound("there is no job ", job);
    return Make(job);
  }
  absl::Status Cancel(const Caller&, int32_t) override { return absl::OkStatus(); }
  absl::Status Pause(const Caller&, int32_t) override { return FailedPrecondition("the job does not run"); }
  absl::Status Resume(const Caller&, int32_t) override { return absl::OkStatus(); }
  absl::Status Delete(const Caller&, int32_t) override { return absl::OkStatus(); }
  absl::StatusOr<wire::LogText> Logs(int32_t, int64_t offset) override {
    wire::LogText text;
    text.set_text("line\n");
    text.set_next_offset(static_cast<double>(offset + 5));
    return text;
  }
  absl::StatusOr<std::pair<wire::Job, int64_t>> Watch(int32_t job, int64_t seen_change, double timeout_s) override {
    std::unique_lock lock(mutex);
    ++watches;
    changed.wait_for(lock, std::chrono::duration<double>(timeout_s), [&] { return change != seen_change; });
    return std::pair(Make(job), change);
  }
  absl::StatusOr<wire::JobExplanation> Explain(int32_t job) override {
    TANDEM_ASSIGN_OR_RETURN(wire::Job shown, Show(job));
    wire::JobExplanation explanation;
    *explanation.mutable_job() = shown;
    explanation.set_waits_for("the window 'night'");
    return explanation;
  }
  absl::Status Release(const Caller&, int32_t job) override {
    released = job;
    return absl::OkStatus();
  }
  // Recurring job 2 exists until it is deleted.
  wire::RecurringList ListRecurring() override {
    wire::RecurringList list;
    if (recurring_exists) *list.add_recurring() = MakeRecurring();
    return list;
  }
  absl::StatusOr<wire::RecurringJob> ShowRecurring(int32_t id) override {
    if (id != 2 || !recurring_exists) return NotFound("there is no recurring job ", id);
    return MakeRecurring();
  }
  absl::Status PauseRecurring(const Caller&, int32_t id, bool paused) override {
    TANDEM_RETURN_IF_ERROR(ShowRecurring(id).status());
    recurring_paused = paused;
    return absl::OkStatus();
  }
  absl::Status DeleteRecurring(const Caller&, int32_t id) override {
    TANDEM_RETURN_IF_ERROR(ShowRecurring(id).status());
    recurring_exists = false;
    return absl::OkStatus();
  }

  std::mutex mutex;
  std::condition_variable changed;
  int64_t change = 5;
  int watches = 0;
  std::atomic<int32_t> released = 0;
  std::atomic<bool> recurring_exists = true, recurring_paused = false;

 private:
  static wire::Job Make(int32_t id) {
    wire::Job job;
    job.set_job(id);
    job.set_state("running");
    return job;
  }
  wire::RecurringJob MakeRecurring() const {
    wire::RecurringJob recurring;
    recurring.set_id(2);
    recurring.set_cron("0 22 * * *");
    recurring.set_paused(recurring_paused);
    return recurring;
  }
};

// Keeps what it was asked last; revision 1 is in force at first.
class FakeSharing : public Sharing {
 public:
  wire::PolicyState Show() override {
    std::lock_guard lock(mutex);
    return state;
  }
  wire::PolicyHistory History() override {
    std::lock_guard lock(mutex);
    wire::PolicyHistory history;
    *history.add_changes() = state.current();
    return history;
  }
  absl::StatusOr<wire::PolicyState> Set(const Caller& caller, const wire::SetPolicyRequest& request) override {
    if (request.text() == "bad") return InvalidArgument(request.source(), ":1:1: this is not a policy");
    std::string text = request.text();
    for (const std::string& override : request.overrides()) StrAppend(&text, override, "\n");
    return Change(caller, text, request.why());
  }
  absl::StatusOr<wire::PolicyState> Revert(const Caller& caller, const wire::RevertPolicyRequest& request) override {
    if (request.revision() > 1) return NotFound("there is no revision ", request.revision());
    return Change(caller, "policy: latency_first\n", request.why());
  }
  absl::StatusOr<wire::PolicyState> Undo(const Caller&) override {
    return FailedPrecondition("the policy has decided nothing by itself");
  }
  absl::StatusOr<std::string> RecordedLoad(double seconds) override {
    std::string csv = "unix_ms,model,requests_per_s,service_ms\n";
    for (int i = 0; i < static_cast<int>(seconds); ++i) StrAppend(&csv, 1000 * (i + 1), ",echo,10,1\n");
    return csv;
  }
  absl::StatusOr<wire::UsageReport> Usage(int64_t from_ms, int64_t to_ms, std::string_view by, std::string_view side,
                                          std::string_view kind) override {
    wire::UsageReport report;
    report.set_from_ms(static_cast<double>(from_ms));
    report.set_to_ms(static_cast<double>(to_ms));
    report.add_rows()->set_name(StrCat(by, "/", side, "/", kind));
    return report;
  }

  std::mutex mutex;
  wire::PolicyState state = First();  // guarded by mutex

 private:
  static wire::PolicyState First() {
    wire::PolicyState first;
    first.mutable_current()->set_revision(1);
    first.mutable_current()->set_text("policy: latency_first\n");
    first.set_gate(true);
    return first;
  }
  wire::PolicyState Change(const Caller& caller, std::string_view text, std::string_view why) {
    std::lock_guard lock(mutex);
    wire::PolicyChange& current = *state.mutable_current();
    current.set_revision(current.revision() + 1);
    current.set_text(std::string(text));
    current.set_why(std::string(why));
    current.set_who(caller.name);
    return state;
  }
};

class FakeDatasets : public Datasets {
 public:
  absl::StatusOr<wire::Dataset> Add(const Caller&, const wire::AddDatasetRequest& request) override {
    return request.dataset();
  }
  absl::StatusOr<wire::Dataset> Upload(const Caller&, const wire::AddDatasetRequest& request,
                                       const std::string& tar_file) override {
    TANDEM_ASSIGN_OR_RETURN(std::string bytes, ReadFile(tar_file));
    wire::Dataset dataset = request.dataset();
    dataset.set_bytes(static_cast<double>(bytes.size()));
    dataset.set_sha256(Sha256Hex(bytes));
    return dataset;
  }
  wire::DatasetList List() override { return {}; }
  absl::StatusOr<wire::Dataset> Show(std::string_view name) override {
    return NotFound("there is no data set '", name, "'");
  }
  absl::Status Delete(const Caller&, std::string_view) override { return absl::OkStatus(); }
};

class FakeAdmin : public Admin {
 public:
  wire::Status Status() override {
    wire::Status status;
    status.set_version("0.1.0");
    return status;
  }
  wire::DoctorReport Doctor() override { return {}; }
  absl::StatusOr<wire::GcReport> CollectGarbage(const Caller&, bool dry_run) override {
    wire::GcReport report;
    report.set_dry_run(dry_run);
    return report;
  }
  void Stop(const Caller&) override { stopped = true; }
  absl::Status SetLogLevel(const Caller&, std::string_view new_level) override {
    TANDEM_ASSIGN_OR_RETURN(LogLevel level, ParseLogLevel(new_level));
    tandem::SetLogLevel(level);
    return absl::OkStatus();
  }
  std::atomic<bool> stopped = false;
};

struct FakeServices {
  FakeInference inference;
  FakeModels models;
  FakeJobs jobs;
  FakeDatasets datasets;
  FakeAdmin admin;
  FakeSharing sharing;
  Metrics metrics;
  v2::SharedMemory regions;
  Tracer* tracer = nullptr;

  Services services() { return {&inference, &models, &jobs, &datasets, &admin, &sharing, &metrics, &regions, tracer}; }
};

}  // namespace tandem::api::http::testing
