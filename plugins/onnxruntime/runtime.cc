#include "runtime.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

namespace tandem_onnxruntime {
namespace {

// Found through this plug-in's own search path, which names the folder of scripts/setup.
constexpr const char* kLibrary = "libonnxruntime.so.1";
constexpr const char* kPathVariable = "TANDEM_ONNXRUNTIME";

// What OrtGetApiBase gives.
struct ApiBase {
  const void* const* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

// Takes the type of whatever pointer it initialises.
struct Any {
  const void* pointer;
  template <typename F>
  operator F*() const {
    return reinterpret_cast<F*>(const_cast<void*>(pointer));
  }
};

tandem_code CodeOf(int ort_code) {
  switch (ort_code) {
    case 2:   // invalid argument
    case 7:   // invalid protobuf
    case 10:  // invalid graph
      return TANDEM_INVALID_ARGUMENT;
    case 3:  // no such file
      return TANDEM_NOT_FOUND;
    case 9:
      return TANDEM_UNIMPLEMENTED;
    default:
      return TANDEM_INTERNAL;
  }
}

// One line without the runtime's own source positions: "/onnxruntime_src/file.cc:123 type function(arguments) text".
std::string UsefulText(std::string text) {
  constexpr std::string_view kPosition = "/onnxruntime_src/", kEnd = ") ";
  std::replace(text.begin(), text.end(), '\n', ' ');
  for (size_t at = text.find(kPosition); at != std::string::npos; at = text.find(kPosition)) {
    const size_t end = text.find(kEnd, at);
    if (end == std::string::npos) break;
    text.erase(at, end + 1 - at);  // the blank stays
  }
  constexpr size_t kMost = 500;
  if (text.size() > kMost) text.resize(kMost);
  return text;
}

const ApiBase* OpenLibrary() {
  // Read by versions from 1.29 on, when they are loaded: they would report to their maker over the network. The one of
  // scripts/setup is older; a library of somebody's own may not be.
  setenv("ORT_DISABLE_TELEMETRY", "1", /*overwrite=*/1);
  const char* named = std::getenv(kPathVariable);
  const char* file = named != nullptr ? named : kLibrary;
  void* library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    throw Unavailable(std::string("ONNX Runtime is not installed (") + dlerror() +
                      "); run scripts/setup, or name its " + kLibrary + " in the variable " + kPathVariable);
  }
  auto get = reinterpret_cast<const ApiBase* (*)()>(dlsym(library, "OrtGetApiBase"));
  if (get != nullptr) return get();
  dlclose(library);
  throw Unavailable(std::string("'") + file + "' is no ONNX Runtime: it has no function OrtGetApiBase");
}

}  // namespace

Functions::Functions(const void* const* table)
    : GetErrorCode(Any{table[1]}),
      GetErrorMessage(Any{table[2]}),
      CreateEnv(Any{table[3]}),
      DisableTelemetryEvents(Any{table[6]}),
      CreateSession(Any{table[7]}),
      Run(Any{table[9]}),
      CreateSessionOptions(Any{table[10]}),
      SetOptimizedModelFilePath(Any{table[11]}),
      SetSessionExecutionMode(Any{table[13]}),
      DisableMemPattern(Any{table[17]}),
      DisableCpuMemArena(Any{table[19]}),
      SetSessionGraphOptimizationLevel(Any{table[23]}),
      SetIntraOpNumThreads(Any{table[24]}),
      SetInterOpNumThreads(Any{table[25]}),
      AddSessionConfigEntry(Any{table[130]}),
      SessionGetCount{Any{table[30]}, Any{table[31]}},
      SessionGetTypeInfo{Any{table[33]}, Any{table[34]}},
      SessionGetName{Any{table[36]}, Any{table[37]}},
      CreateTensorAsOrtValue(Any{table[48]}),
      CreateTensorWithDataAsOrtValue(Any{table[49]}),
      IsTensor(Any{table[50]}),
      GetTensorMutableData(Any{table[51]}),
      GetStringTensorDataLength(Any{table[53]}),
      GetStringTensorContent(Any{table[54]}),
      GetResizedStringTensorElementBuffer(Any{table[252]}),
      CastTypeInfoToTensorInfo(Any{table[55]}),
      GetOnnxTypeFromTypeInfo(Any{table[56]}),
      GetTensorElementType(Any{table[60]}),
      GetDimensionsCount(Any{table[61]}),
      GetDimensions(Any{table[62]}),
      GetTensorTypeAndShape(Any{table[65]}),
      CreateCpuMemoryInfo(Any{table[69]}),
      AllocatorFree(Any{table[76]}),
      GetAllocatorWithDefaultOptions(Any{table[78]}),
      ReleaseStatus(Any{table[93]}),
      ReleaseSession(Any{table[95]}),
      ReleaseValue(Any{table[96]}),
      ReleaseTypeInfo(Any{table[98]}),
      ReleaseTensorTypeAndShapeInfo(Any{table[99]}),
      ReleaseSessionOptions(Any{table[100]}) {}

Runtime::Runtime(const void* const* table, std::string version) : functions_(table), version_(std::move(version)) {
  // Nothing is logged: what matters comes back as a status.
  Check(functions_.CreateEnv(kLogFatal, "tandem", &env_));
  Check(functions_.DisableTelemetryEvents(env_));
  Check(functions_.GetAllocatorWithDefaultOptions(&allocator_));
  Check(functions_.CreateCpuMemoryInfo(kDeviceAllocator, kDefaultMemory, &memory_));
}

const Runtime& Runtime::Get() {
  static const Runtime* runtime = [] {
    const ApiBase* base = OpenLibrary();
    const void* const* table = base->GetApi(kInterfaceVersion);
    const std::string version = base->GetVersionString();
    if (table == nullptr) {
      throw Unavailable("ONNX Runtime " + version + " is too old: version 1.15 or later is needed; run scripts/setup");
    }
    return new Runtime(table, version);
  }();
  return *runtime;
}

void Runtime::Check(OrtStatus* status) const {
  if (status == nullptr) return;
  Error error(CodeOf(functions_.GetErrorCode(status)), UsefulText(functions_.GetErrorMessage(status)));
  functions_.ReleaseStatus(status);
  throw error;
}

}  // namespace tandem_onnxruntime
