#include "api/http/infer_decoder.h"

#include <string.h>

#include <string>

#include "api/http/json_parameters.h"
#include "api/http/json_tensor.h"
#include "api/v2/parameters.h"
#include "base/status.h"

namespace tandem::api::http {
namespace {

namespace dom = simdjson::dom;

constexpr size_t kMostDimensions = 16;

absl::Status ReadShape(dom::element value, Shape* shape) {
  dom::array dims;
  TANDEM_RETURN_IF_ERROR(Get(value, "'shape'", "an array of whole numbers", &dims));
  shape->clear();
  for (dom::element dim : dims) {
    int64_t size = 0;
    TANDEM_RETURN_IF_ERROR(Get(dim, "a dimension of 'shape'", "a whole number", &size));
    if (size < 0) return InvalidArgument("'shape' has the negative dimension ", size);
    if (shape->size() == kMostDimensions)
      return InvalidArgument("'shape' has more than ", kMostDimensions, " dimensions");
    shape->push_back(size);
  }
  return absl::OkStatus();
}

// The object under the key 'parameters'.
template <typename Set>
absl::Status ReadParameters(dom::element value, const Set& set) {
  dom::object parameters;
  TANDEM_RETURN_IF_ERROR(Get(value, "'parameters'", "an object", &parameters));
  return ForEachParameter(parameters, set);
}

absl::Status ReadOutput(dom::element value, bool binary_default, v2::WantedOutput* output) {
  dom::object object;
  TANDEM_RETURN_IF_ERROR(Get(value, "an entry of 'outputs'", "an object", &object));
  v2::OutputParameters parameters;
  absl::Status status;
  for (auto [key, field] : object) {
    if (key == "name") {
      TANDEM_RETURN_IF_ERROR(Get(field, "'name' of an output", "a text", &output->name));
    } else if (key == "parameters" && status.ok()) {
      status = ReadParameters(field, [&](auto name, const auto& given) { return parameters.Set(name, given); });
    }
  }
  if (status.ok()) status = parameters.ApplyTo(binary_default, output);
  return Annotate(status, StrCat("output '", output->name, "'"));
}

absl::Status ReadOutputs(dom::element value, const InferSession& session, v2::InferCall* call) {
  dom::array outputs;
  TANDEM_RETURN_IF_ERROR(Get(value, "'outputs'", "an array", &outputs));
  for (dom::element entry : outputs) {
    v2::WantedOutput output;
    TANDEM_RETURN_IF_ERROR(ReadOutput(entry, call->binary_output, &output));
    TANDEM_RETURN_IF_ERROR(v2::AddWanted(session, output, call));
  }
  return absl::OkStatus();
}

// Numbers and texts that stand in the JSON itself.
absl::Status UseJson(dom::array data, size_t json_size, v2::InputBuffers* buffers, InputTensor* tensor) {
  TANDEM_ASSIGN_OR_RETURN(int64_t count, ElementCount(tensor->shape));
  // Each element takes a character at least, so memory is bounded by what was sent.
  if (count > static_cast<int64_t>(json_size)) {
    return InvalidArgument("shape ", ToString(tensor->shape), " has more elements than the request has bytes");
  }
  AlignedBuffer* buffer;
  if (tensor->dtype == DType::kString) {
    std::string texts;
    TANDEM_RETURN_IF_ERROR(ReadTexts(data, tensor->shape, count, &texts));
    buffer = buffers->Next(texts.size());
    memcpy(buffer->data(), texts.data(), texts.size());
  } else {
    buffer = buffers->Next(count * ByteSize(tensor->dtype));
    TANDEM_RETURN_IF_ERROR(ReadNumbers(data, tensor->dtype, tensor->shape, count, buffer->data()));
  }
  tensor->data = buffer->data();
  tensor->byte_size = buffer->size();
  return absl::OkStatus();
}

}  // namespace

struct InferDecoder::Context {
  const InferSession& session;
  size_t json_size = 0;
};

// What one entry of "inputs" holds.
struct InferDecoder::Input {
  std::string_view name, datatype;
  bool has_shape = false, has_data = false;
  Shape shape;
  dom::array data;
  v2::InputParameters parameters;

  absl::Status Read(dom::element value);
  absl::Status Check() const;
  absl::Status CheckSource() const;
};

absl::Status InferDecoder::Input::Read(dom::element value) {
  dom::object object;
  TANDEM_RETURN_IF_ERROR(Get(value, "the entry", "an object", &object));
  for (auto [key, field] : object) {
    if (key == "name") {
      TANDEM_RETURN_IF_ERROR(Get(field, "'name'", "a text", &name));
    } else if (key == "datatype") {
      TANDEM_RETURN_IF_ERROR(Get(field, "'datatype'", "a text", &datatype));
    } else if (key == "shape") {
      TANDEM_RETURN_IF_ERROR(ReadShape(field, &shape));
      has_shape = true;
    } else if (key == "data") {
      TANDEM_RETURN_IF_ERROR(Get(field, "'data'", "an array", &data));
      has_data = true;
    } else if (key == "parameters") {
      TANDEM_RETURN_IF_ERROR(
          ReadParameters(field, [&](auto name, const auto& given) { return parameters.Set(name, given); }));
    }
  }
  return Check();
}

absl::Status InferDecoder::Input::Check() const {
  if (name.empty()) return InvalidArgument("has no 'name'");
  if (datatype.empty()) return InvalidArgument("has no 'datatype'");
  if (DTypeFromProtocolName(datatype) == DType::kInvalid) {
    return InvalidArgument("datatype '", datatype, "' is unknown");
  }
  if (!has_shape) return InvalidArgument("has no 'shape'");
  return CheckSource();
}

// Exactly one of three may say where the data is.
absl::Status InferDecoder::Input::CheckSource() const {
  TANDEM_RETURN_IF_ERROR(parameters.shared.Check());
  const bool has_region = !parameters.shared.region.empty(), has_binary = parameters.binary_bytes.has_value();
  if (has_data && has_binary) return InvalidArgument("has both 'data' and parameter 'binary_data_size'; send one");
  if (has_region && (has_data || has_binary)) {
    return InvalidArgument("has both ", has_data ? "'data'" : "parameter 'binary_data_size'",
                           " and parameter 'shared_memory_region'; send one");
  }
  if (has_data || has_binary || has_region) return absl::OkStatus();
  return InvalidArgument("has neither 'data' nor parameter 'binary_data_size' or 'shared_memory_region'");
}

absl::Status InferDecoder::Decode(std::string_view body, std::optional<int64_t> json_bytes, const InferSession& session,
                                  v2::InferCall* call) {
  call->Clear();
  if (json_bytes == 0) {
    call->binary_output = true;
    return v2::UseRaw(body, session, &call->buffers, &call->request.inputs.emplace_back());
  }
  size_t json_size = json_bytes.has_value() ? static_cast<size_t>(*json_bytes) : body.size();
  if (json_size > body.size()) {
    return InvalidArgument("header Inference-Header-Content-Length is ", json_size, ", but the body has ", body.size(),
                           " bytes");
  }
  return DecodeJson(body.substr(0, json_size), body.substr(json_size), session, call);
}

absl::Status InferDecoder::DecodeJson(std::string_view json, std::string_view binary, const InferSession& session,
                                      v2::InferCall* call) {
  dom::object request;
  TANDEM_RETURN_IF_ERROR(document_.Parse(json, &request));
  dom::element inputs, outputs;
  bool has_inputs = false, has_outputs = false;
  for (auto [key, value] : request) {
    if (key == "id") {
      TANDEM_RETURN_IF_ERROR(Get(value, "'id'", "a text", &call->request.id));
    } else if (key == "parameters") {
      TANDEM_RETURN_IF_ERROR(ReadParameters(
          value, [&](auto name, const auto& given) { return v2::SetRequestParameter(name, given, call); }));
    } else if (key == "inputs") {
      inputs = value;
      has_inputs = true;
    } else if (key == "outputs") {
      outputs = value;
      has_outputs = true;
    }
  }
  if (!has_inputs) return InvalidArgument("the request has no 'inputs'");
  if (has_outputs) TANDEM_RETURN_IF_ERROR(ReadOutputs(outputs, session, call));
  TANDEM_RETURN_IF_ERROR(ReadInputs(inputs, {session, json.size()}, &binary, call));
  if (!binary.empty()) return InvalidArgument(binary.size(), " bytes are left over behind the last binary input");
  return absl::OkStatus();
}

absl::Status InferDecoder::ReadInputs(dom::element value, const Context& context, std::string_view* binary,
                                      v2::InferCall* call) {
  dom::array entries;
  TANDEM_RETURN_IF_ERROR(Get(value, "'inputs'", "an array", &entries));
  for (dom::element entry : entries) {
    Input input;
    absl::Status status = input.Read(entry);
    if (status.ok()) {
      TANDEM_ASSIGN_OR_RETURN(InputTensor * tensor,
                              v2::AddInput(context.session, input.name, DTypeFromProtocolName(input.datatype), call));
      tensor->shape = std::move(input.shape);
      status = UseData(input, context, binary, call, tensor);
    }
    if (!status.ok()) {
      return Annotate(status, input.name.empty() ? StrCat("input ", call->request.inputs.size())
                                                 : StrCat("input '", input.name, "'"));
    }
  }
  return absl::OkStatus();
}

absl::Status InferDecoder::UseData(const Input& input, const Context& context, std::string_view* binary,
                                   v2::InferCall* call, InputTensor* tensor) {
  if (input.has_data) return UseJson(input.data, context.json_size, &call->buffers, tensor);
  const v2::InputParameters& from = input.parameters;
  if (!from.binary_bytes.has_value()) {
    return v2::UseRegion(*regions_, from.shared.region, from.shared.offset, *from.shared.byte_size, &call->buffers,
                         &call->leases, tensor);
  }
  const size_t size = *from.binary_bytes;
  if (size > binary->size()) {
    return InvalidArgument("has ", size, " bytes of binary data, but ", binary->size(),
                           " are left in the body: ", size - binary->size(), " missing");
  }
  TANDEM_RETURN_IF_ERROR(v2::UseBytes(binary->substr(0, size), &call->buffers, tensor));
  binary->remove_prefix(size);
  return absl::OkStatus();
}

}  // namespace tandem::api::http
