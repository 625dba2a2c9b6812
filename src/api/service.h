#pragma once
// What the doors (http, later grpc, mlflow, tfserving, queue) call. A verb each, no business rule here, no socket
// below. Every verb is thread-safe. Control verbs take and give the wire messages of proto/api.proto.
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "api.pb.h"
#include "base/status.h"
#include "base/tensor.h"
#include "base/work_source.h"
#include "spec/model_config.h"
#include "telemetry/log.h"
#include "telemetry/metrics.h"
#include "telemetry/trace.h"

namespace tandem::api {

// Who asks. A door fills it in; management verbs are refused by the door unless may_manage.
struct Caller {
  std::string name;    // OS user, or the token's name
  bool local = false;  // on this machine: may name files of the server
  bool may_manage = false;
  std::optional<uint32_t> user_id;  // of a local caller, where the door looked it up
};

namespace v2 {
class SharedMemory;
}

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
  bool cached = false;  // answered from the response cache
};

// One request on its way. The door owns it and everything it views until Finished is called.
struct InferRequest {
  // Called exactly once, on any data-plane thread, perhaps before Start returns. Must not wait.
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void Finished(InferRequest* request) = 0;
  };

  // Set by the door.
  Owner* owner = nullptr;
  std::vector<InputTensor> inputs;
  std::string_view id;            // the client's, "" if it gave none
  std::string_view route_key;     // requests with the same key go to the same version during a canary; "" = any
  int64_t deadline_ns = 0;        // monotonic; 0 = the model's or the server's limit
  uint32_t priority = 0;          // within the model: 1 = most urgent; 0 = the model's default
  bool in_shared_memory = false;  // inputs or outputs, in part: the client may change them at any time
  struct Sequence {
    uint64_t id = 0;  // 0 and "" = no sequence
    std::string_view text_id;
    bool start = false, end = false;
  } sequence;
  // From any thread, once the client has gone: it is not run if it still waits.
  std::atomic<bool> cancelled{false};

  // Set when it is finished. Cancelled, DeadlineExceeded, Unavailable (queue full, will not meet its deadline) ...
  absl::Status status;
  std::vector<Tensor> outputs;  // in the model's order; their memory is reused
  InferTiming timing;           // received_ns is the door's
};

// A version held for one request: metadata before, Start once, Done at the end.
class InferSession {
 public:
  virtual ~InferSession() = default;
  virtual const std::string& model() const = 0;
  // Decimal text. After Finished: of the version that answered, which a canary may have changed.
  virtual const std::string& version() const = 0;
  virtual const std::string& platform() const = 0;  // "onnx_openvino"
  virtual const std::vector<TensorSignature>& inputs() const = 0;
  virtual const std::vector<TensorSignature>& outputs() const = 0;
  // How the model is served; lives as long as the session.
  virtual const spec::ModelConfig& config() const = 0;
  // Runs it at once on this thread, or queues it. The session must outlive Finished.
  virtual void Start(InferRequest* request) = 0;
  // Counts the request, answered or not, and gives the version back. input_ns: decoding, output_ns: encoding.
  virtual void Done(bool ok, const InferTiming& timing, int64_t input_ns, int64_t output_ns) = 0;
};
struct ModelStatistics {
  std::string model, version;
  int64_t last_inference_ms = 0;
  uint64_t inference_count = 0, execution_count = 0;
  struct Duration {
    uint64_t count = 0, ns = 0;
  };
  Duration success, fail, queue, compute_input, compute_infer, compute_output, cache_hit, cache_miss;
  struct Batch {
    int64_t rows = 0;
    Duration compute_input, compute_infer, compute_output;
  };
  std::vector<Batch> batches;  // by size; executions of that many rows
  int64_t memory_bytes = 0;
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
  // That answer, ascending: ready ones, and lazy ones that their first request loads.
  virtual std::vector<std::string> ServedVersions(std::string_view model) = 0;
  // model "" = all.
  virtual absl::StatusOr<std::vector<ModelStatistics>> Statistics(std::string_view model, std::string_view version) = 0;
  virtual std::vector<RepositoryEntry> Repository(bool ready_only) = 0;
  // What the doors' threads run between their polls.
  virtual WorkSource* work() = 0;
};

// ---- Control: everything below may touch disk and wait; doors call it on normal-class threads.
class Models {
 public:
  virtual ~Models() = default;
  // Registers the bytes of an ONNX file (joined, checked in a child). `source` is its name for the record, `precision`
  // what it is served in: "f32", "bf16" or "f16".
  virtual absl::StatusOr<wire::ModelVersion> Import(const Caller& caller, std::string_view name,
                                                    std::string_view source, std::string_view precision,
                                                    const std::string& file_with_bytes) = 0;
  virtual wire::ModelList List() = 0;
  virtual absl::StatusOr<wire::Model> Show(std::string_view model) = 0;
  // Loads the version and makes it champion; waits until it serves. Ready or an error with the reason.
  virtual absl::StatusOr<wire::ModelVersion> Deploy(const Caller& caller, const wire::DeployRequest& request) = 0;
  // The champion before comes back; a canary or shadow ends.
  virtual absl::StatusOr<wire::ModelVersion> RollBack(const Caller& caller, std::string_view model) = 0;
  // Champion moves there as by Deploy; a canary or shadow ends.
  virtual absl::StatusOr<wire::ModelVersion> Promote(const Caller& caller, const wire::PromoteRequest& request) = 0;
  // Loads the version beside the champion, checks that both have the same inputs and outputs, and sends it a part of
  // the requests (canary) or copies of them (shadow). percent 0 ends it.
  virtual absl::StatusOr<wire::TrafficSplit> SetCanary(const Caller& caller, const wire::SplitRequest& request) = 0;
  virtual absl::StatusOr<wire::TrafficSplit> SetShadow(const Caller& caller, const wire::SplitRequest& request) = 0;
  // An operator's word about a version. What waited for it goes on: an approved version becomes champion.
  virtual absl::StatusOr<wire::ModelVersion> Approve(const Caller& caller, const wire::ApproveRequest& request,
                                                     bool approved) = 0;
  // Measures the version (0: the champion, else the newest) on every engine, whatever was measured before, and waits
  // for it; the report is in the answer.
  virtual absl::StatusOr<wire::ModelVersion> Measure(const Caller& caller, const wire::MeasureRequest& request) = 0;
  // How the model is served; a change is in force when the call returns.
  virtual absl::StatusOr<wire::ServingConfig> Config(std::string_view model) = 0;
  virtual absl::StatusOr<wire::ServingConfig> Configure(const Caller& caller,
                                                        const wire::ConfigureRequest& request) = 0;
  virtual absl::Status SetAlias(const Caller& caller, const wire::SetAliasRequest& request) = 0;
  // The path of the version's ONNX file; valid while the version exists.
  virtual absl::StatusOr<std::string> FileOf(std::string_view model, std::string_view alias, int32_t version) = 0;
  virtual absl::Status Delete(const Caller& caller, std::string_view model, int32_t version) = 0;  // version 0 = all
  // The protocol's repository load and unload: serve the model again, or not at all.
  virtual absl::Status SetEnabled(const Caller& caller, std::string_view model, bool enabled) = 0;
  // The same with content: `config` is how the model is served from now on, and `files` ("1/model.onnx" -> its bytes),
  // if there are any, become a new version of it, as Import does; a model that does not exist is made. Waits until it
  // serves. NotFound for a model that does not exist when there are no files.
  virtual absl::Status LoadWithOverride(const Caller& caller, std::string_view model, const spec::ModelConfig& config,
                                        const std::map<std::string, std::string>& files) = 0;
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
  // A plain tar of files and folders (no links), spooled to `file`; unpacked into tandem's own folder.
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

// All of it, for a door. Not owned; all pointers but the tracer set, and outliving the door.
struct Services {
  Inference* inference = nullptr;
  Models* models = nullptr;
  Jobs* jobs = nullptr;
  Datasets* datasets = nullptr;
  Admin* admin = nullptr;
  Sharing* sharing = nullptr;
  Metrics* metrics = nullptr;
  v2::SharedMemory* regions = nullptr;  // one name space for all doors
  Tracer* tracer = nullptr;             // null: requests are not traced
};

}  // namespace tandem::api
