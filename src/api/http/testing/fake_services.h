#pragma once
// Services without anything behind them, for tests and benchmarks of the door: models that echo, and control verbs that
// record what they were asked.
#include <string.h>

#include <atomic>
#include <cmath>
#include <condition_variable>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "api/service.h"
#include "base/files.h"
#include "base/status.h"

namespace tandem::api::http::testing {

// Holds callers of the model "slow" until it is opened. Thread-safe.
class Latch {
 public:
  void Open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void Wait() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
  }
  void WaitForWaiters(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_ >= count; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  int waiting_ = 0;
};

struct Recorded {
  std::atomic<int> done_ok = 0, done_failed = 0;
  std::atomic<bool> unaligned = false;
  std::atomic<int64_t> last_deadline_ns = 0;
  Latch slow;
};

// Gives each input back as an output with the same name, type and shape.
class EchoSession : public InferSession {
 public:
  EchoSession(std::string model, const std::vector<TensorSignature>* signature, Recorded* recorded)
      : model_(std::move(model)), signature_(signature), recorded_(recorded) {}
  const std::string& model() const override { return model_; }
  const std::string& version() const override { return version_; }
  const std::string& platform() const override { return platform_; }
  const std::vector<TensorSignature>& inputs() const override { return *signature_; }
  const std::vector<TensorSignature>& outputs() const override { return *signature_; }
  absl::Status Run(const std::vector<InputTensor>& inputs, std::vector<Tensor>* outputs, int64_t deadline_nanos,
                   InferTiming*) override {
    recorded_->last_deadline_ns = deadline_nanos;
    if (model_ == "slow") recorded_->slow.Wait();
    if (model_ == "broken") return Internal("the engine failed");
    if (model_ == "throws") throw std::runtime_error("thrown in the engine");
    outputs->resize(inputs.size());
    for (size_t i = 0; i < inputs.size(); ++i) {
      const InputTensor& input = inputs[i];
      if (reinterpret_cast<uintptr_t>(input.data) % 64 != 0) recorded_->unaligned = true;
      Tensor& output = (*outputs)[i];
      output.name = input.name;
      output.dtype = input.dtype;
      output.shape = input.shape;
      output.buffer.Resize(input.byte_size);
      if (input.byte_size > 0) memcpy(output.buffer.data(), input.data, input.byte_size);
    }
    return absl::OkStatus();
  }
  void Done(bool ok, const InferTiming&, int64_t, int64_t) override {
    ++(ok ? recorded_->done_ok : recorded_->done_failed);
  }

 private:
  std::string model_, version_ = "1", platform_ = "echo";
  const std::vector<TensorSignature>* signature_;
  Recorded* recorded_;
};

class FakeInference : public Inference {
 public:
  absl::StatusOr<std::unique_ptr<InferSession>> Open(std::string_view model, std::string_view version) override {
    if (model == "loading") return Unavailable("model 'loading' is being loaded");
    if (!version.empty() && version != "1") return NotFound("model '", model, "' has no version ", version);
    for (std::string_view known : {"echo", "slow", "broken", "throws", "\xc3\xa9t\xc3\xa9"}) {
      if (model == known) return std::make_unique<EchoSession>(std::string(model), &one_, &recorded);
    }
    if (model == "pair") return std::make_unique<EchoSession>("pair", &two_, &recorded);
    return NotFound("there is no model '", model, "'; there are: echo");
  }
  bool Live() override { return true; }
  bool Ready() override { return ready; }
  std::vector<std::string> ReadyVersions(std::string_view) override { return {"1"}; }
  absl::StatusOr<std::vector<ModelStatistics>> Statistics(std::string_view model, std::string_view) override {
    if (model == "missing") return NotFound("there is no model 'missing'");
    ModelStatistics stats;
    stats.model = "echo";
    stats.version = "1";
    stats.queue = {.count = 7, .ns = 70};
    return std::vector<ModelStatistics>{stats};
  }
  std::vector<RepositoryEntry> Repository(bool ready_only) override {
    std::vector<RepositoryEntry> all = {{"echo", "1", "READY", ""}};
    if (!ready_only) all.push_back({"broken", "2", "UNAVAILABLE", "no \"blob\""});
    return all;
  }

  std::atomic<bool> ready = true;
  Recorded recorded;

 private:
  std::vector<TensorSignature> one_ = {{"x", DType::kFloat32, {-1, 4}}};
  std::vector<TensorSignature> two_ = {{"x", DType::kFloat32, {-1}}, {"y", DType::kInt64, {-1}}};
};

class FakeModels : public Models {
 public:
  absl::StatusOr<wire::ModelVersion> Import(const Caller& caller, std::string_view name, std::string_view source,
                                            const std::string& file_with_bytes) override {
    TANDEM_ASSIGN_OR_RETURN(std::string bytes, ReadFile(file_with_bytes));
    std::lock_guard lock(mutex);
    imported = bytes;
    imported_path = file_with_bytes;
    wire::ModelVersion version;
    version.set_model(std::string(name));
    version.set_source(std::string(source));
    version.set_bytes(static_cast<double>(bytes.size()));
    version.set_created_by(caller.name);
    return version;
  }
  wire::ModelList List() override { return {}; }
  absl::StatusOr<wire::Model> Show(std::string_view model) override {
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

  std::mutex mutex;
  std::string imported, imported_path;
  std::string file;
  std::atomic<bool> enabled = false;
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
    if (new_level != "debug") return InvalidArgument("log level '", new_level, "' is unknown");
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
  Services services() { return {&inference, &models, &jobs, &datasets, &admin, &sharing, &metrics}; }
};

}  // namespace tandem::api::http::testing
