// The C edge of the ONNX Runtime plug-in: every function catches, and keeps the text for last_error.
#include <new>
#include <stdexcept>

#include "common/edge.h"
#include "model.h"
#include "runtime.h"
#include "tandem/engine.h"

namespace {

using tandem_plugin::last_error;

template <typename Body>
tandem_code Guard(Body body) {
  last_error.clear();
  try {
    body();
    return TANDEM_OK;
  } catch (const std::bad_alloc&) {
    last_error = "out of memory";
    return TANDEM_RESOURCE_EXHAUSTED;
  } catch (const tandem_onnxruntime::Unavailable& e) {
    last_error = e.what();
    return TANDEM_UNAVAILABLE;
  } catch (const tandem_onnxruntime::Error& e) {
    last_error = e.what();
    return e.code();
  } catch (const std::invalid_argument& e) {
    last_error = e.what();
    return TANDEM_INVALID_ARGUMENT;
  } catch (const std::exception& e) {
    last_error = e.what();
    return TANDEM_INTERNAL;
  } catch (...) {
    last_error = "unknown exception";
    return TANDEM_INTERNAL;
  }
}

// The library's own; prepared folders are bound to it.
const char* Version() {
  static const char* absent = "not installed";
  const char* version = absent;
  Guard([&] { version = tandem_onnxruntime::Runtime::Get().version().c_str(); });
  return version;
}

tandem_code Prepare(const char* model_path, const char* folder, const tandem_option* options) {
  return Guard([&] { tandem_onnxruntime::Prepare(model_path, folder, options); });
}

tandem_code Estimate(const char* folder, uint64_t* bytes) {
  return Guard([&] { *bytes = tandem_onnxruntime::EstimateBytes(folder); });
}

tandem_code Load(const char* folder, const tandem_option* options, tandem_model** model) {
  return Guard([&] { *model = new tandem_model(folder, options); });
}

void Unload(tandem_model* model) { delete model; }

tandem_code Signature(const tandem_model* model, int32_t is_output, int32_t index, tandem_signature* out) {
  const auto& tensors = model->tensors(is_output != 0);
  if (index < 0 || index >= static_cast<int32_t>(tensors.size())) return TANDEM_NOT_FOUND;
  *out = tensors[index];
  return TANDEM_OK;
}

tandem_code MakeInstance(tandem_model* model, tandem_instance** instance) {
  return Guard([&] { *instance = new tandem_instance(model); });
}

void FreeInstance(tandem_instance* instance) { delete instance; }

tandem_code Run(tandem_instance* instance, tandem_request* requests, int32_t count) {
  return tandem_plugin::RunEach(requests, count, instance->has_free_sizes(),
                                [&](tandem_request* request) { return Guard([&] { instance->Run(request); }); });
}

constexpr tandem_engine_api kApi = {
    TANDEM_ENGINE_ABI,
    [] { return "onnxruntime"; },
    Version,
    Prepare,
    Estimate,
    Load,
    Unload,
    Signature,
    MakeInstance,
    FreeInstance,
    Run,
    [] { return last_error.c_str(); },
};

}  // namespace

extern "C" __attribute__((visibility("default"))) const tandem_engine_api* tandem_engine_entry(uint32_t host_abi) {
  return host_abi == TANDEM_ENGINE_ABI ? &kApi : nullptr;
}
