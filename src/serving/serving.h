#pragma once
// Versions in memory: loaded, warmed, swapped in, drained. Knows no database: the daemon pushes what should be there.
//
//   (absent) -> LOADING -> READY -> UNLOADING -> (absent)
//                  \-> FAILED (the old version goes on serving)
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
#include "engine/engine.h"
#include "serving/cpu_budget.h"
#include "telemetry/metrics.h"

namespace tandem::serving {

struct DesiredVersion {
  int32_t version = 0;
  std::filesystem::path model_path;       // the ONNX file
  std::filesystem::path prepared_folder;  // where its blob is or goes
  std::string engine = "openvino";
  engine::Options options;
};
struct DesiredModel {
  std::string name;
  std::vector<DesiredVersion> versions;
  std::map<std::string, int32_t> aliases;  // those that point to a version above
  int32_t default_version = 0;             // what a request without a version gets
};

enum class VersionState { kLoading, kReady, kUnloading, kFailed };
std::string_view StateName(VersionState state);  // "LOADING", "READY", "UNLOADING", "FAILED"
struct VersionStatus {
  std::string model;
  int32_t version = 0;
  VersionState state = VersionState::kLoading;
  std::string reason;
  std::string engine, precision;
  int64_t memory_bytes = 0;
  double load_seconds = 0;
};

// Sums that the statistics extension of the protocol reports.
struct Statistics {
  uint64_t success_count = 0, success_ns = 0, fail_count = 0, fail_ns = 0, queue_count = 0, queue_ns = 0;
  uint64_t compute_input_ns = 0, compute_infer_ns = 0, compute_output_ns = 0;
  uint64_t inference_count = 0, execution_count = 0;
  int64_t last_inference_ms = 0;
};

// What one ready version does now.
struct LoadNow {
  std::string model;
  int32_t version = 0;
  int busy = 0, waiting = 0;  // requests that run and that wait
  uint64_t finished = 0;      // answered or refused, since the version was first loaded
  uint64_t compute_ns = 0;    // in the engine, all of them together
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

  // Runs a request on the calling thread: on an idle instance at once, else waits for one at most until deadline_nanos
  // (monotonic; 0 = the server's limit), in the order of arrival. Unavailable at once when the bounded queue is full.
  // `inputs` in any order, checked by name, dtype and shape (messages name the tensor and what was expected).
  struct NamedInput {
    std::string_view name;
    engine::InputView view;
  };
  struct Timing {
    int64_t queue_ns = 0, compute_ns = 0;
  };
  virtual absl::Status Run(const std::vector<NamedInput>& inputs, std::vector<Tensor>* outputs, int64_t deadline_nanos,
                           Timing* timing) const = 0;
  // The same on an instance that live requests never use, for evaluation and warm-up.
  virtual absl::Status RunInBackground(const std::vector<NamedInput>& inputs, std::vector<Tensor>* outputs) const = 0;
  // Called by the door once a request was answered or refused, so that the sums cover decoding and encoding too. Pass
  // what Run put into Timing, also after an error: it tells why a request failed (nv_inference_request_failure:
  // infer_ns > 0 is BACKEND, else queue_ns > 0 is REJECTED, else OTHER).
  virtual void Record(bool ok, int64_t rows, int64_t total_ns, int64_t queue_ns, int64_t input_ns, int64_t infer_ns,
                      int64_t output_ns) const = 0;
  virtual Statistics ReadStatistics() const = 0;
  virtual HistogramSnapshot ReadLatency() const = 0;  // request durations, microseconds
  virtual LoadNow ReadLoad() const = 0;
};

struct ServingSettings {
  int instances = 1;               // per version, 1..64: how many live requests run at the same time
  int queue_limit = 256;           // waiting requests per version
  double max_wait_s = 30;          // in that queue, for requests without a deadline
  int64_t memory_limit_bytes = 0;  // of all loaded versions by estimate; 0 = none
  double prepare_timeout_s = 600;
  CpuBudget* cpu_budget = nullptr;  // admission by serving's share of the CPU; outlives Serving; null = none
};

// What the loader tells the daemon about, on its own thread.
struct LoadEvents {
  std::function<void(const std::string& model, int32_t version)> on_loading;  // before a load begins
  std::function<void(const VersionStatus&)> on_loaded;                        // READY or FAILED
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
  // What is loaded stays; what would not fit is refused.
  virtual void SetMemoryLimit(int64_t bytes) = 0;

  // version 0 = default. A number in `version_or_alias` is a version, else an alias. NotFound names what there is;
  // Unavailable while the model is being loaded.
  virtual absl::StatusOr<ModelHandle> Find(std::string_view model, std::string_view version_or_alias) const = 0;
  virtual std::vector<VersionStatus> States() const = 0;
  // Ready versions of a model, ascending; aliases.
  virtual std::vector<int32_t> ReadyVersions(std::string_view model) const = 0;
  // All ready versions; cheap, and waits for nobody.
  virtual std::vector<LoadNow> Loads() const = 0;
  // Waits until (model, version) is READY, or gives why it FAILED; DeadlineExceeded.
  virtual absl::Status WaitUntilReady(std::string_view model, int32_t version, double timeout_s) = 0;
  // True once no load is in progress or waiting.
  virtual bool Settled() const = 0;
};

}  // namespace tandem::serving
