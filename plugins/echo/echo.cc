// The smallest engine: one input, returned as the output. Copy it to begin a new plug-in.
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>

#include "tandem/engine.h"

struct tandem_model {
  std::string input, output;
  tandem_signature signature{};  // without the name
};
struct tandem_instance {
  tandem_model* model;
};

namespace {

constexpr const char* kDefaultSignature = "INPUT0 FP32 -1 OUTPUT0";
constexpr struct {
  const char* name;
  tandem_dtype dtype;
} kTypes[] = {{"FP32", 1},  {"UINT8", 2}, {"INT8", 3},  {"UINT16", 4}, {"INT16", 5},   {"INT32", 6},   {"INT64", 7},
              {"BYTES", 8}, {"BOOL", 9},  {"FP16", 10}, {"FP64", 11},  {"UINT32", 12}, {"UINT64", 13}, {"BF16", 16}};

thread_local std::string last_error;

// Runs `body`, which throws std::invalid_argument for a model that is wrong.
template <typename Body>
tandem_code Guard(Body body) {
  last_error.clear();
  try {
    body();
    return TANDEM_OK;
  } catch (const std::invalid_argument& e) {
    last_error = e.what();
    return TANDEM_INVALID_ARGUMENT;
  } catch (const std::exception& e) {
    last_error = e.what();
    return TANDEM_INTERNAL;
  }
}

// "INPUT DTYPE SHAPE [OUTPUT]".
tandem_model Parse(const std::string& line) {
  tandem_model model;
  std::istringstream words(line);
  std::string dtype, shape;
  if (!(words >> model.input >> dtype >> shape)) {
    throw std::invalid_argument("'" + line + "' is no signature; write INPUT DTYPE SHAPE [OUTPUT], as in " +
                                kDefaultSignature);
  }
  if (!(words >> model.output)) model.output = "OUTPUT0";
  for (const auto& type : kTypes) {
    if (dtype == type.name) model.signature.dtype = type.dtype;
  }
  if (model.signature.dtype == 0) throw std::invalid_argument("unknown data type '" + dtype + "'");
  std::istringstream dims(shape);
  for (std::string dim; std::getline(dims, dim, ',');) {
    char* end = nullptr;
    int64_t value = std::strtoll(dim.c_str(), &end, 10);
    if (dim.empty() || *end != 0 || value < -1 || model.signature.rank == TANDEM_ENGINE_MAX_RANK) {
      throw std::invalid_argument("shape '" + shape + "' is not up to 8 numbers of -1 or more, separated by ','");
    }
    model.signature.shape[model.signature.rank++] = value;
  }
  return model;
}

std::string ReadLine(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) throw std::invalid_argument("cannot read a line of '" + path.string() + "'");
  return line;
}

tandem_code Prepare(const char* model_path, const char* folder, const tandem_option*) {
  return Guard([&] {
    std::filesystem::path path(model_path);
    std::string line = path.extension() == ".echo" ? ReadLine(path) : kDefaultSignature;
    Parse(line);
    std::ofstream file(std::filesystem::path(folder) / "signature");
    if (!(file << line << "\n").flush()) throw std::runtime_error(std::string("cannot write into ") + folder);
  });
}

tandem_code Estimate(const char*, uint64_t* bytes) {
  *bytes = sizeof(tandem_model);
  return TANDEM_OK;
}

tandem_code Load(const char* folder, const tandem_option*, tandem_model** model) {
  return Guard([&] { *model = new tandem_model(Parse(ReadLine(std::filesystem::path(folder) / "signature"))); });
}

void Unload(tandem_model* model) { delete model; }

tandem_code Signature(const tandem_model* model, int32_t is_output, int32_t index, tandem_signature* out) {
  if (index != 0) return TANDEM_NOT_FOUND;
  *out = model->signature;
  out->name = is_output ? model->output.c_str() : model->input.c_str();
  return TANDEM_OK;
}

tandem_code MakeInstance(tandem_model* model, tandem_instance** instance) {
  return Guard([&] { *instance = new tandem_instance{model}; });
}

void FreeInstance(tandem_instance* instance) { delete instance; }

tandem_code Run(tandem_instance*, tandem_request* requests, int32_t count) {
  for (int32_t i = 0; i < count; ++i) {
    tandem_request& request = requests[i];
    const tandem_input& in = request.inputs[0];
    void* out = request.output.allocate(request.output.context, 0, in.dtype, in.rank, in.shape, in.byte_size);
    if (out != nullptr && in.byte_size > 0) std::memcpy(out, in.data, in.byte_size);
    request.code = out != nullptr ? TANDEM_OK : TANDEM_RESOURCE_EXHAUSTED;
    if (out == nullptr) last_error = "the host has no memory for the output";
  }
  return TANDEM_OK;
}

constexpr tandem_engine_api kApi = {
    TANDEM_ENGINE_ABI,
    [] { return "echo"; },
    [] { return "1"; },
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
