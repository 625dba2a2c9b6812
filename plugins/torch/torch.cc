// The plug-in file of the torch engine: it forwards to libtandem_torch_runtime.so beside it, which links LibTorch and
// is opened with the first call that needs it. So listing the engines, and the server itself, never load LibTorch.
#include <dlfcn.h>

#include <cstdlib>
#include <string>

#include "tandem/engine.h"

namespace {

constexpr const char* kRuntime = "libtandem_torch_runtime.so";

struct Opened {
  const tandem_engine_api* api = nullptr;
  std::string error;  // why api is null
};

// Beside this library, whoever loads it.
std::string RuntimePath() {
  Dl_info self{};
  if (dladdr(reinterpret_cast<const void*>(&RuntimePath), &self) == 0 || self.dli_fname == nullptr) return kRuntime;
  const std::string path = self.dli_fname;
  return path.substr(0, path.rfind('/') + 1) + kRuntime;
}

Opened Open() {
  // OpenMP reads this once, when it is loaded: its threads sleep between runs instead of taking a CPU from others.
  setenv("OMP_WAIT_POLICY", "PASSIVE", /*overwrite=*/0);
  void* library = dlopen(RuntimePath().c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    return {nullptr, std::string("LibTorch cannot be loaded: ") + dlerror() + "; run scripts/setup"};
  auto entry = reinterpret_cast<decltype(&tandem_engine_entry)>(dlsym(library, "tandem_engine_entry"));
  const tandem_engine_api* api = entry == nullptr ? nullptr : entry(TANDEM_ENGINE_ABI);
  if (api == nullptr)
    return {nullptr, std::string(kRuntime) + " is of another tandem; build it again with scripts/build"};
  return {api, ""};
}

const Opened& Runtime() {
  static const Opened* opened = new Opened(Open());
  return *opened;
}

// Calls a function of the runtime's table.
template <typename... Parameters, typename... Arguments>
tandem_code Forward(tandem_code (*tandem_engine_api::*function)(Parameters...), Arguments... arguments) {
  const Opened& runtime = Runtime();
  if (runtime.api == nullptr) return TANDEM_UNAVAILABLE;
  return (runtime.api->*function)(arguments...);
}

tandem_code Prepare(const char* model_path, const char* folder, const tandem_option* options) {
  return Forward(&tandem_engine_api::prepare, model_path, folder, options);
}

tandem_code Estimate(const char* folder, uint64_t* bytes) {
  return Forward(&tandem_engine_api::estimate, folder, bytes);
}

tandem_code Load(const char* folder, const tandem_option* options, tandem_model** model) {
  return Forward(&tandem_engine_api::load, folder, options, model);
}

// From here on there is a model, so the runtime is open.
void Unload(tandem_model* model) { Runtime().api->unload(model); }

tandem_code Signature(const tandem_model* model, int32_t is_output, int32_t index, tandem_signature* out) {
  return Forward(&tandem_engine_api::signature, model, is_output, index, out);
}

tandem_code MakeInstance(tandem_model* model, tandem_instance** instance) {
  return Forward(&tandem_engine_api::make_instance, model, instance);
}

void FreeInstance(tandem_instance* instance) { Runtime().api->free_instance(instance); }

tandem_code Run(tandem_instance* instance, tandem_request* requests, int32_t count) {
  return Forward(&tandem_engine_api::run, instance, requests, count);
}

const char* LastError() { return Runtime().api == nullptr ? Runtime().error.c_str() : Runtime().api->last_error(); }

constexpr tandem_engine_api kApi = {
    TANDEM_ENGINE_ABI,
    [] { return "torch"; },
    [] { return TANDEM_TORCH_VERSION; },
    Prepare,
    Estimate,
    Load,
    Unload,
    Signature,
    MakeInstance,
    FreeInstance,
    Run,
    LastError,
};

}  // namespace

extern "C" __attribute__((visibility("default"))) const tandem_engine_api* tandem_engine_entry(uint32_t host_abi) {
  return host_abi == TANDEM_ENGINE_ABI ? &kApi : nullptr;
}
