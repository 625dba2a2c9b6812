#include "api/http/infer_decoder.h"

#include <string.h>

#include <algorithm>

#include "api/http/json_tensor.h"
#include "base/status.h"

namespace tandem::api::http {
namespace {

namespace dom = simdjson::dom;

constexpr size_t kFirstCapacity = 16 << 10;
// What a decoder keeps between requests; more is given back.
constexpr size_t kKeptBytes = 1 << 20;
// The parser needs about 15 times the text. Bigger tensors belong into binary data.
constexpr size_t kMostJsonBytes = 64 << 20;
constexpr size_t kMostDimensions = 16;
constexpr int64_t kMostElements = int64_t{1} << 40;

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

bool IsUnset(dom::element value) {
  bool flag;
  int64_t number;
  std::string_view text;
  if (value.get(flag) == simdjson::SUCCESS) return !flag;
  if (value.get(number) == simdjson::SUCCESS) return number == 0;
  return value.get(text) == simdjson::SUCCESS && text.empty();
}

absl::Status CheckNotReserved(std::string_view key, dom::element value) {
  static constexpr std::string_view kReserved[] = {
      "sequence_id",          "sequence_start",          "sequence_end",  "shared_memory_region",
      "shared_memory_offset", "shared_memory_byte_size", "classification"};
  for (std::string_view reserved : kReserved) {
    if (key == reserved && !IsUnset(value)) return InvalidArgument("parameter '", key, "' is not supported");
  }
  return absl::OkStatus();
}

absl::Status ReadRequestParameters(dom::element value, InferCall* call) {
  dom::object parameters;
  TANDEM_RETURN_IF_ERROR(Get(value, "'parameters'", "an object", &parameters));
  for (auto [key, parameter] : parameters) {
    TANDEM_RETURN_IF_ERROR(CheckNotReserved(key, parameter));
    if (key == "binary_data_output") {
      TANDEM_RETURN_IF_ERROR(Get(parameter, "parameter 'binary_data_output'", "true or false", &call->binary_output));
    } else if (key == "timeout") {
      TANDEM_RETURN_IF_ERROR(
          Get(parameter, "parameter 'timeout'", "a whole number of microseconds", &call->timeout_us));
      if (call->timeout_us < 0)
        return InvalidArgument("parameter 'timeout' is ", call->timeout_us, ", must be 0 or more");
    }
  }
  return absl::OkStatus();
}

absl::Status ReadOutput(dom::element value, InferCall* call, WantedOutput* output) {
  dom::object object;
  TANDEM_RETURN_IF_ERROR(Get(value, "an entry of 'outputs'", "an object", &object));
  output->binary = call->binary_output;
  for (auto [key, field] : object) {
    if (key == "name") {
      TANDEM_RETURN_IF_ERROR(Get(field, "'name' of an output", "a text", &output->name));
    } else if (key == "parameters") {
      dom::object parameters;
      TANDEM_RETURN_IF_ERROR(Get(field, "'parameters' of an output", "an object", &parameters));
      for (auto [name, parameter] : parameters) {
        TANDEM_RETURN_IF_ERROR(CheckNotReserved(name, parameter));
        if (name != "binary_data") continue;
        TANDEM_RETURN_IF_ERROR(Get(parameter, "parameter 'binary_data'", "true or false", &output->binary));
      }
    }
  }
  if (output->name.empty()) return InvalidArgument("an entry of 'outputs' has no name");
  return absl::OkStatus();
}

absl::Status ReadOutputs(dom::element value, InferCall* call) {
  dom::array outputs;
  TANDEM_RETURN_IF_ERROR(Get(value, "'outputs'", "an array", &outputs));
  for (dom::element entry : outputs) {
    WantedOutput output;
    TANDEM_RETURN_IF_ERROR(ReadOutput(entry, call, &output));
    for (const WantedOutput& other : call->wanted) {
      if (other.name == output.name) return InvalidArgument("output '", output.name, "' is listed twice");
    }
    call->wanted.push_back(output);
  }
  return absl::OkStatus();
}

// BYTES on the wire: as many length-prefixed elements as the shape says, and nothing behind them.
absl::Status CheckTexts(std::string_view bytes, int64_t count) {
  int64_t found = 0;
  for (; !bytes.empty(); ++found) {
    uint32_t length;
    if (bytes.size() < sizeof length) return InvalidArgument("BYTES element ", found, " is cut off in its length");
    memcpy(&length, bytes.data(), sizeof length);
    bytes.remove_prefix(sizeof length);
    if (length > bytes.size()) {
      return InvalidArgument("BYTES element ", found, " says it has ", length, " bytes, but ", bytes.size(),
                             " are left");
    }
    bytes.remove_prefix(length);
  }
  if (found != count) return InvalidArgument("has ", found, " BYTES elements, but its shape says ", count);
  return absl::OkStatus();
}

// The single input of a raw request takes its unknown dimension from the number of bytes.
absl::Status ShapeFromBytes(size_t bytes, InputTensor* tensor) {
  size_t unknown = std::count_if(tensor->shape.begin(), tensor->shape.end(), [](int64_t dim) { return dim < 0; });
  if (tensor->dtype == DType::kString) {
    tensor->shape = {1};
    return absl::OkStatus();
  }
  // With more than one, the first is the batch, and a raw request is a batch of one.
  if (unknown > 1 && tensor->shape[0] < 0) {
    tensor->shape[0] = 1;
    --unknown;
  }
  if (unknown > 1) return InvalidArgument("has more than one unknown dimension; send its shape in JSON");
  auto open = std::find_if(tensor->shape.begin(), tensor->shape.end(), [](int64_t dim) { return dim < 0; });
  if (open == tensor->shape.end()) return absl::OkStatus();
  *open = 1;
  TANDEM_ASSIGN_OR_RETURN(int64_t rest, ElementCount(tensor->shape));
  size_t step = static_cast<size_t>(rest) * ByteSize(tensor->dtype);
  if (step == 0 || bytes % step != 0) return InvalidArgument("needs a multiple of ", step, " bytes, got ", bytes);
  *open = static_cast<int64_t>(bytes / step);
  return absl::OkStatus();
}

absl::Status NameInput(const absl::Status& status, size_t index, std::string_view name) {
  if (status.ok()) return status;
  return Annotate(status, name.empty() ? StrCat("input ", index) : StrCat("input '", name, "'"));
}

}  // namespace

// What one entry of "inputs" holds.
struct InferDecoder::Input {
  std::string_view name, datatype;
  bool has_shape = false, has_data = false, has_binary = false;
  Shape shape;
  dom::array data;
  uint64_t binary_bytes = 0;

  absl::Status Read(dom::element value);
  absl::Status ReadParameters(dom::element value);
};

absl::Status InferDecoder::Input::ReadParameters(dom::element value) {
  dom::object parameters;
  TANDEM_RETURN_IF_ERROR(Get(value, "'parameters'", "an object", &parameters));
  for (auto [key, parameter] : parameters) {
    TANDEM_RETURN_IF_ERROR(CheckNotReserved(key, parameter));
    if (key != "binary_data_size") continue;
    TANDEM_RETURN_IF_ERROR(Get(parameter, "parameter 'binary_data_size'", "a whole number", &binary_bytes));
    has_binary = true;
  }
  return absl::OkStatus();
}

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
      TANDEM_RETURN_IF_ERROR(ReadParameters(field));
    }
  }
  if (name.empty()) return InvalidArgument("has no 'name'");
  if (datatype.empty()) return InvalidArgument("has no 'datatype'");
  if (!has_shape) return InvalidArgument("has no 'shape'");
  if (has_data && has_binary) return InvalidArgument("has both 'data' and parameter 'binary_data_size'; send one");
  if (!has_data && !has_binary) return InvalidArgument("has neither 'data' nor parameter 'binary_data_size'");
  return absl::OkStatus();
}

void InferCall::Clear() {
  id = {};
  timeout_us = 0;
  binary_output = false;
  inputs.clear();
  wanted.clear();
}

InferDecoder::InferDecoder(int max_depth) : max_depth_(max_depth) {}

absl::Status InferDecoder::Decode(std::string_view body, std::optional<int64_t> json_bytes, const InferSession& session,
                                  InferCall* call) {
  call->Clear();
  buffers_used_ = 0;
  if (json_bytes == 0) return DecodeRaw(body, session, call);
  size_t json_size = json_bytes.has_value() ? static_cast<size_t>(*json_bytes) : body.size();
  if (json_size > body.size()) {
    return InvalidArgument("header Inference-Header-Content-Length is ", json_size, ", but the body has ", body.size(),
                           " bytes");
  }
  if (json_size > kMostJsonBytes) {
    return InvalidArgument("the JSON of the request has ", json_size, " bytes, at most ", kMostJsonBytes,
                           " are read; send tensors as binary data");
  }
  return DecodeJson(body.substr(0, json_size), body.substr(json_size), call);
}

absl::Status InferDecoder::DecodeJson(std::string_view json, std::string_view binary, InferCall* call) {
  if (parser_.capacity() > kKeptBytes && json.size() <= kKeptBytes) parser_ = dom::parser();
  if (parser_.capacity() < json.size()) {
    simdjson::error_code error = parser_.allocate(std::max(json.size(), kFirstCapacity), max_depth_);
    if (error) return Unavailable("no memory to read ", json.size(), " bytes of JSON");
  }
  dom::element document;
  dom::object request;
  simdjson::error_code error =
      parser_.parse(reinterpret_cast<const uint8_t*>(json.data()), json.size(), false).get(document);
  if (error) return InvalidArgument("the request is not JSON: ", simdjson::error_message(error));
  TANDEM_RETURN_IF_ERROR(Get(document, "the request", "an object", &request));
  dom::element inputs, outputs;
  bool has_inputs = false, has_outputs = false;
  for (auto [key, value] : request) {
    if (key == "id") {
      TANDEM_RETURN_IF_ERROR(Get(value, "'id'", "a text", &call->id));
    } else if (key == "parameters") {
      TANDEM_RETURN_IF_ERROR(ReadRequestParameters(value, call));
    } else if (key == "inputs") {
      inputs = value;
      has_inputs = true;
    } else if (key == "outputs") {
      outputs = value;
      has_outputs = true;
    }
  }
  if (!has_inputs) return InvalidArgument("the request has no 'inputs'");
  if (has_outputs) TANDEM_RETURN_IF_ERROR(ReadOutputs(outputs, call));
  TANDEM_RETURN_IF_ERROR(ReadInputs(inputs, &binary, json.size(), call));
  if (!binary.empty()) return InvalidArgument(binary.size(), " bytes are left over behind the last binary input");
  return absl::OkStatus();
}

absl::Status InferDecoder::ReadInputs(dom::element value, std::string_view* binary, size_t json_size, InferCall* call) {
  dom::array entries;
  TANDEM_RETURN_IF_ERROR(Get(value, "'inputs'", "an array", &entries));
  for (dom::element entry : entries) {
    Input input;
    size_t index = call->inputs.size();
    TANDEM_RETURN_IF_ERROR(NameInput(input.Read(entry), index, input.name));
    for (const InputTensor& other : call->inputs) {
      if (other.name == input.name) return InvalidArgument("input '", input.name, "' is given twice");
    }
    InputTensor& tensor = call->inputs.emplace_back();
    tensor.name = input.name;
    tensor.dtype = DTypeFromProtocolName(input.datatype);
    tensor.shape = std::move(input.shape);
    if (tensor.dtype == DType::kInvalid) {
      return InvalidArgument("input '", input.name, "': datatype '", input.datatype, "' is unknown");
    }
    if (input.has_data) {
      TANDEM_RETURN_IF_ERROR(NameInput(ReadData(input, json_size, &tensor), index, input.name));
      continue;
    }
    if (input.binary_bytes > binary->size()) {
      return InvalidArgument("input '", input.name, "' has ", input.binary_bytes, " bytes of binary data, but ",
                             binary->size(), " are left in the body: ", input.binary_bytes - binary->size(),
                             " missing");
    }
    TANDEM_RETURN_IF_ERROR(NameInput(UseBinary(binary->substr(0, input.binary_bytes), &tensor), index, input.name));
    binary->remove_prefix(input.binary_bytes);
  }
  return absl::OkStatus();
}

absl::Status InferDecoder::ReadData(const Input& input, size_t json_size, InputTensor* tensor) {
  TANDEM_ASSIGN_OR_RETURN(int64_t count, ElementCount(tensor->shape));
  // Each element takes a character at least, so memory is bounded by what was sent.
  if (count > static_cast<int64_t>(json_size)) {
    return InvalidArgument("shape ", ToString(tensor->shape), " has more elements than the request has bytes");
  }
  AlignedBuffer* buffer;
  if (tensor->dtype == DType::kString) {
    std::string texts;
    TANDEM_RETURN_IF_ERROR(ReadTexts(input.data, tensor->shape, count, &texts));
    buffer = NextBuffer(texts.size());
    memcpy(buffer->data(), texts.data(), texts.size());
  } else {
    buffer = NextBuffer(count * ByteSize(tensor->dtype));
    TANDEM_RETURN_IF_ERROR(ReadNumbers(input.data, tensor->dtype, tensor->shape, count, buffer->data()));
  }
  tensor->data = buffer->data();
  tensor->byte_size = buffer->size();
  return absl::OkStatus();
}

absl::Status InferDecoder::UseBinary(std::string_view bytes, InputTensor* tensor) {
  TANDEM_ASSIGN_OR_RETURN(int64_t count, ElementCount(tensor->shape));
  if (tensor->dtype == DType::kString) {
    TANDEM_RETURN_IF_ERROR(CheckTexts(bytes, count));
  } else if (count > kMostElements || static_cast<size_t>(count) * ByteSize(tensor->dtype) != bytes.size()) {
    return InvalidArgument(ProtocolName(tensor->dtype), " of shape ", ToString(tensor->shape), " needs ", count,
                           " elements of ", ByteSize(tensor->dtype), " bytes, but binary data has ", bytes.size(),
                           " bytes");
  }
  tensor->data = bytes.data();
  tensor->byte_size = bytes.size();
  if (reinterpret_cast<uintptr_t>(bytes.data()) % 64 == 0) return absl::OkStatus();
  AlignedBuffer* buffer = NextBuffer(bytes.size());
  memcpy(buffer->data(), bytes.data(), bytes.size());
  tensor->data = buffer->data();
  return absl::OkStatus();
}

absl::Status InferDecoder::DecodeRaw(std::string_view body, const InferSession& session, InferCall* call) {
  const std::vector<TensorSignature>& signature = session.inputs();
  if (signature.size() != 1) {
    return InvalidArgument("a raw request (header Inference-Header-Content-Length 0) needs a model with one input; '",
                           session.model(), "' has ", signature.size());
  }
  InputTensor& tensor = call->inputs.emplace_back();
  tensor.name = signature[0].name;
  tensor.dtype = signature[0].dtype;
  tensor.shape = signature[0].shape;
  call->binary_output = true;
  TANDEM_RETURN_IF_ERROR(NameInput(ShapeFromBytes(body.size(), &tensor), 0, tensor.name));
  return NameInput(UseBinary(body, &tensor), 0, tensor.name);
}

AlignedBuffer* InferDecoder::NextBuffer(size_t bytes) {
  if (buffers_used_ == buffers_.size()) buffers_.emplace_back();
  AlignedBuffer* buffer = &buffers_[buffers_used_++];
  if (buffer->size() > kKeptBytes && bytes <= kKeptBytes) *buffer = AlignedBuffer();
  buffer->Resize(bytes);
  return buffer;
}

}  // namespace tandem::api::http
