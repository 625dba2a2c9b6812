// The C edge of the OpenVINO plug-in: every function catches, and keeps the text for last_error.
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>

#include "common/edge.h"
#include "model.h"
#include "openvino/core/except.hpp"
#include "openvino/core/version.hpp"
#include "tandem/engine.h"

namespace {

using tandem_plugin::last_error;

// OpenVINO's texts carry a trail of source lines; what a user needs is what is left.
std::string UsefulLines(const std::string& text) {
  std::istringstream lines(text);
  std::string useful, last;
  for (std::string line; std::getline(lines, line);) {
    size_t begin = line.find_first_not_of(" \t\r");
    if (begin == std::string::npos) continue;
    line = line.substr(begin);
    last = line;
    bool trail = line.starts_with("Exception from ") || line.starts_with("Check '") ||
                 line.starts_with("While validating") || line.starts_with("[CPU]") ||
                 line.starts_with("Available frontends");
    if (trail) continue;
    if (!useful.empty()) useful += useful.back() == ':' ? " " : "; ";
    useful += line;
    if (useful.size() > 300) break;
  }
  return useful.empty() ? last : useful;
}

template <typename Body>
tandem_code Guard(Body body) {
  last_error.clear();
  try {
    body();
    return TANDEM_OK;
  } catch (const std::bad_alloc&) {
    last_error = "out of memory";
    return TANDEM_RESOURCE_EXHAUSTED;
  } catch (const std::invalid_argument& e) {
    last_error = e.what();
    return TANDEM_INVALID_ARGUMENT;
  } catch (const ov::Exception& e) {
    last_error = UsefulLines(e.what());
    return TANDEM_INTERNAL;
  } catch (const std::exception& e) {
    last_error = e.what();
    return TANDEM_INTERNAL;
  } catch (...) {
    last_error = "unknown exception";
    return TANDEM_INTERNAL;
  }
}

// "2026.4.1-22982-e213a147257-releases/2026/4" -> "2026.4.1".
const char* Version() {
  static const std::string kVersion = [] {
    std::string build = ov::get_openvino_version().buildNumber;
    return build.substr(0, build.find('-'));
  }();
  return kVersion.c_str();
}

tandem_code Prepare(const char* model_path, const char* folder, const tandem_option* options) {
  return Guard([&] { tandem_openvino::Prepare(model_path, folder, options); });
}

tandem_code Estimate(const char* folder, uint64_t* bytes) {
  return Guard([&] { *bytes = tandem_openvino::EstimateBytes(folder); });
}

tandem_code Load(const char* folder, const tandem_option* options, tandem_model** model) {
  return Guard([&] { *model = new tandem_model(folder, options); });
}

void Unload(tandem_model* model) { delete model; }

tandem_code Signature(const tandem_model* model, int32_t is_output, int32_t index, tandem_signature* out) {
  const auto& tensors = is_output ? model->signature().outputs : model->signature().inputs;
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
    [] { return "openvino"; },
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
