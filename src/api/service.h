#pragma once
// What the doors (http, later grpc, mlflow, tfserving, queue) call. A verb each, no business rule here, no socket
// below. Every verb is thread-safe. Control verbs take and give the wire messages of proto/api.proto.
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "api.pb.h"
#include "base/tensor.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"

namespace tandem::api {

// Who asks. A door fills it in; management verbs are refused by the door unless may_manage.
struct Caller {
  std::string name;    // OS user, or the token's name
  bool local = false;  // on this machine: may name files of the server
  bool may_manage = false;
};

// ---- Inference: the data plane. Calls run on the door's own thread and share no lock with the control plane.
struct InputTensor {
  std::string_view name;
  DType dtype = DType::kInvalid;
  Shape shape;
  const void* data = nullptr;  // aligned to 64 bytes; owned by the door until the call returns
  size_t byte_size = 0;
};
struct InferTiming {
  int64_t received_ns = 0;  // monotonic, when the request was complete
  int64_t queue_ns = 0, infer_ns = 0;
};
// A version held for one request: metadata before, Run once, Done at the end.
class InferSession {
 public:
  virtual ~InferSession() = default;
  virtual const std::string& model() const = 0;
  virtual const std::string& version() const = 0;   // decimal text
  virtual const std::string& platform() const = 0;  // "onnx_openvino"
  virtual const std::vector<TensorSignature>& inputs() const = 0;
  virtual const std::vector<TensorSignature>& outputs() const = 0;
  virtual absl::Status Run(const std::vector<InputTensor>& inputs, std::vector<Tensor>* outputs, int64_t deadline_nanos,
                           InferTiming* timing) = 0;
  // Counts the request, whether it was answered or not. input_ns: decoding, output_ns: encoding.
  virtual void Done(bool ok, const InferTiming& timing, int64_t input_ns, int64_t output_ns) = 0;
};
struct ModelStatistics {
  std::string model, version;
  int64_t last_inference_ms = 0;
  uint64_t inference_count = 0, execution_count = 0;
  struct Duration {
    uint64_t count = 0, ns = 0;
  };
  Duration success, fail, queue, compute_input, compute_infer, compute_output;
};
struct RepositoryEntry {
  std::string model, version, state, reason;
};

class Inference {
 public:
  virtual ~Inference() = default;
  // version: "" = default, a number, or an alias.
  virtual absl::StatusOr<std::unique_ptr<InferSession>> Open(std::string_view model, std::string_view version) = 0;
  virtual bool Live() = 0;
  virtual bool Ready() = 0;  // started, and every load that start-up asked for has ended
  virtual std::vector<std::string> ReadyVersions(std::string_view model) = 0;
  // model "" = all.
  virtual absl::StatusOr<std::vector<ModelStatistics>> Statistics(std::string_view model, std::string_view version) = 0;
  virtual std::vector<RepositoryEntry> Repository(bool ready_only) = 0;
};

// ---- Control: everything below may touch disk and wait; doors call it on normal-class threads.
class Models {
 public:
  virtual ~Models() = default;
  // Registers the bytes of an ONNX file (joined, checked in a child). `source` is its name for the record.
  virtual absl::StatusOr<wire::ModelVersion> Import(const Caller& caller, std::string_view name,
                                                    std::string_view source, const std::string& file_with_bytes) = 0;
  virtual wire::ModelList List() = 0;
  virtual absl::StatusOr<wire::Model> Show(std::string_view model) = 0;
  // Loads the version and makes it champion; waits until it serves. Ready or an error with the reason.
  virtual absl::StatusOr<wire::ModelVersion> Deploy(const Caller& caller, const wire::DeployRequest& request) = 0;
  virtual absl::StatusOr<wire::ModelVersion> RollBack(const Caller& caller, std::string_view model) = 0;
  virtual absl::Status SetAlias(const Caller& caller, const wire::SetAliasRequest& request) = 0;
  // The path of the version's ONNX file; valid while the version exists.
  virtual absl::StatusOr<std::string> FileOf(std::string_view model, std::string_view alias, int32_t version) = 0;
  virtual absl::Status Delete(const Caller& caller, std::string_view model, int32_t version) = 0;  // version 0 = all
  // The protocol's repository load and unload: serve the model again, or not at all.
  virtual absl::Status SetEnabled(const Caller& caller, std::string_view model, bool enabled) = 0;
};

class Jobs {
 public:
  virtual ~Jobs() = default;
  virtual absl::StatusOr<wire::Job> Submit(const Caller& caller, const wire::SubmitJobRequest& request) = 0;
  virtual wire::JobList List() = 0;
  virtual absl::StatusOr<wire::Job> Show(int32_t job) = 0;
  virtual absl::Status Cancel(const Caller& caller, int32_t job) = 0;
  virtual absl::Status Pause(const Caller& caller, int32_t job) = 0;
  virtual absl::Status Resume(const Caller& caller, int32_t job) = 0;
  virtual absl::Status Delete(const Caller& caller, int32_t job) = 0;
  // The trainer's output from byte `offset` on, at most 256 kB.
  virtual absl::StatusOr<wire::LogText> Logs(int32_t job, int64_t offset) = 0;
  // Waits until the job changed after `seen_change` (0 = at once) or timeout_s passed; gives it with the new change
  // number.
  virtual absl::StatusOr<std::pair<wire::Job, int64_t>> Watch(int32_t job, int64_t seen_change, double timeout_s) = 0;
  // What the job waits for, and what would start it.
  virtual absl::StatusOr<wire::JobExplanation> Explain(int32_t job) = 0;
  // Checkpoint now, give everything back, and wait in the queue.
  virtual absl::Status Release(const Caller& caller, int32_t job) = 0;
  // Recurring jobs; one is made by submitting a spec with the key `recurring`.
  virtual wire::RecurringList ListRecurring() = 0;
  virtual absl::StatusOr<wire::RecurringJob> ShowRecurring(int32_t id) = 0;
  virtual absl::Status PauseRecurring(const Caller& caller, int32_t id, bool paused) = 0;
  virtual absl::Status DeleteRecurring(const Caller& caller, int32_t id) = 0;
};

// The sharing of the machine: live, with its history; and the accounts.
class Sharing {
 public:
  virtual ~Sharing() = default;
  virtual wire::PolicyState Show() = 0;
  virtual wire::PolicyHistory History() = 0;
  virtual absl::StatusOr<wire::PolicyState> Set(const Caller& caller, const wire::SetPolicyRequest& request) = 0;
  virtual absl::StatusOr<wire::PolicyState> Revert(const Caller& caller, const wire::RevertPolicyRequest& request) = 0;
  // Takes back the last decision that the policy made by itself, and keeps it from making it again for an hour.
  virtual absl::StatusOr<wire::PolicyState> Undo(const Caller& caller) = 0;
  // The load of the last `seconds`, as a load file of the simulator (one line a model and second).
  virtual absl::StatusOr<std::string> RecordedLoad(double seconds) = 0;
  // Days that touch [from_ms, to_ms); 0, 0 = all. by: "name", "side", "day".
  virtual absl::StatusOr<wire::UsageReport> Usage(int64_t from_ms, int64_t to_ms, std::string_view by,
                                                  std::string_view side, std::string_view kind) = 0;
};

class Datasets {
 public:
  virtual ~Datasets() = default;
  virtual absl::StatusOr<wire::Dataset> Add(const Caller& caller, const wire::AddDatasetRequest& request) = 0;
  // A tar of the files, spooled to `file`; unpacked into tandem's own folder.
  virtual absl::StatusOr<wire::Dataset> Upload(const Caller& caller, const wire::AddDatasetRequest& request,
                                               const std::string& tar_file) = 0;
  virtual wire::DatasetList List() = 0;
  virtual absl::StatusOr<wire::Dataset> Show(std::string_view name) = 0;
  virtual absl::Status Delete(const Caller& caller, std::string_view name) = 0;
};

class Admin {
 public:
  virtual ~Admin() = default;
  virtual wire::Status Status() = 0;
  virtual wire::DoctorReport Doctor() = 0;
  virtual absl::StatusOr<wire::GcReport> CollectGarbage(const Caller& caller, bool dry_run) = 0;
  virtual void Stop(const Caller& caller) = 0;  // begins a clean stop; returns at once
  virtual absl::Status SetLogLevel(const Caller& caller, std::string_view level) = 0;
};

// All of it, for a door. Not owned; all pointers set and outliving the door.
struct Services {
  Inference* inference = nullptr;
  Models* models = nullptr;
  Jobs* jobs = nullptr;
  Datasets* datasets = nullptr;
  Admin* admin = nullptr;
  Sharing* sharing = nullptr;
  Metrics* metrics = nullptr;
};

}  // namespace tandem::api
