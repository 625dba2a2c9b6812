#pragma once
// Inference engines: plug-ins found, checked, loaded and run. C++ over include/tandem/engine.h. No exception and no
// pointer of a plug-in leaves this module.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/tensor.h"
#include "engine_host.pb.h"

namespace tandem::engine {

// A request's tensors: inputs in signature order (views; the caller keeps them alive), outputs are made by Run.
struct InputView {
  DType dtype = DType::kInvalid;
  Shape shape;
  const void* data = nullptr;  // aligned to 64 bytes
  size_t byte_size = 0;
};

// What one thread runs on. One call at a time.
class Instance {
 public:
  virtual ~Instance() = default;
  // `outputs` are in signature order; their buffers are reused when large enough.
  virtual absl::Status Run(const std::vector<InputView>& inputs, std::vector<Tensor>* outputs) = 0;
  // From now on its runs are requests'. Where they are another process's, their thread gets the class of request
  // threads, and its CPU time counts as theirs. Beside no run; not for data-plane threads.
  virtual void StartRequests() {}
};

// Loaded weights. Instances must not outlive it. MakeInstance: one call at a time.
class LoadedModel {
 public:
  virtual ~LoadedModel() = default;
  virtual const std::vector<TensorSignature>& inputs() const = 0;
  virtual const std::vector<TensorSignature>& outputs() const = 0;
  virtual absl::StatusOr<std::unique_ptr<Instance>> MakeInstance() = 0;
};

struct Options {
  std::string precision = "f32";
  std::string device = "CPU";
  int threads = 1;  // of one instance, 1..64; with 1 a run is wholly on its caller
};

// One plug-in. Thread-safe.
class Engine {
 public:
  virtual ~Engine() = default;
  virtual const std::string& name() const = 0;
  virtual const std::string& version() const = 0;
  virtual absl::Status Prepare(const std::filesystem::path& model, const std::filesystem::path& folder,
                               const Options& options) = 0;
  virtual absl::StatusOr<uint64_t> Estimate(const std::filesystem::path& folder) = 0;
  virtual absl::StatusOr<std::unique_ptr<LoadedModel>> Load(const std::filesystem::path& folder,
                                                            const Options& options) = 0;
};

// Finds libtandem_engine_<name>.so in TANDEM_ENGINE_PATH (':'-separated), then beside the executable. Engines stay
// loaded. NotFound lists what is there; FailedPrecondition names a file that is no plug-in or speaks another ABI
// version.
absl::StatusOr<Engine*> OpenEngine(std::string_view name);
struct EngineInfo {
  std::string name, version, path, error;
};
// `open`: also those that never run in the server itself (NeedsChild); their version is then known.
std::vector<EngineInfo> ListEngines(bool open = true);
// Engines whose runtime must not be loaded into the server: they run in a child whatever a model's settings say.
bool NeedsChild(std::string_view engine);

// Prepares a model in a child (tandem-engine-host prepare), into `folder` (made; atomically: either complete with
// prepared.json, or absent). A crash or time-out of the child is an error that says so. `spawn` starts argv at low
// priority, waits at most timeout_s, and gives its exit (as of waitpid) with what it wrote to stderr.
struct ChildResult {
  int wait_status = 0;
  std::string stderr_text;
  bool timed_out = false;
};
using SpawnFunction =
    std::function<absl::StatusOr<ChildResult>(const std::vector<std::string>& argv, double timeout_s)>;
absl::StatusOr<wire::Prepared> PrepareInChild(const SpawnFunction& spawn, std::string_view engine,
                                              const std::filesystem::path& model, const std::filesystem::path& folder,
                                              const Options& options, double timeout_s);
// Reads what PrepareInChild left; NotFound when it is absent, or of another engine version, precision or device (then
// prepare again).
absl::StatusOr<wire::Prepared> ReadPrepared(const std::filesystem::path& folder, const Engine& engine,
                                            const Options& options);
// The same without opening the plug-in, and so of any version: for engines that only a child opens, which checks it.
absl::StatusOr<wire::Prepared> ReadPrepared(const std::filesystem::path& folder, std::string_view engine,
                                            const Options& options);

}  // namespace tandem::engine
