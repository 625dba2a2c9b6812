#pragma once
// The public API from the outside: what the command line and the tests call. The verbs mirror api/service.h, grouped
// the same way; each waits for its answer, at most as long as its deadline says.
//
//   TANDEM_ASSIGN_OR_RETURN(auto client, client::Client::Create({.url = "http://127.0.0.1:8000"}));
//   TANDEM_ASSIGN_OR_RETURN(wire::Job job, client->jobs().Submit(request));
//   auto end = client->jobs().Follow(job.job(), [](const wire::Job& job) { ...; return true; });
//
// Errors carry the code and the message of the server. A server that cannot be reached, or does not answer in time, is
// told apart by IsUnreachable.
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "api.pb.h"
#include "base/tensor.h"
#include "client/transport.h"

namespace tandem::client {

// Seconds from the call to the end of its answer.
struct Deadline {
  double seconds = 30;
};
// For calls that move files or compile models.
inline constexpr Deadline kLongDeadline{3600};

class Jobs {
 public:
  explicit Jobs(Transport* transport) : transport_(transport) {}
  absl::StatusOr<wire::Job> Submit(const wire::SubmitJobRequest& request, Deadline deadline = {});
  absl::StatusOr<wire::JobList> List(Deadline deadline = {});
  absl::StatusOr<wire::Job> Show(int32_t job, Deadline deadline = {});
  absl::Status Cancel(int32_t job, Deadline deadline = {});
  absl::Status Pause(int32_t job, Deadline deadline = {});
  absl::Status Resume(int32_t job, Deadline deadline = {});
  absl::Status Delete(int32_t job, Deadline deadline = {});
  // The trainer's output from byte `offset` on; ask again from next_offset until `complete`.
  absl::StatusOr<wire::LogText> Logs(int32_t job, int64_t offset, Deadline deadline = {});
  // What the job waits for, and what would start it.
  absl::StatusOr<wire::JobExplanation> Explain(int32_t job, Deadline deadline = {});
  // Checkpoint, give everything back, wait in the queue.
  absl::Status Release(int32_t job, Deadline deadline = {});

  struct Change {
    wire::Job job;
    int64_t number = 0;
  };
  // Waits until the job changed after `seen` (0 = at once) or `wait_s` passed.
  absl::StatusOr<Change> Watch(int32_t job, int64_t seen, double wait_s);
  // Calls `on_change` with the job now and after each change, until the job has ended and its deployment is decided, or
  // `on_change` returns false. Gives the job as it was last. Has no deadline: stop it with `on_change` or
  // Endpoint::interrupted.
  absl::StatusOr<wire::Job> Follow(int32_t job, const std::function<bool(const wire::Job&)>& on_change);
  // The same for the log's text, to its end.
  absl::Status FollowLogs(int32_t job, const std::function<bool(std::string_view)>& on_text);

 private:
  Transport* transport_;
};

// Specs that are submitted again and again.
class Recurring {
 public:
  explicit Recurring(Transport* transport) : transport_(transport) {}
  absl::StatusOr<wire::RecurringList> List(Deadline deadline = {});
  absl::StatusOr<wire::RecurringJob> Show(int32_t id, Deadline deadline = {});
  // Both give the recurring job as it is then.
  absl::StatusOr<wire::RecurringJob> Pause(int32_t id, Deadline deadline = {});
  absl::StatusOr<wire::RecurringJob> Resume(int32_t id, Deadline deadline = {});
  absl::Status Delete(int32_t id, Deadline deadline = {});

 private:
  Transport* transport_;
};

// True once the job succeeded, failed, timed out or was cancelled.
bool HasEnded(const wire::Job& job);

// True if nothing about the job will change any more by itself: its deployment is settled too.
bool IsOver(const wire::Job& job);

class Models {
 public:
  explicit Models(Transport* transport) : transport_(transport) {}
  // Sends a model's file (ONNX without external data, .tflite, frozen .pb), or a SavedModel's folder as a tar, piece by
  // piece. `precision`: "f32", "bf16" or "f16", what the version is served in.
  absl::StatusOr<wire::ModelVersion> Import(std::string_view model, const std::string& file, std::string_view source,
                                            std::string_view precision = "f32", Deadline deadline = kLongDeadline);
  absl::StatusOr<wire::ModelList> List(Deadline deadline = {});
  absl::StatusOr<wire::Model> Show(std::string_view model, Deadline deadline = {});
  absl::StatusOr<wire::ModelVersion> Deploy(const wire::DeployRequest& request, Deadline deadline = kLongDeadline);
  absl::StatusOr<wire::ModelVersion> RollBack(std::string_view model, Deadline deadline = kLongDeadline);
  absl::StatusOr<wire::ModelVersion> Promote(const wire::PromoteRequest& request, Deadline deadline = kLongDeadline);
  // percent 0 ends it.
  absl::StatusOr<wire::TrafficSplit> SetCanary(const wire::SplitRequest& request, Deadline deadline = kLongDeadline);
  absl::StatusOr<wire::TrafficSplit> SetShadow(const wire::SplitRequest& request, Deadline deadline = kLongDeadline);
  absl::StatusOr<wire::ModelVersion> Approve(const wire::ApproveRequest& request, bool approved,
                                             Deadline deadline = kLongDeadline);
  // Waits until the version was measured on every engine.
  absl::StatusOr<wire::ModelVersion> Measure(const wire::MeasureRequest& request, Deadline deadline = kLongDeadline);
  absl::StatusOr<wire::ServingConfig> Config(std::string_view model, Deadline deadline = {});
  absl::StatusOr<wire::ServingConfig> Configure(const wire::ConfigureRequest& request, Deadline deadline = {});
  absl::Status SetAlias(const wire::SetAliasRequest& request, Deadline deadline = kLongDeadline);
  // Writes the version's ONNX file to `file`, which appears whole or not at all. Gives its bytes.
  absl::StatusOr<int64_t> Export(std::string_view model, std::string_view alias, int32_t version,
                                 const std::string& file, Deadline deadline = kLongDeadline);
  absl::Status Delete(std::string_view model, int32_t version, Deadline deadline = {});  // version 0 = all

 private:
  Transport* transport_;
};

class Datasets {
 public:
  explicit Datasets(Transport* transport) : transport_(transport) {}
  // The path is read by the server, on its own machine.
  absl::StatusOr<wire::Dataset> Add(const wire::AddDatasetRequest& request, Deadline deadline = kLongDeadline);
  // Sends the file or folder `path` as a tar, piece by piece.
  absl::StatusOr<wire::Dataset> Upload(const wire::AddDatasetRequest& request, const std::string& path,
                                       Deadline deadline = kLongDeadline);
  absl::StatusOr<wire::DatasetList> List(Deadline deadline = {});
  absl::StatusOr<wire::Dataset> Show(std::string_view name, Deadline deadline = {});
  absl::Status Delete(std::string_view name, Deadline deadline = {});

 private:
  Transport* transport_;
};

// The Open Inference Protocol v2. `version`: "" = the server's choice, a number, or an alias.
class Inference {
 public:
  explicit Inference(Transport* transport) : transport_(transport) {}
  struct Metadata {
    std::string name, platform;
    std::vector<std::string> versions;
    std::vector<TensorSignature> inputs, outputs;
  };
  absl::StatusOr<Metadata> Describe(std::string_view model, std::string_view version, Deadline deadline = {});

  struct Answer {
    std::string model, version;  // the version that answered
    std::vector<Tensor> outputs;
  };
  // Tensors go both ways as raw bytes.
  absl::StatusOr<Answer> Infer(std::string_view model, std::string_view version, const std::vector<Tensor>& inputs,
                               Deadline deadline = {});
  // A request and an answer as the protocol's JSON text.
  absl::StatusOr<std::string> InferJson(std::string_view model, std::string_view version, std::string request,
                                        Deadline deadline = {});

 private:
  Transport* transport_;
};

class Admin {
 public:
  explicit Admin(Transport* transport) : transport_(transport) {}
  absl::StatusOr<wire::Status> Status(Deadline deadline = {});
  absl::StatusOr<wire::DoctorReport> Doctor(Deadline deadline = {});
  absl::StatusOr<wire::GcReport> CollectGarbage(bool dry_run, Deadline deadline = kLongDeadline);
  // Begins a clean stop; returns at once.
  absl::Status Stop(Deadline deadline = {});
  absl::Status SetLogLevel(std::string_view level, Deadline deadline = {});

 private:
  Transport* transport_;
};

struct UsageQuery {
  int64_t from_ms = 0, to_ms = 0;  // days (UTC) that touch [from_ms, to_ms); 0, 0 = all
  std::string by = "name";         // "name", "side", "day"
  std::string side, kind;          // "" = any
};

// How the machine is shared, and who used what.
class Sharing {
 public:
  explicit Sharing(Transport* transport) : transport_(transport) {}
  absl::StatusOr<wire::PolicyState> Show(Deadline deadline = {});
  absl::StatusOr<wire::PolicyHistory> History(Deadline deadline = {});
  absl::StatusOr<wire::PolicyState> Set(const wire::SetPolicyRequest& request, Deadline deadline = {});
  absl::StatusOr<wire::PolicyState> Revert(const wire::RevertPolicyRequest& request, Deadline deadline = {});
  absl::StatusOr<wire::PolicyState> Undo(Deadline deadline = {});
  // A load file of the simulator: one line a model and second, rising in time.
  absl::StatusOr<std::string> RecordedLoad(int64_t seconds, Deadline deadline = {});
  absl::StatusOr<wire::UsageReport> Usage(const UsageQuery& query, Deadline deadline = {});

 private:
  Transport* transport_;
};

// One server. Thread-compatible: one call at a time, over one connection that is kept.
class Client {
 public:
  // InvalidArgument for a URL that is not http://HOST[:PORT]. Connects at the first call.
  static absl::StatusOr<std::unique_ptr<Client>> Create(Endpoint endpoint);

  Jobs& jobs() { return jobs_; }
  Recurring& recurring() { return recurring_; }
  Models& models() { return models_; }
  Datasets& datasets() { return datasets_; }
  Inference& inference() { return inference_; }
  Admin& admin() { return admin_; }
  Sharing& sharing() { return sharing_; }
  // True if the URL names this machine, so that the server can read local paths.
  bool on_this_machine() const { return transport_->loopback(); }

 private:
  explicit Client(std::unique_ptr<Transport> transport);
  std::unique_ptr<Transport> transport_;
  Jobs jobs_;
  Recurring recurring_;
  Models models_;
  Datasets datasets_;
  Inference inference_;
  Admin admin_;
  Sharing sharing_;
};

}  // namespace tandem::client
