#pragma once
// Versions in memory: loaded, warmed, swapped in, drained. Knows no database: the daemon pushes what should be there.
//
//   (absent) -> LOADING -> READY -> UNLOADING -> (absent)
//                  \-> FAILED (the old version goes on serving)
// A lazy version begins as UNAVAILABLE, is loaded by its first request, and goes back there when memory is short.
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/tensor.h"
#include "base/work_source.h"
#include "engine/engine.h"
#include "engine/remote.h"
#include "serving/cpu_budget.h"
#include "serving/split_report.h"
#include "spec/model_config.h"
#include "telemetry/metrics.h"

namespace tandem::serving {

struct DesiredVersion {
  int32_t version = 0;
  std::filesystem::path model_path;       // the ONNX file
  std::filesystem::path prepared_folder;  // where its blob is or goes
  std::string engine = "openvino";
  engine::Options options;
  spec::ModelConfig config;  // a copy of the model's, made by SetDesired
};
// A part of the requests that name no version goes elsewhere too.
struct Split {
  int32_t canary = 0;         // 0 = none; must have the default version's inputs and outputs
  double canary_percent = 0;  // of the route keys (by hash), or of the requests that have none: 0..100
  int32_t shadow = 0;         // 0 = none; gets a copy, at the lowest priority; its answers are compared and counted
  double shadow_percent = 0;
};
struct DesiredModel {
  std::string name;
  std::vector<DesiredVersion> versions;
  std::map<std::string, int32_t> aliases;  // those that point to a version above
  int32_t default_version = 0;             // what a request without a version gets
  spec::ModelConfig config;
  Split split;
};

enum class VersionState { kLoading, kReady, kUnloading, kFailed, kUnloaded };
std::string_view StateName(VersionState state);  // "LOADING", "READY", "UNLOADING", "FAILED"; kUnloaded: "UNAVAILABLE"
struct VersionStatus {
  std::string model;
  int32_t version = 0;
  VersionState state = VersionState::kLoading;
  std::string reason;
  std::string engine, precision;
  std::string failed_engine;  // the last load failed on it, and not for want of memory, which comes and goes
  int64_t memory_bytes = 0;
  double load_seconds = 0;
};

// Sums that the statistics extension of the protocol reports.
struct Statistics {
  uint64_t success_count = 0, success_ns = 0, fail_count = 0, fail_ns = 0, queue_count = 0, queue_ns = 0;
  uint64_t compute_input_ns = 0, compute_infer_ns = 0, compute_output_ns = 0;
  uint64_t compute_count = 0;                         // answered requests that the engine ran for
  uint64_t inference_count = 0, execution_count = 0;  // rows; runs of the engine
  uint64_t cache_hit_count = 0, cache_hit_ns = 0, cache_miss_count = 0, cache_miss_ns = 0;
  int64_t last_inference_ms = 0;
  // Executions by their number of rows: merging inputs, the engine, handing outputs to their owners.
  struct Batch {
    int64_t rows = 0;
    uint64_t count = 0, input_ns = 0, infer_ns = 0, output_ns = 0;
  };
  std::vector<Batch> batches;  // ascending
};

// What one ready version does now.
struct LoadNow {
  std::string model;
  int32_t version = 0;
  int busy = 0, waiting = 0;  // requests that run and that wait
  // Sums since the version was first loaded.
  uint64_t finished = 0;  // answered or refused
  uint64_t executed = 0;  // of them, those that the engine ran for
  uint64_t busy_ns = 0;   // of runs of the engine, merging and handing out included; a run of many requests once
};

// What one version used, for the accounts. Sums since the server began, none of which ever falls.
struct VersionUse {
  std::string model;
  int32_t version = 0;
  uint64_t finished = 0, busy_ns = 0;  // as in LoadNow
  bool in_child = false;               // it has a process of its own: busy_ns was waiting for that
  uint64_t child_cpu_ns = 0;           // CPU time of such processes, loading included
  // Sizes of the files: of the model that an engine prepared, and of what was prepared each time that it was loaded; of
  // what preparing made.
  uint64_t disk_read_bytes = 0, disk_written_bytes = 0;
};

class QueuedModel;
struct OpenSequence;

// One request on its way through serving. Whoever submits it owns it, and all that it views, until Finished is called.
struct Request {
  // Called exactly once, on any data-plane thread, perhaps before Submit returns. Must not wait.
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void Finished(Request* request) = 0;
  };
  struct Input {
    std::string_view name;
    engine::InputView view;
  };
  struct Sequence {
    uint64_t id = 0;  // 0 and "" = none
    std::string_view text_id;
    bool start = false, end = false;
  };

  static constexpr uint32_t kAfterAllOthers = UINT32_MAX;  // a priority: of all models; for copies

  Owner* owner = nullptr;
  std::vector<Input> inputs;  // in any order; Submit puts them into the model's
  std::string_view route_key;
  int64_t deadline_nanos = 0;  // monotonic; 0 = the model's limit
  uint32_t priority = 0;       // 1 = most urgent; 0 = the model's default
  // Inputs or outputs are, in part, where somebody else may change them at any time: its answer is no one else's.
  bool in_shared_memory = false;
  Sequence sequence;
  std::atomic<bool>* cancelled = nullptr;  // null = never

  absl::Status status;
  std::vector<Tensor> outputs;  // in the model's order; a buffer that is large enough is reused
  int64_t queue_ns = 0, compute_ns = 0;
  int64_t rows = 1;
  bool cached = false;

  // Serving's own, from Submit to Finished.
  struct Waiting {
    QueuedModel* model = nullptr;
    OpenSequence* sequence = nullptr;
    Request* before = nullptr;  // in the order of its queue
    Request* after = nullptr;
    uint64_t shape_key = 0;  // requests that can be merged have the same
    size_t byte_size = 0;    // of the inputs
    // Monotonic nanoseconds: when it came, when it need not wait for others any more, when it is given up, and what
    // orders it among its equals.
    int64_t arrival_ns = 0, ripe_ns = 0, expires_ns = 0, order_ns = 0;
    uint32_t rank = 0;     // smaller is more urgent
    bool held = false;     // an earlier request of its sequence is not answered yet
    bool starved = false;  // no instance was idle when it came
    int why_dropped = 0;   // a Decision
    std::string cache_key;
  } waiting;
};

// Keeps one loaded version alive while it is held. Cheap to copy; thread-safe.
class LoadedVersion;
using ModelHandle = std::shared_ptr<const LoadedVersion>;

class LoadedVersion {
 public:
  virtual ~LoadedVersion() = default;
  virtual const std::string& model() const = 0;
  virtual int32_t version() const = 0;
  virtual const std::vector<TensorSignature>& inputs() const = 0;
  virtual const std::vector<TensorSignature>& outputs() const = 0;
  virtual const std::string& engine() const = 0;

  // Checks the request (messages name the tensor and what was expected), then runs it at once on this thread, or queues
  // it. The handle must be held until Finished.
  virtual void Submit(Request* request) const = 0;
  virtual const spec::ModelConfig& config() const = 0;
  virtual bool ServesSequences() const { return false; }
  // Whether the request, which starts no sequence, goes on with one that began here and has not ended.
  virtual bool Continues(const Request& /*request*/) const { return false; }
  // Runs on an instance that live requests never use, for evaluation: waits for nothing but an earlier call.
  virtual absl::Status RunInBackground(const std::vector<Request::Input>& inputs,
                                       std::vector<Tensor>* outputs) const = 0;
  // Called by the door once a request was answered or refused, so that the sums cover decoding and encoding too. Pass
  // what Submit put into the request, also after an error: it tells why a request failed (nv_inference_request_failure:
  // infer_ns > 0 is BACKEND, else queue_ns > 0 is REJECTED, else OTHER).
  virtual void Record(bool ok, int64_t rows, int64_t total_ns, int64_t queue_ns, int64_t input_ns, int64_t infer_ns,
                      int64_t output_ns) const = 0;
  virtual Statistics ReadStatistics() const = 0;
  virtual HistogramSnapshot ReadLatency() const = 0;  // request durations, microseconds
  virtual LoadNow ReadLoad() const = 0;
};

class Router;  // serving/router.h

// A sequence stays with the version that it began on, whatever became of that one since. Null = there is no other.
using SequenceHolders = std::shared_ptr<const std::vector<ModelHandle>>;

// What a request needs: the version that it named or the default, and who may send it elsewhere.
struct Target {
  ModelHandle handle;
  std::shared_ptr<const Router> router;  // null unless the request named no version and the model has a split
  SequenceHolders holders;               // where its sequence may have begun

  // Of the holders, the one that a request which would be answered by `answering` goes on with; else null.
  ModelHandle HolderOf(const Request& request, const LoadedVersion& answering) const;
};

struct ServingSettings {
  int instances = 1;               // per version, 1..64: how many live requests run at the same time
  int queue_limit = 256;           // waiting requests per version
  double max_wait_s = 30;          // in that queue, for requests without a deadline
  int64_t memory_limit_bytes = 0;  // of all loaded versions by estimate; 0 = none
  double prepare_timeout_s = 600;
  engine::SpawnService spawn_service;       // for engines in a process of their own
  int64_t response_cache_bytes = 64 << 20;  // of all models together
  CpuBudget* cpu_budget = nullptr;          // admission by serving's share of the CPU; outlives Serving; null = none
};

// What the loader tells the daemon about, on its own thread.
struct LoadEvents {
  // Before `engine` begins to load it.
  std::function<void(const std::string& model, int32_t version, const std::string& engine)> on_loading;
  // READY or FAILED. READY with a reason: it is served as before, for the load beside it failed.
  std::function<void(const VersionStatus&)> on_loaded;
};

// Thread-safe. Lookups (Find) never wait for loading: they read an immutable table.
class Serving {
 public:
  static std::unique_ptr<Serving> Create(const ServingSettings& settings, engine::SpawnFunction spawn, Metrics* metrics,
                                         Clock* clock, LoadEvents events);
  virtual ~Serving() = default;  // drains, unloads

  // Loading, warming and unloading happen on a background thread; a version is served once READY; a model's default
  // moves only to a READY version, so the old one serves until then; what is no longer desired is drained and unloaded.
  virtual void SetDesired(std::vector<DesiredModel> models) = 0;

  // What the policy allows all loaded versions together, beside the limit of the settings; 0 = no more than that one.
  // What is loaded stays, but for lazy versions that are idle; what would not fit is refused.
  virtual void SetMemoryLimit(int64_t bytes) = 0;
  // So many instances at most of each version whose configuration leaves their number open; 0 = as many as the
  // settings say. Those that are too many go as soon as they are idle.
  virtual void SetInstanceBound(int instances) = 0;

  // What a request begins with. Takes no lock. Errors as of Find, but for a lazy version that is not loaded: its handle
  // has it loaded and keeps the request that is submitted until then. Where its inputs are not known without loading
  // it, it is loaded from now on, and this request gets Unavailable.
  virtual absl::StatusOr<Target> Open(std::string_view model, std::string_view version_or_alias) const = 0;
  // version 0 = default. A number in `version_or_alias` is a version, else an alias. NotFound names what there is;
  // Unavailable while the model is being loaded, and for a lazy version that is not loaded; Find does not load it.
  virtual absl::StatusOr<ModelHandle> Find(std::string_view model, std::string_view version_or_alias) const = 0;
  virtual std::vector<VersionStatus> States() const = 0;
  // Versions of a model, ascending: the ready ones; all that answer, so lazy ones that a request would load, too.
  virtual std::vector<int32_t> ReadyVersions(std::string_view model) const = 0;
  virtual std::vector<int32_t> ServedVersions(std::string_view model) const = 0;
  // All ready versions; cheap, and waits for nobody.
  virtual std::vector<LoadNow> Loads() const = 0;
  // All versions that were ever loaded.
  virtual std::vector<VersionUse> Uses() const = 0;
  // CPU time that requests took in processes of engines, since the server began; never falls. To be asked every 20 ms:
  // an ended run counts, and one that goes on does.
  virtual double ChildCpuSeconds() const = 0;
  // How the model's canary and its shadow do, since they began. NotFound if the model has none.
  virtual absl::StatusOr<CanaryReport> ReadCanary(std::string_view model) const = 0;
  virtual absl::StatusOr<ShadowReport> ReadShadow(std::string_view model) const = 0;
  // Waits until (model, version) is READY, and a load beside what serves has ended too; or gives why it FAILED;
  // DeadlineExceeded. Loads a lazy version.
  virtual absl::Status WaitUntilReady(std::string_view model, int32_t version, double timeout_s) = 0;
  // What the threads that submit requests run between their polls.
  virtual WorkSource* work() = 0;
  // True once no load is in progress or waiting.
  virtual bool Settled() const = 0;
};

}  // namespace tandem::serving
