#include "training/reference.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/files.h"
#include "base/status.h"
#include "base/text.h"
#include "data/dataset.h"
#include "graph/rewrite.h"
#include "interpreter/interpreter.h"

namespace tandem::training {
namespace fs = std::filesystem;
namespace {

constexpr std::pair<DType, at::ScalarType> kTypes[] = {
    {DType::kFloat32, at::kFloat},    {DType::kFloat64, at::kDouble}, {DType::kFloat16, at::kHalf},
    {DType::kInt64, at::kLong},       {DType::kInt32, at::kInt},      {DType::kInt16, at::kShort},
    {DType::kInt8, at::kChar},        {DType::kUint8, at::kByte},     {DType::kBool, at::kBool},
    {DType::kBFloat16, at::kBFloat16}};

absl::StatusOr<at::Tensor> ToTorch(const Tensor& tensor) {
  for (auto [dtype, scalar] : kTypes) {
    if (dtype != tensor.dtype) continue;
    at::Tensor result = at::empty(tensor.shape, scalar);
    if (result.nbytes() > 0) std::memcpy(result.mutable_data_ptr(), tensor.buffer.data(), result.nbytes());
    return result;
  }
  return Unimplemented("input '", tensor.name, "' has type ", ProtocolName(tensor.dtype),
                       ", which the reference engine does not take");
}

absl::StatusOr<Tensor> FromTorch(const at::Tensor& tensor, const std::string& name) {
  at::Tensor dense = tensor.contiguous();
  for (auto [dtype, scalar] : kTypes) {
    if (scalar != dense.scalar_type()) continue;
    Tensor result{.name = name, .dtype = dtype, .shape = dense.sizes().vec(), .buffer = AlignedBuffer(dense.nbytes())};
    if (dense.nbytes() > 0) std::memcpy(result.buffer.data(), dense.const_data_ptr(), dense.nbytes());
    return result;
  }
  return Unimplemented("output '", name, "' has a type that cannot be written");
}

absl::StatusOr<std::vector<Tensor>> ReadFolder(const fs::path& folder, const graph::Graph& graph) {
  std::vector<Tensor> tensors;
  for (size_t i = 0; i < graph.inputs().size(); ++i) {
    fs::path file = folder / StrCat("input_", i, ".pb");
    TANDEM_ASSIGN_OR_RETURN(std::string bytes, ReadFile(file));
    auto tensor = graph::ReadTensorProto(bytes);
    if (!tensor.ok()) return Annotate(tensor.status(), StrCat("'", file.string(), "'"));
    tensors.push_back(*std::move(tensor));
  }
  return tensors;
}

// The arrays of the file in the order of the model's inputs. A single array fits a single input whatever its name.
absl::StatusOr<std::vector<Tensor>> ReadNamed(const fs::path& file, const graph::Graph& graph) {
  TANDEM_ASSIGN_OR_RETURN(std::string bytes, ReadFile(file));
  auto arrays = data::ReadNpz(bytes);
  if (!arrays.ok()) return Annotate(arrays.status(), StrCat("'", file.string(), "'"));
  if (arrays->size() == 1 && graph.inputs().size() == 1) return arrays;
  std::vector<Tensor> tensors;
  std::vector<std::string> names;
  for (const Tensor& array : *arrays) names.push_back(array.name);
  for (const TensorSignature& input : graph.inputs()) {
    auto found = std::find_if(arrays->begin(), arrays->end(), [&](const Tensor& t) { return t.name == input.name; });
    if (found == arrays->end()) {
      return InvalidArgument("'", file.string(), "' has no array '", input.name, "' for the model's input of that name",
                             DidYouMean(input.name, names));
    }
    tensors.push_back(std::move(*found));
    found->name.clear();
  }
  return tensors;
}

}  // namespace

absl::Status RunReference(const ReferenceRun& run) {
  at::set_num_threads(1);
  TANDEM_ASSIGN_OR_RETURN(graph::Graph file, graph::Graph::Load(run.model));
  TANDEM_ASSIGN_OR_RETURN(graph::Graph graph, graph::WithFreeBatch(file));
  interpreter::Program::Options options;
  options.skip_final_softmax = run.logits;
  TANDEM_ASSIGN_OR_RETURN(interpreter::Program program, interpreter::Program::Create(graph, options));
  TANDEM_ASSIGN_OR_RETURN(std::vector<Tensor> tensors,
                          fs::is_directory(run.inputs) ? ReadFolder(run.inputs, graph) : ReadNamed(run.inputs, graph));
  std::vector<at::Tensor> inputs;
  for (const Tensor& tensor : tensors) {
    TANDEM_ASSIGN_OR_RETURN(inputs.emplace_back(), ToTorch(tensor));
  }
  at::NoGradGuard no_grad;
  TANDEM_ASSIGN_OR_RETURN(std::vector<at::Tensor> outputs, program.Run(inputs, {}, {}));
  std::vector<Tensor> arrays;
  for (size_t i = 0; i < outputs.size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(arrays.emplace_back(), FromTorch(outputs[i], graph.outputs()[i].name));
  }
  return WriteFileAtomically(run.out, data::WriteNpz(arrays));
}

}  // namespace tandem::training
