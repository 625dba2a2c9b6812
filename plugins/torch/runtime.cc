// The C edge of the torch plug-in's runtime.
#include <exception>
#include <new>
#include <stdexcept>
#include <string>

#include "absl/status/status.h"
#include "base/status.h"
#include "base/text.h"
#include "common/edge.h"
#include "model.h"
#include "tandem/engine.h"

namespace {

using tandem_plugin::last_error;

// `body` gives a status, whose code is the interface's too.
template <typename Body>
tandem_code Guard(Body body) {
  last_error.clear();
  try {
    const absl::Status status = body();
    if (status.ok()) return TANDEM_OK;
    last_error = tandem::MessageOf(status);
    return static_cast<tandem_code>(status.code());
  } catch (const std::bad_alloc&) {
    last_error = "out of memory";
    return TANDEM_RESOURCE_EXHAUSTED;
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

tandem_code Prepare(const char* model_path, const char* folder, const tandem_option* options) {
  return Guard([&] { return tandem_torch::Prepare(model_path, folder, options); });
}

tandem_code Estimate(const char* folder, uint64_t* bytes) {
  return Guard([&]() -> absl::Status {
    TANDEM_ASSIGN_OR_RETURN(*bytes, tandem_torch::EstimateBytes(folder));
    return absl::OkStatus();
  });
}

tandem_code Load(const char* folder, const tandem_option* options, tandem_model** model) {
  return Guard([&]() -> absl::Status {
    TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<tandem_model> loaded, tandem_model::Load(folder, options));
    *model = loaded.release();
    return absl::OkStatus();
  });
}

void Unload(tandem_model* model) { delete model; }

tandem_code Signature(const tandem_model* model, int32_t is_output, int32_t index, tandem_signature* out) {
  const auto& tensors = model->tensors(is_output != 0);
  if (index < 0 || index >= static_cast<int32_t>(tensors.size())) return TANDEM_NOT_FOUND;
  const tandem::TensorSignature& tensor = tensors[index];
  if (tensor.shape.size() > TANDEM_ENGINE_MAX_RANK) {
    last_error = tandem::StrCat("'", tensor.name, "' has more than 8 dimensions");
    return TANDEM_INVALID_ARGUMENT;
  }
  *out = {tensor.name.c_str(), static_cast<tandem_dtype>(tensor.dtype), static_cast<int32_t>(tensor.shape.size())};
  std::copy(tensor.shape.begin(), tensor.shape.end(), out->shape);
  return TANDEM_OK;
}

tandem_code MakeInstance(tandem_model* model, tandem_instance** instance) {
  return Guard([&] {
    *instance = new tandem_instance{model};
    return absl::OkStatus();
  });
}

void FreeInstance(tandem_instance* instance) { delete instance; }

tandem_code Run(tandem_instance* instance, tandem_request* requests, int32_t count) {
  return tandem_plugin::RunEach(requests, count, /*has_free_sizes=*/false, [&](tandem_request* request) {
    return Guard([&] { return instance->model->Run(request); });
  });
}

constexpr tandem_engine_api kApi = {
    TANDEM_ENGINE_ABI,
    [] { return "torch"; },
    [] { return ""; },  // the file that forwards to this one says it
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
