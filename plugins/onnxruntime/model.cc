#include "model.h"

#include <stdexcept>
#include <string_view>

#include "common/edge.h"
#include "tensors.h"

namespace tandem_onnxruntime {
namespace {

constexpr const char* kModel = "model.onnx";
constexpr const char* kWeights = "model.data";

// f32 on the CPU is what the library of scripts/setup does.
void CheckOptions(const tandem_option* options) {
  const std::string precision = tandem_plugin::Option(options, "precision", "f32");
  if (precision != "f32") {
    throw std::invalid_argument("precision '" + precision +
                                "' is not offered by ONNX Runtime; use f32, or another engine");
  }
  const std::string device = tandem_plugin::Option(options, "device", "CPU");
  if (device != "CPU" && device != "AUTO") {
    throw std::invalid_argument("device '" + device + "' is not there: ONNX Runtime is built for CPU here");
  }
}

SessionOptions MakeOptions(const tandem_option* options, int optimisation) {
  CheckOptions(options);
  const Runtime& runtime = Runtime::Get();
  const Functions& ort = runtime.functions();
  OrtSessionOptions* raw = nullptr;
  runtime.Check(ort.CreateSessionOptions(&raw));
  SessionOptions made(raw);
  // With one thread there is no pool: a run is wholly on its caller. With more, they sleep between runs.
  runtime.Check(ort.SetIntraOpNumThreads(raw, tandem_plugin::Threads(options)));
  runtime.Check(ort.SetInterOpNumThreads(raw, 1));
  runtime.Check(ort.SetSessionExecutionMode(raw, kSequential));
  runtime.Check(ort.AddSessionConfigEntry(raw, "session.intra_op.allow_spinning", "0"));
  // Memory of a run goes back at its end: an arena, and a plan for each shape that came by, only grow. Measured: the
  // same speed.
  runtime.Check(ort.DisableCpuMemArena(raw));
  runtime.Check(ort.DisableMemPattern(raw));
  runtime.Check(ort.SetSessionGraphOptimizationLevel(raw, optimisation));
  return made;
}

Session MakeSession(const std::filesystem::path& file, const SessionOptions& options) {
  const Runtime& runtime = Runtime::Get();
  OrtSession* session = nullptr;
  runtime.Check(runtime.functions().CreateSession(runtime.env(), file.c_str(), options.get(), &session));
  return Session(session);
}

std::string NameOf(const OrtSession* session, bool is_output, size_t index) {
  const Runtime& runtime = Runtime::Get();
  char* text = nullptr;
  runtime.Check(runtime.functions().SessionGetName[is_output](session, index, runtime.allocator(), &text));
  std::string name = text;
  runtime.Check(runtime.functions().AllocatorFree(runtime.allocator(), text));
  return name;
}

[[noreturn]] void Refuse(bool is_output, const std::string& name, const std::string& why) {
  throw std::invalid_argument((is_output ? "output '" : "input '") + name + "' " + why);
}

// Without the name.
tandem_signature SignatureOf(const OrtSession* session, bool is_output, size_t index, const std::string& name) {
  const Runtime& runtime = Runtime::Get();
  const Functions& ort = runtime.functions();
  OrtTypeInfo* raw = nullptr;
  runtime.Check(ort.SessionGetTypeInfo[is_output](session, index, &raw));
  const TypeInfo info(raw);
  int kind = 0;
  runtime.Check(ort.GetOnnxTypeFromTypeInfo(raw, &kind));
  if (is_output && (kind == kTypeSequence || kind == kTypeMap)) {
    Refuse(is_output, name,
           "is a sequence or a map, only tensors can be served; if skl2onnx made the file, export it again with "
           "options={'zipmap': False}");
  }
  if (kind != kTypeTensor) Refuse(is_output, name, "is no tensor, only tensors can be served");
  const OrtTensorTypeAndShapeInfo* tensor = nullptr;
  runtime.Check(ort.CastTypeInfoToTensorInfo(raw, &tensor));
  tandem_signature signature{};
  runtime.Check(ort.GetTensorElementType(tensor, &signature.dtype));
  if (ByteSize(signature.dtype) == 0 && signature.dtype != kStringType) {
    Refuse(is_output, name, "is of ONNX type number " + std::to_string(signature.dtype) + ", which is not supported");
  }
  size_t rank = 0;
  runtime.Check(ort.GetDimensionsCount(tensor, &rank));
  if (rank > TANDEM_ENGINE_MAX_RANK) Refuse(is_output, name, "has more than 8 dimensions");
  signature.rank = static_cast<int32_t>(rank);
  runtime.Check(ort.GetDimensions(tensor, signature.shape, rank));
  return signature;
}

// `names` keeps the texts that the signatures point to.
void Describe(const OrtSession* session, std::vector<tandem_signature>* inputs, std::vector<tandem_signature>* outputs,
              std::vector<std::string>* names) {
  const Runtime& runtime = Runtime::Get();
  for (const bool is_output : {false, true}) {
    size_t count = 0;
    runtime.Check(runtime.functions().SessionGetCount[is_output](session, &count));
    for (size_t i = 0; i < count; ++i) {
      names->push_back(NameOf(session, is_output, i));
      (is_output ? outputs : inputs)->push_back(SignatureOf(session, is_output, i, names->back()));
    }
  }
  size_t at = 0;
  for (auto* tensors : {inputs, outputs}) {
    for (tandem_signature& tensor : *tensors) tensor.name = (*names)[at++].c_str();
  }
}

}  // namespace

void Prepare(const std::filesystem::path& model_path, const std::filesystem::path& folder,
             const tandem_option* options) {
  // What depends on the processor is left to load, so that a data folder can move to another machine.
  const SessionOptions made = MakeOptions(options, kOptimiseExtended);
  const Runtime& runtime = Runtime::Get();
  const Functions& ort = runtime.functions();
  runtime.Check(ort.SetOptimizedModelFilePath(made.get(), (folder / kModel).c_str()));
  // Without it, weights that are in a file beside the model would stay there.
  runtime.Check(
      ort.AddSessionConfigEntry(made.get(), "session.optimized_model_external_initializers_file_name", kWeights));
  try {
    const Session session = MakeSession(model_path, made);
    std::vector<tandem_signature> inputs, outputs;
    std::vector<std::string> names;
    Describe(session.get(), &inputs, &outputs, &names);
  } catch (const Error& error) {  // whatever it calls the fault: here the file is what is wrong
    const tandem_code code = error.code() == TANDEM_INTERNAL ? TANDEM_INVALID_ARGUMENT : error.code();
    throw Error(code, error.what());
  }
}

uint64_t EstimateBytes(const std::filesystem::path& folder) {
  // Measured: the weights, a second time in the kernels' layout, and what a session takes besides.
  constexpr uint64_t kSession = 8 << 20;
  uint64_t size = std::filesystem::file_size(folder / kModel);
  if (std::filesystem::exists(folder / kWeights)) size += std::filesystem::file_size(folder / kWeights);
  return 2 * size + kSession;
}

}  // namespace tandem_onnxruntime

namespace ort = tandem_onnxruntime;

tandem_model::tandem_model(const std::filesystem::path& folder, const tandem_option* options)
    : session_(ort::MakeSession(folder / ort::kModel, ort::MakeOptions(options, ort::kOptimiseAll))) {
  ort::Describe(session_.get(), &inputs_, &outputs_, &names_);
}

tandem_instance::tandem_instance(tandem_model* model)
    : model_(*model), has_free_sizes_(tandem_plugin::HasFreeSizes(model->tensors(false))) {
  for (const tandem_signature& tensor : model_.tensors(false)) input_names_.push_back(tensor.name);
  for (const tandem_signature& tensor : model_.tensors(true)) output_names_.push_back(tensor.name);
}

void tandem_instance::Run(tandem_request* request) {
  const ort::Runtime& runtime = ort::Runtime::Get();
  std::vector<ort::Value> inputs;
  std::vector<const OrtValue*> raw_inputs;
  for (int32_t i = 0; i < request->input_count; ++i) {
    inputs.push_back(ort::ToValue(request->inputs[i], input_names_[i]));
    raw_inputs.push_back(inputs.back().get());
  }
  std::vector<OrtValue*> raw_outputs(output_names_.size());
  OrtStatus* status =
      runtime.functions().Run(model_.session(), nullptr, input_names_.data(), raw_inputs.data(), raw_inputs.size(),
                              output_names_.data(), output_names_.size(), raw_outputs.data());
  std::vector<ort::Value> outputs;
  outputs.reserve(raw_outputs.size());
  for (OrtValue* output : raw_outputs) outputs.emplace_back(output);
  runtime.Check(status);
  for (size_t i = 0; i < outputs.size(); ++i) {
    ort::Give(outputs[i].get(), static_cast<int32_t>(i), output_names_[i], request->output);
  }
}
