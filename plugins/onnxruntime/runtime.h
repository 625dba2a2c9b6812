#pragma once
// ONNX Runtime, opened when first needed. Its C interface is a table of functions whose order never changes, and which
// only grows at its end; what this plug-in uses of it is declared here, so that no header of it is needed to build.
// The numbers are places in OrtApi of onnxruntime_c_api.h (MIT licence), interface version 15.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "tandem/engine.h"

// Opaque objects of ONNX Runtime, under the names of its C interface.
struct OrtStatus;
struct OrtEnv;
struct OrtSession;
struct OrtSessionOptions;
struct OrtValue;
struct OrtTypeInfo;
struct OrtTensorTypeAndShapeInfo;
struct OrtMemoryInfo;
struct OrtAllocator;

namespace tandem_onnxruntime {

inline constexpr uint32_t kInterfaceVersion = 15;
// Numbers of ONNX Runtime's enumerations. Its element types are those of TensorProto.DataType, as are tandem's.
inline constexpr int kLogFatal = 4, kSequential = 0, kOptimiseExtended = 2, kOptimiseAll = 99, kTypeTensor = 1,
                     kTypeSequence = 2, kTypeMap = 3, kDeviceAllocator = 0, kDefaultMemory = 0;

// The functions in use. A pointer that is nullptr instead of a status means success.
struct Functions {
  explicit Functions(const void* const* table);

  int (*GetErrorCode)(const OrtStatus*);
  const char* (*GetErrorMessage)(const OrtStatus*);
  OrtStatus* (*CreateEnv)(int level, const char* id, OrtEnv**);
  OrtStatus* (*DisableTelemetryEvents)(const OrtEnv*);
  OrtStatus* (*CreateSession)(const OrtEnv*, const char* path, const OrtSessionOptions*, OrtSession**);
  OrtStatus* (*Run)(OrtSession*, const void* run_options, const char* const* input_names, const OrtValue* const* inputs,
                    size_t input_count, const char* const* output_names, size_t output_count, OrtValue** outputs);
  OrtStatus* (*CreateSessionOptions)(OrtSessionOptions**);
  OrtStatus* (*SetOptimizedModelFilePath)(OrtSessionOptions*, const char* path);
  OrtStatus* (*SetSessionExecutionMode)(OrtSessionOptions*, int mode);
  OrtStatus* (*DisableMemPattern)(OrtSessionOptions*);
  OrtStatus* (*DisableCpuMemArena)(OrtSessionOptions*);
  OrtStatus* (*SetSessionGraphOptimizationLevel)(OrtSessionOptions*, int level);
  OrtStatus* (*SetIntraOpNumThreads)(OrtSessionOptions*, int threads);
  OrtStatus* (*SetInterOpNumThreads)(OrtSessionOptions*, int threads);
  OrtStatus* (*AddSessionConfigEntry)(OrtSessionOptions*, const char* key, const char* value);
  // Inputs, then outputs: the same function for both.
  OrtStatus* (*SessionGetCount[2])(const OrtSession*, size_t*);
  OrtStatus* (*SessionGetTypeInfo[2])(const OrtSession*, size_t index, OrtTypeInfo**);
  OrtStatus* (*SessionGetName[2])(const OrtSession*, size_t index, OrtAllocator*, char**);
  OrtStatus* (*CreateTensorAsOrtValue)(OrtAllocator*, const int64_t* shape, size_t rank, int type, OrtValue**);
  OrtStatus* (*CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo*, void* data, size_t bytes, const int64_t* shape,
                                               size_t rank, int type, OrtValue**);
  OrtStatus* (*IsTensor)(const OrtValue*, int*);
  OrtStatus* (*GetTensorMutableData)(OrtValue*, void**);
  OrtStatus* (*GetStringTensorDataLength)(const OrtValue*, size_t*);
  OrtStatus* (*GetStringTensorContent)(const OrtValue*, void* bytes, size_t size, size_t* offsets, size_t count);
  OrtStatus* (*GetResizedStringTensorElementBuffer)(OrtValue*, size_t index, size_t bytes, char** buffer);
  OrtStatus* (*CastTypeInfoToTensorInfo)(const OrtTypeInfo*, const OrtTensorTypeAndShapeInfo**);
  OrtStatus* (*GetOnnxTypeFromTypeInfo)(const OrtTypeInfo*, int*);
  OrtStatus* (*GetTensorElementType)(const OrtTensorTypeAndShapeInfo*, int*);
  OrtStatus* (*GetDimensionsCount)(const OrtTensorTypeAndShapeInfo*, size_t*);
  OrtStatus* (*GetDimensions)(const OrtTensorTypeAndShapeInfo*, int64_t*, size_t);
  OrtStatus* (*GetTensorTypeAndShape)(const OrtValue*, OrtTensorTypeAndShapeInfo**);
  OrtStatus* (*CreateCpuMemoryInfo)(int allocator, int memory, OrtMemoryInfo**);
  OrtStatus* (*AllocatorFree)(OrtAllocator*, void*);
  OrtStatus* (*GetAllocatorWithDefaultOptions)(OrtAllocator**);
  void (*ReleaseStatus)(OrtStatus*);
  void (*ReleaseSession)(OrtSession*);
  void (*ReleaseValue)(OrtValue*);
  void (*ReleaseTypeInfo)(OrtTypeInfo*);
  void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorTypeAndShapeInfo*);
  void (*ReleaseSessionOptions)(OrtSessionOptions*);
};

// The library is absent or too old; the text says what to do.
class Unavailable : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// What ONNX Runtime answered.
class Error : public std::runtime_error {
 public:
  Error(tandem_code code, const std::string& text) : std::runtime_error(text), code_(code) {}
  tandem_code code() const { return code_; }

 private:
  tandem_code code_;
};

// One for the process, never destroyed. Thread-safe.
class Runtime {
 public:
  // Throws Unavailable, at every call while the library cannot be opened.
  static const Runtime& Get();

  const Functions& functions() const { return functions_; }
  const std::string& version() const { return version_; }
  const OrtEnv* env() const { return env_; }
  OrtAllocator* allocator() const { return allocator_; }
  const OrtMemoryInfo* memory() const { return memory_; }
  // Throws Error if the status is one.
  void Check(OrtStatus* status) const;

 private:
  Runtime(const void* const* table, std::string version);

  Functions functions_;
  std::string version_;
  OrtEnv* env_ = nullptr;
  OrtAllocator* allocator_ = nullptr;
  OrtMemoryInfo* memory_ = nullptr;
};

// An object of ONNX Runtime that is released with its owner.
template <auto Release>
struct Releaser {
  template <typename T>
  void operator()(T* object) const {
    (Runtime::Get().functions().*Release)(object);
  }
};
using Session = std::unique_ptr<OrtSession, Releaser<&Functions::ReleaseSession>>;
using SessionOptions = std::unique_ptr<OrtSessionOptions, Releaser<&Functions::ReleaseSessionOptions>>;
using Value = std::unique_ptr<OrtValue, Releaser<&Functions::ReleaseValue>>;
using TypeInfo = std::unique_ptr<OrtTypeInfo, Releaser<&Functions::ReleaseTypeInfo>>;
using ShapeInfo = std::unique_ptr<OrtTensorTypeAndShapeInfo, Releaser<&Functions::ReleaseTensorTypeAndShapeInfo>>;

}  // namespace tandem_onnxruntime
