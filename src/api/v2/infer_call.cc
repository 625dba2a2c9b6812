#include "api/v2/infer_call.h"

#include <string.h>

#include <algorithm>
#include <string>

#include "api/v2/classification.h"
#include "base/status.h"
#include "base/text.h"

namespace tandem::api::v2 {
namespace {

// The place of an output in the model's order.
absl::StatusOr<size_t> IndexOf(const InferSession& session, std::string_view name) {
  const std::vector<TensorSignature>& outputs = session.outputs();
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].name == name) return i;
  }
  std::vector<std::string> names;
  for (const TensorSignature& output : outputs) names.push_back(output.name);
  return InvalidArgument("model '", session.model(), "' has no output '", name, "'", DidYouMean(name, names));
}

Tensor* FindOutput(std::vector<Tensor>* outputs, std::string_view name) {
  for (Tensor& tensor : *outputs) {
    if (tensor.name == name) return &tensor;
  }
  return nullptr;
}

// The engine wrote into the region unless it needed more room than that, or the region was not aligned.
absl::Status MoveToRegion(const WantedOutput& wanted, const Tensor& tensor) {
  const size_t needed = tensor.buffer.size();
  if (needed > wanted.byte_size) {
    return InvalidArgument("output '", tensor.name, "' has ", needed, " bytes, but shared_memory_byte_size is ",
                           wanted.byte_size, " of region '", wanted.region, "'");
  }
  if (needed > 0 && tensor.buffer.data() != wanted.destination) {
    memcpy(wanted.destination, tensor.buffer.data(), needed);
  }
  return absl::OkStatus();
}

absl::Status FinishOutput(const InferSession& session, const WantedOutput& wanted, Tensor* tensor) {
  if (!wanted.region.empty()) return MoveToRegion(wanted, *tensor);
  if (wanted.classes > 0) return ReplaceByClasses(session.config(), wanted.classes, tensor);
  return absl::OkStatus();
}

}  // namespace

void InferCall::Clear() {
  request.inputs.clear();
  request.id = request.route_key = {};
  request.deadline_ns = 0;
  request.priority = 0;
  request.in_shared_memory = false;
  request.sequence = {};
  request.cancelled.store(false, std::memory_order_relaxed);
  request.status = absl::OkStatus();
  request.timing = {};
  timeout_us = 0;
  binary_output = false;
  wanted.clear();
  buffers.Clear();
  answers.clear();
  // Outputs may still borrow a region, where the next request must not write.
  const auto is_large = [](const Tensor& output) { return output.buffer.size() > kKeptBytes; };
  if (!leases.empty() || std::ranges::any_of(request.outputs, is_large)) request.outputs.clear();
  leases.clear();
}

absl::Status AddWanted(const InferSession& session, const WantedOutput& output, InferCall* call) {
  if (output.name.empty()) return InvalidArgument("an entry of 'outputs' has no name");
  for (const WantedOutput& other : call->wanted) {
    if (other.name == output.name) return InvalidArgument("output '", output.name, "' is listed twice");
  }
  // Then one of them is unknown. Said here, so that a list of many costs no time.
  if (call->wanted.size() >= session.outputs().size()) TANDEM_RETURN_IF_ERROR(IndexOf(session, output.name).status());
  call->wanted.push_back(output);
  return absl::OkStatus();
}

absl::StatusOr<InputTensor*> AddInput(const InferSession& session, std::string_view name, DType dtype,
                                      InferCall* call) {
  std::vector<InputTensor>& inputs = call->request.inputs;
  if (name.empty()) return InvalidArgument("input ", inputs.size(), " has no 'name'");
  for (const InputTensor& other : inputs) {
    if (other.name == name) return InvalidArgument("input '", name, "' is given twice");
  }
  if (inputs.size() >= session.inputs().size()) {
    return InvalidArgument("input '", name, "': model '", session.model(), "' has ", session.inputs().size(),
                           " inputs, and as many others stand before it");
  }
  InputTensor& tensor = inputs.emplace_back();
  tensor.name = name;
  tensor.dtype = dtype;
  return &tensor;
}

absl::Status PrepareOutputs(const InferSession& session, const SharedMemory& regions, InferCall* call) {
  for (WantedOutput& wanted : call->wanted) {
    TANDEM_ASSIGN_OR_RETURN(size_t index, IndexOf(session, wanted.name));
    if (wanted.region.empty()) continue;
    absl::StatusOr<SharedMemory::Lease> lease = regions.Find(wanted.region, wanted.offset, wanted.byte_size);
    if (!lease.ok()) return Annotate(lease.status(), StrCat("output '", wanted.name, "'"));
    wanted.destination = lease->data;
    call->leases.push_back(*std::move(lease));
    std::vector<Tensor>& outputs = call->request.outputs;
    if (outputs.size() < session.outputs().size()) outputs.resize(session.outputs().size());
    // Engines count on aligned memory; elsewhere FinishOutputs copies.
    if (reinterpret_cast<uintptr_t>(wanted.destination) % 64 == 0 && wanted.byte_size > 0) {
      outputs[index].buffer = AlignedBuffer::Borrow(wanted.destination, wanted.byte_size);
    }
  }
  call->request.in_shared_memory = !call->leases.empty();
  return absl::OkStatus();
}

absl::Status FinishOutputs(const InferSession& session, InferCall* call) {
  std::vector<Tensor>& outputs = call->request.outputs;
  call->answers.clear();
  for (const WantedOutput& wanted : call->wanted) {
    Tensor* tensor = FindOutput(&outputs, wanted.name);
    if (tensor == nullptr) return Internal("the engine gave no output '", wanted.name, "'");
    TANDEM_RETURN_IF_ERROR(FinishOutput(session, wanted, tensor));
    call->answers.push_back(tensor);
  }
  if (call->wanted.empty()) {
    for (const Tensor& tensor : outputs) call->answers.push_back(&tensor);
  }
  if (std::any_of(call->leases.begin(), call->leases.end(), [](const auto& lease) { return lease.lost(); })) {
    return InvalidArgument("shared memory of this request was made shorter while it was used; register it anew");
  }
  return absl::OkStatus();
}

void Describe(const InferSession* session, const InferRequest& request, const InferTiming& timing, int64_t started_ns,
              RequestTrace* trace) {
  trace->request_id.Set(request.id);
  if (session == nullptr) return;
  trace->model.Set(session->model());
  trace->version.Set(session->version());
  trace->cached = timing.cached;
  trace->queued_ns = started_ns;
  trace->queue_ns = timing.queue_ns;
  trace->infer_ns = timing.infer_ns;
}

}  // namespace tandem::api::v2
