#include "model.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/InferenceMode.h>

#include <cstring>
#include <exception>
#include <string>
#include <utility>

#include "base/files.h"
#include "base/status.h"
#include "common/edge.h"
#include "graph/graph.h"
#include "interpreter/values.h"

namespace fs = std::filesystem;
using tandem::interpreter::Program;

namespace tandem_torch {
namespace {

constexpr const char* kModel = "model.onnx";

// "CPU", "CUDA", "CUDA:1", "AUTO" (CUDA where there is one).
absl::StatusOr<c10::Device> ChooseDevice(const tandem_option* options) {
  const std::string name = tandem_plugin::Option(options, "device", "CPU");
  const c10::DeviceIndex count = at::hasCUDA() ? at::detail::getCUDAHooks().deviceCount() : c10::DeviceIndex{0};
  if (name == "CPU" || (name == "AUTO" && count == 0)) return c10::Device(c10::kCPU);
  if (name == "AUTO" || (name == "CUDA" && count > 0)) return c10::Device(c10::kCUDA, 0);
  for (c10::DeviceIndex i = 0; i < count; ++i) {
    if (name == tandem::StrCat("CUDA:", static_cast<int>(i))) return c10::Device(c10::kCUDA, i);
  }
  std::string there = "CPU";
  for (int i = 0; i < count; ++i) tandem::StrAppend(&there, ", CUDA:", i);
  return tandem::InvalidArgument("device '", name, "' is not there: LibTorch finds ", there,
                                 at::hasCUDA() ? "" : "; this LibTorch is the CPU build");
}

// A number of each thread's own, in LibTorch; without it a thread takes all processors.
void UseThreads(int threads) {
  if (at::get_num_threads() != threads) at::set_num_threads(threads);
}

absl::Status CheckPrecision(const tandem_option* options) {
  const std::string precision = tandem_plugin::Option(options, "precision", "f32");
  if (precision == "f32") return absl::OkStatus();
  return tandem::InvalidArgument("precision '", precision, "' is not offered by the torch engine; use f32");
}

}  // namespace

absl::Status Prepare(const fs::path& model_path, const fs::path& folder, const tandem_option* options) {
  TANDEM_RETURN_IF_ERROR(CheckPrecision(options));
  TANDEM_RETURN_IF_ERROR(ChooseDevice(options).status());
  UseThreads(1);
  TANDEM_ASSIGN_OR_RETURN(const tandem::graph::Graph graph, tandem::graph::Graph::Load(model_path));
  TANDEM_RETURN_IF_ERROR(Program::Create(graph).status());
  return tandem::WriteFileAtomically(folder / kModel, graph.bytes());
}

absl::StatusOr<uint64_t> EstimateBytes(const fs::path& folder) {
  std::error_code error;
  const uint64_t size = fs::file_size(folder / kModel, error);
  if (error) return tandem::ErrnoStatus(error.value(), tandem::StrCat("'", (folder / kModel).string(), "'"));
  // Measured: the file and the weights while it is read, and what LibTorch takes in its process.
  constexpr uint64_t kLibTorch = 150 << 20;
  return 2 * size + kLibTorch;
}

}  // namespace tandem_torch

absl::StatusOr<std::unique_ptr<tandem_model>> tandem_model::Load(const fs::path& folder, const tandem_option* options) {
  TANDEM_RETURN_IF_ERROR(tandem_torch::CheckPrecision(options));
  TANDEM_ASSIGN_OR_RETURN(const c10::Device device, tandem_torch::ChooseDevice(options));
  const int threads = tandem_plugin::Threads(options);
  tandem_torch::UseThreads(threads);
  TANDEM_ASSIGN_OR_RETURN(const tandem::graph::Graph graph, tandem::graph::Graph::Load(folder / tandem_torch::kModel));
  TANDEM_ASSIGN_OR_RETURN(Program program, Program::Create(graph));
  std::unique_ptr<tandem_model> model(new tandem_model(std::move(program), device, threads));
  model->inputs_ = graph.inputs();
  model->outputs_ = graph.outputs();
  return model;
}

tandem_model::tandem_model(Program program, c10::Device device, int threads)
    : program_(std::move(program)), device_(device), threads_(threads) {
  if (device_.is_cpu()) return;
  weights_ = program_.InitialWeights();
  for (auto& [name, weight] : weights_) weight = weight.to(device_);
}

at::Tensor tandem_model::ToTorch(const tandem_input& input) const {
  const auto type = tandem::interpreter::ToScalarType(static_cast<tandem::DType>(input.dtype));
  // The interpreter only reads its inputs. The graph has no inputs of other types: Program::Create refuses them.
  at::Tensor view = at::from_blob(const_cast<void*>(input.data), at::IntArrayRef(input.shape, input.rank),
                                  at::TensorOptions(type.value()));
  return view.to(device_);
}

absl::Status tandem_model::Run(tandem_request* request) const {
  tandem_torch::UseThreads(threads_);
  const c10::InferenceMode inference;
  std::vector<at::Tensor> inputs;
  inputs.reserve(static_cast<size_t>(request->input_count));
  for (int32_t i = 0; i < request->input_count; ++i) inputs.push_back(ToTorch(request->inputs[i]));
  TANDEM_ASSIGN_OR_RETURN(const std::vector<at::Tensor> outputs, program_.Run(inputs, weights_, {}));
  for (size_t i = 0; i < outputs.size(); ++i) {
    const tandem::TensorSignature& signature = outputs_[i];
    const at::Tensor tensor = outputs[i].cpu().contiguous();
    if (tensor.scalar_type() != tandem::interpreter::ToScalarType(signature.dtype)) {
      return tandem::Internal("output '", signature.name, "' is ", c10::toString(tensor.scalar_type()),
                              ", the file says ", tandem::ProtocolName(signature.dtype));
    }
    void* out = request->output.allocate(request->output.context, static_cast<int32_t>(i),
                                         static_cast<tandem_dtype>(signature.dtype), static_cast<int32_t>(tensor.dim()),
                                         tensor.sizes().data(), tensor.nbytes());
    if (out == nullptr) return tandem::ResourceExhausted("the host has no memory for the output");
    if (tensor.nbytes() > 0) std::memcpy(out, tensor.const_data_ptr(), tensor.nbytes());
  }
  return absl::OkStatus();
}
