#include "serving/sequences.h"

#include <algorithm>
#include <cstring>

#include "base/status.h"
#include "base/text.h"

namespace tandem::serving {
namespace {

using Source = SequenceLayout::Source;

struct KindRow {
  const char* name;
  Source source;
};
std::string KeyOf(const Request::Sequence& asked) {
  return asked.text_id.empty() ? StrCat("n", asked.id) : StrCat("t", asked.text_id);
}

constexpr KindRow kKinds[] = {
    {"start", Source::kStart}, {"end", Source::kEnd}, {"ready", Source::kReady}, {"id", Source::kId}};

int IndexOf(const std::vector<TensorSignature>& tensors, std::string_view name) {
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].name == name) return static_cast<int>(i);
  }
  return -1;
}

absl::Status NoSuchTensor(std::string_view what, std::string_view side, std::string_view name,
                          const std::vector<TensorSignature>& tensors) {
  std::vector<std::string> names;
  for (const TensorSignature& tensor : tensors) names.push_back(tensor.name);
  return InvalidArgument(what, ": sequence: there is no ", side, " '", name, "'", DidYouMean(name, names));
}

Shape OfOneRequest(const TensorSignature& signature) {
  Shape shape = signature.shape;
  std::replace(shape.begin(), shape.end(), int64_t{-1}, int64_t{1});
  return shape;
}

absl::Status CheckControl(std::string_view what, const TensorSignature& input, Source source) {
  absl::StatusOr<int64_t> elements = ElementCount(OfOneRequest(input));
  if (!elements.ok() || *elements != 1) {
    return InvalidArgument(what, ": sequence: control input '", input.name, "' has shape ", ToString(input.shape),
                           ", must hold one value a request");
  }
  using enum DType;
  const DType t = input.dtype;
  if (source == Source::kId) {
    if (t == kUint64 || t == kInt64 || t == kUint32 || t == kInt32 || t == kString) return absl::OkStatus();
    return InvalidArgument(what, ": sequence: input '", input.name, "' of kind id is ", ProtocolName(t),
                           ", must be UINT64, INT64, UINT32, INT32 or BYTES");
  }
  if (t == kBool || t == kInt32 || t == kFloat32) return absl::OkStatus();
  return InvalidArgument(what, ": sequence: control input '", input.name, "' is ", ProtocolName(t),
                         ", must be BOOL, INT32 or FP32");
}

absl::Status AddControl(std::string_view what, const spec::SequenceConfig::Control& control,
                        const std::vector<TensorSignature>& inputs, SequenceLayout* layout) {
  int at = IndexOf(inputs, control.input);
  if (at < 0) return NoSuchTensor(what, "input", control.input, inputs);
  auto kind = std::find_if(std::begin(kKinds), std::end(kKinds), [&](auto& row) { return control.kind == row.name; });
  if (kind == std::end(kKinds)) {
    return InvalidArgument(what, ": sequence: kind '", control.kind, "' is not one of start, end, ready, id");
  }
  TANDEM_RETURN_IF_ERROR(CheckControl(what, inputs[at], kind->source));
  layout->inputs[at] = {kind->source, 0, OfOneRequest(inputs[at])};
  if (kind->source == Source::kId) {
    (inputs[at].dtype == DType::kString ? layout->id_is_text : layout->id_is_number) = true;
  }
  return absl::OkStatus();
}

absl::Status AddState(std::string_view what, const spec::SequenceConfig::State& state,
                      const std::vector<TensorSignature>& inputs, const std::vector<TensorSignature>& outputs,
                      SequenceLayout* layout) {
  int from = IndexOf(outputs, state.output), to = IndexOf(inputs, state.input);
  if (to < 0) return NoSuchTensor(what, "input", state.input, inputs);
  if (from < 0) return NoSuchTensor(what, "output", state.output, outputs);
  const TensorSignature& input = inputs[to];
  if (input.dtype != outputs[from].dtype || input.dtype == DType::kString) {
    return InvalidArgument(what, ": sequence: state input '", input.name, "' is ", ProtocolName(input.dtype),
                           " and its output '", state.output, "' is ", ProtocolName(outputs[from].dtype),
                           "; both must be of one numeric type");
  }
  const int index = static_cast<int>(layout->states.size());
  layout->inputs[to] = {Source::kState, index, OfOneRequest(input)};
  layout->state_of[from] = index;
  layout->states.push_back(input);
  return absl::OkStatus();
}

template <typename T>
std::string Bytes(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}

std::string Number(DType dtype, uint64_t value) {
  switch (dtype) {
    case DType::kBool:
      return Bytes(static_cast<uint8_t>(value));
    case DType::kFloat32:
      return Bytes(static_cast<float>(value));
    case DType::kInt32:
    case DType::kUint32:
      return Bytes(static_cast<uint32_t>(value));
    default:
      return Bytes(value);
  }
}

}  // namespace

absl::StatusOr<SequenceLayout> SequenceLayout::Create(std::string_view what, const spec::ModelConfig& config,
                                                      const std::vector<TensorSignature>& inputs,
                                                      const std::vector<TensorSignature>& outputs) {
  SequenceLayout layout;
  layout.inputs.resize(inputs.size());
  layout.state_of.assign(outputs.size(), -1);
  for (const auto& control : config.sequence.controls) {
    TANDEM_RETURN_IF_ERROR(AddControl(what, control, inputs, &layout));
  }
  for (const auto& state : config.sequence.states) {
    TANDEM_RETURN_IF_ERROR(AddState(what, state, inputs, outputs, &layout));
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (layout.inputs[i].source != Source::kClient) continue;
    layout.inputs[i].index = static_cast<int>(layout.client_inputs.size());
    layout.client_inputs.push_back(inputs[i]);
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (layout.state_of[i] < 0) layout.client_outputs.push_back(outputs[i]);
  }
  layout.merges = config.max_batch_size > 0 && config.sequence.strategy == "oldest";
  for (const TensorSignature& state : layout.states) {
    // States of unknown size may differ from sequence to sequence.
    auto rest = state.shape.begin() + (state.shape.empty() ? 0 : 1);
    if (std::find(rest, state.shape.end(), -1) != state.shape.end()) layout.merges = false;
  }
  return layout;
}

std::string ControlValue(SequenceLayout::Source source, DType dtype, const Request& request) {
  switch (source) {
    case Source::kStart:
      return Number(dtype, request.sequence.start);
    case Source::kEnd:
      return Number(dtype, request.sequence.end);
    case Source::kReady:
      return Number(dtype, 1);
    case Source::kId:
      break;
    default:
      return "";
  }
  if (dtype != DType::kString) return Number(dtype, request.sequence.id);
  std::string text =
      request.sequence.text_id.empty() ? StrCat(request.sequence.id) : std::string(request.sequence.text_id);
  return Bytes(static_cast<uint32_t>(text.size())) + text;
}

void ClearStates(const SequenceLayout& layout, OpenSequence* sequence) {
  sequence->states.resize(layout.states.size());
  for (const SequenceLayout::Input& input : layout.inputs) {
    if (input.source != Source::kState) continue;
    Tensor& state = sequence->states[input.index];
    state.dtype = layout.states[input.index].dtype;
    state.shape = input.shape;
    size_t bytes = ByteSize(state.dtype);
    for (int64_t dim : input.shape) bytes *= static_cast<size_t>(dim);
    state.buffer.Resize(bytes);
    std::memset(state.buffer.data(), 0, bytes);
  }
}

bool Sequences::Has(const Request::Sequence& asked, int64_t now) const {
  auto found = open_.find(KeyOf(asked));
  return found != open_.end() && !found->second->broken && !IsIdle(*found->second, now);
}

bool Sequences::AnyOpen(int64_t now) {
  std::erase_if(open_, [&](const auto& entry) { return IsIdle(*entry.second, now); });
  return !open_.empty();
}

absl::StatusOr<OpenSequence*> Sequences::Find(const Request& request, int64_t now) {
  const Request::Sequence& asked = request.sequence;
  if (asked.id == 0 && asked.text_id.empty()) {
    return InvalidArgument(what_,
                           " serves sequences; give the parameter sequence_id, and sequence_start with the first");
  }
  std::string key = KeyOf(asked);
  auto found = open_.find(key);
  if (found != open_.end() && IsIdle(*found->second, now)) {
    open_.erase(found);
    found = open_.end();
  }
  if (found != open_.end() && (asked.start || !found->second->broken)) {
    found->second->used_ns = now;
    return found->second.get();
  }
  if (!asked.start) {
    return InvalidArgument(what_, ": sequence '", std::string_view(key).substr(1),
                           "' did not start, or ended; give sequence_start with its first request");
  }
  if (size() >= most_) AnyOpen(now);
  if (size() >= most_) {
    return WithRetryAfter(
        Unavailable(what_, ": ", size(), " sequences are open, no more are taken (sequence: max_candidates)"), 1);
  }
  auto made = std::make_unique<OpenSequence>();
  made->key = key;
  made->number = ++last_number_;
  made->used_ns = now;
  return open_.emplace(std::move(key), std::move(made)).first->second.get();
}

}  // namespace tandem::serving
