#include "api/http/tfserving_decoder.h"

#include <string.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <type_traits>

#include "absl/strings/escaping.h"
#include "api/http/json_tensor.h"
#include "api/tfserving/model_info.h"
#include "base/status.h"
#include "base/strings.h"
#include "base/text.h"

namespace tandem::api::http {
namespace {

namespace dom = simdjson::dom;

constexpr size_t kMostDimensions = 16;
constexpr size_t kKeptBytes = 1 << 20;

// Numbers that JSON has no name for, as TensorFlow Serving's clients write them.
constexpr struct {
  std::string_view name;
  double value;
} kLiterals[] = {{"NaN", std::numeric_limits<double>::quiet_NaN()},
                 {"Infinity", std::numeric_limits<double>::infinity()},
                 {"-Infinity", -std::numeric_limits<double>::infinity()},
                 {"Inf", std::numeric_limits<double>::infinity()},
                 {"-Inf", -std::numeric_limits<double>::infinity()}};

// Puts these numbers into quotes where they stand bare, so that a parser takes the text. False if there are none.
bool QuoteLiterals(std::string_view json, std::string* out) {
  out->clear();
  out->reserve(json.size() + simdjson::SIMDJSON_PADDING);
  bool in_text = false;
  size_t copied = 0;
  for (size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_text && c == '\\') {
      ++i;
    } else if (c == '"') {
      in_text = !in_text;
    } else if (!in_text && (c == 'N' || c == 'I' || c == '-')) {
      for (const auto& literal : kLiterals) {
        if (!json.substr(i).starts_with(literal.name)) continue;
        out->append(json.substr(copied, i - copied)).append("\"").append(literal.name).append("\"");
        copied = i + literal.name.size();
        i = copied - 1;
        break;
      }
    }
  }
  if (copied == 0) return false;
  out->append(json.substr(copied));
  out->reserve(out->size() + simdjson::SIMDJSON_PADDING);
  return true;
}

template <typename T>
bool ConvertWithLiterals(dom::element value, T* out) {
  if (ConvertNumber(value, out)) return true;
  if constexpr (std::is_floating_point_v<T>) {
    std::string_view text;
    if (value.get(text) != simdjson::SUCCESS) return false;
    for (const auto& literal : kLiterals) {
      if (text != literal.name) continue;
      *out = static_cast<T>(literal.value);
      return true;
    }
  }
  return false;
}

// The text of {"b64": "text"}.
std::optional<std::string_view> Base64Of(dom::element value) {
  dom::object object;
  std::string_view text;
  if (value.get(object) != simdjson::SUCCESS || object.size() != 1) return std::nullopt;
  if (object["b64"].get(text) != simdjson::SUCCESS) return std::nullopt;
  return text;
}

int64_t LengthOf(dom::array array) {
  int64_t length = 0;
  for (auto at = array.begin(); at != array.end(); ++at) ++length;
  return length;
}

// An object of inputs by their names, not one value of bytes.
bool IsByName(dom::element value) { return value.is_object() && !Base64Of(value).has_value(); }

absl::StatusOr<const TensorSignature*> OnlyInput(const InferSession& session, std::string_view key) {
  if (session.inputs().size() == 1) return &session.inputs()[0];
  std::string names;
  for (const TensorSignature& input : session.inputs()) StrAppend(&names, names.empty() ? "" : ", ", input.name);
  return InvalidArgument(
      "model '", session.model(), "' has ", session.inputs().size(), " inputs (", names, "); give '", key,
      key == "instances" ? "' a list of objects with a value for each" : "' an object with a value for each");
}

absl::StatusOr<const TensorSignature*> InputByName(const InferSession& session, std::string_view name) {
  std::vector<std::string> names;
  for (const TensorSignature& input : session.inputs()) {
    if (input.name == name) return &input;
    names.push_back(input.name);
  }
  return InvalidArgument("model '", session.model(), "' has no input '", name, "'", DidYouMean(name, names));
}

}  // namespace

class TfServingDecoder::Input {
 public:
  // `name` lives as long as the call. `first` gives the shape: of the whole tensor, or of one of its rows.
  static absl::StatusOr<Input> Create(const InferSession& session, const TensorSignature& signature,
                                      std::string_view name, dom::element first, std::optional<int64_t> rows,
                                      size_t request_bytes, v2::InferCall* call) {
    Input input;
    input.name_ = name;
    TANDEM_ASSIGN_OR_RETURN(InputTensor * tensor, v2::AddInput(session, name, signature.dtype, call));
    input.index_ = static_cast<size_t>(tensor - call->request.inputs.data());
    input.dtype_ = signature.dtype;
    absl::Status status = input.Prepare(signature, first, rows, request_bytes, call);
    if (!status.ok()) return Annotate(status, StrCat("input '", name, "'"));
    return input;
  }

  std::string_view name() const { return name_; }
  int64_t values() const { return values_; }

  absl::Status Add(dom::element value) {
    ++values_;
    return Annotate(AddTyped(value), StrCat("input '", name_, "'"));
  }

  // After the last value.
  void Finish(v2::InferCall* call) {
    InputTensor& tensor = call->request.inputs[index_];
    if (dtype_ == DType::kString) {
      AlignedBuffer* buffer = call->buffers.Next(texts_.size());
      memcpy(buffer->data(), texts_.data(), texts_.size());
      tensor.data = buffer->data();
      tensor.byte_size = texts_.size();
    } else {
      tensor.data = numbers_;
      tensor.byte_size = bytes_;
    }
  }

 private:
  absl::Status Prepare(const TensorSignature& signature, dom::element first, std::optional<int64_t> rows,
                       size_t request_bytes, v2::InferCall* call) {
    TANDEM_RETURN_IF_ERROR(ReadShape(signature, first, rows.has_value() ? 1 : 0));
    Shape& whole = call->request.inputs[index_].shape;
    if (rows.has_value()) whole.push_back(*rows);
    whole.insert(whole.end(), shape_.begin(), shape_.end());
    TANDEM_ASSIGN_OR_RETURN(int64_t count, ElementCount(whole));
    // Each element takes a character at least.
    if (count > static_cast<int64_t>(request_bytes)) {
      return InvalidArgument("its lists have not all as many entries as the first ones, which make ", ToString(whole));
    }
    if (dtype_ == DType::kString) return absl::OkStatus();
    if (dtype_ == DType::kFloat16 || dtype_ == DType::kBFloat16) {
      return InvalidArgument("is of type ", tfs::ElementTypeName(dtype_),
                             ", which is not read from JSON; send it over gRPC, or as binary data to /v2");
    }
    bytes_ = static_cast<size_t>(count) * ByteSize(dtype_);
    numbers_ = call->buffers.Next(bytes_)->data();
    next_ = numbers_;
    return absl::OkStatus();
  }

  // The lengths of the first lists; behind an empty one the signature's.
  absl::Status ReadShape(const TensorSignature& signature, dom::element value, size_t skipped) {
    dom::array array;
    while (value.get(array) == simdjson::SUCCESS) {
      if (shape_.size() + skipped == kMostDimensions) {
        return InvalidArgument("has more than ", kMostDimensions, " dimensions");
      }
      shape_.push_back(LengthOf(array));
      if (shape_.back() == 0) break;
      value = *array.begin();
    }
    if (shape_.empty() || shape_.back() != 0) return absl::OkStatus();
    for (size_t dim = skipped + shape_.size(); dim < signature.shape.size(); ++dim) {
      shape_.push_back(std::max<int64_t>(signature.shape[dim], 0));
    }
    return absl::OkStatus();
  }

  absl::Status AddTyped(dom::element value) {
    switch (dtype_) {
      case DType::kFloat32:
        return AddNumbers<float>(value, 0);
      case DType::kFloat64:
        return AddNumbers<double>(value, 0);
      case DType::kInt8:
        return AddNumbers<int8_t>(value, 0);
      case DType::kInt16:
        return AddNumbers<int16_t>(value, 0);
      case DType::kInt32:
        return AddNumbers<int32_t>(value, 0);
      case DType::kInt64:
        return AddNumbers<int64_t>(value, 0);
      case DType::kUint8:
        return AddNumbers<uint8_t>(value, 0);
      case DType::kUint16:
        return AddNumbers<uint16_t>(value, 0);
      case DType::kUint32:
        return AddNumbers<uint32_t>(value, 0);
      case DType::kUint64:
        return AddNumbers<uint64_t>(value, 0);
      case DType::kBool:
        return AddNumbers<bool>(value, 0);
      default:
        return AddTexts(value, 0);
    }
  }

  // Calls `take` for each entry of a list, which has as many as the first one there had.
  template <typename Take>
  absl::Status ForEach(dom::element value, size_t depth, const Take& take) {
    dom::array array;
    if (value.get(array) != simdjson::SUCCESS) {
      return InvalidArgument("holds ", Describe(value), " where its first value has a list");
    }
    int64_t left = shape_[depth];
    for (dom::element entry : array) {
      if (left-- == 0) break;
      TANDEM_RETURN_IF_ERROR(take(entry));
    }
    if (left == 0) return absl::OkStatus();
    return InvalidArgument("has a list with ", LengthOf(array), " entries where its first one has ", shape_[depth]);
  }

  template <typename T>
  absl::Status AddNumbers(dom::element value, size_t depth) {
    if (depth < shape_.size()) {
      return ForEach(value, depth, [&](dom::element entry) { return AddNumbers<T>(entry, depth + 1); });
    }
    T number;
    if (!ConvertWithLiterals(value, &number)) {
      return InvalidArgument("holds ", Describe(value), ", which is no ", tfs::ElementTypeName(dtype_));
    }
    memcpy(next_, &number, sizeof number);
    next_ += sizeof number;
    return absl::OkStatus();
  }

  absl::Status AddTexts(dom::element value, size_t depth) {
    if (depth < shape_.size()) {
      return ForEach(value, depth, [&](dom::element entry) { return AddTexts(entry, depth + 1); });
    }
    std::string_view text;
    std::string decoded;
    if (std::optional<std::string_view> base64 = Base64Of(value)) {
      if (!absl::Base64Unescape(AbslView(*base64), &decoded)) {
        return InvalidArgument("holds {\"b64\": ..} with a text that is no base64");
      }
      text = decoded;
    } else if (value.get(text) != simdjson::SUCCESS) {
      return InvalidArgument("holds ", Describe(value), ", must be a text or {\"b64\": a text}");
    }
    auto length = static_cast<uint32_t>(text.size());
    texts_.append(reinterpret_cast<const char*>(&length), sizeof length).append(text);
    return absl::OkStatus();
  }

  std::string_view name_;
  size_t index_ = 0;  // in the request
  DType dtype_ = DType::kInvalid;
  Shape shape_;  // of one value
  int64_t values_ = 0;
  std::byte *numbers_ = nullptr, *next_ = nullptr;
  size_t bytes_ = 0;
  std::string texts_;
};

absl::Status TfServingDecoder::Decode(std::string_view body, const InferSession& session, v2::InferCall* call) {
  call->Clear();
  if (rewritten_.capacity() > kKeptBytes) rewritten_ = std::string();
  request_bytes_ = body.size();
  dom::object request;
  absl::Status parsed = document_.Parse(body, &request);
  // Only a request that is no JSON is searched for numbers that JSON does not have.
  if (absl::IsInvalidArgument(parsed) && QuoteLiterals(body, &rewritten_)) {
    parsed = document_.Parse(rewritten_, &request);
  }
  TANDEM_RETURN_IF_ERROR(parsed);
  dom::element instances, inputs;
  bool has_instances = false, has_inputs = false;
  for (auto [key, value] : request) {
    if (key == "signature_name") {
      std::string_view signature;
      TANDEM_RETURN_IF_ERROR(Get(value, "'signature_name'", "a text", &signature));
      TANDEM_RETURN_IF_ERROR(tfs::CheckSignature(session.model(), signature));
    } else if (key == "instances") {
      instances = value;
      has_instances = true;
    } else if (key == "inputs") {
      inputs = value;
      has_inputs = true;
    }
  }
  if (has_instances == has_inputs) {
    return InvalidArgument(has_inputs ? "the request has both 'instances' and 'inputs'; send one"
                                      : "the request has neither 'instances' (rows) nor 'inputs' (columns)");
  }
  in_rows_ = has_instances;
  return in_rows_ ? DecodeRows(instances, session, call) : DecodeColumns(inputs, session, call);
}

absl::Status TfServingDecoder::DecodeRows(dom::element value, const InferSession& session, v2::InferCall* call) {
  dom::array rows;
  TANDEM_RETURN_IF_ERROR(Get(value, "'instances'", "a list", &rows));
  const int64_t count = LengthOf(rows);
  if (count == 0) return InvalidArgument("'instances' is an empty list");
  dom::element first = *rows.begin();
  if (!IsByName(first)) {
    TANDEM_ASSIGN_OR_RETURN(const TensorSignature* signature, OnlyInput(session, "instances"));
    TANDEM_ASSIGN_OR_RETURN(Input input,
                            Input::Create(session, *signature, signature->name, first, count, request_bytes_, call));
    for (dom::element row : rows) TANDEM_RETURN_IF_ERROR(input.Add(row));
    input.Finish(call);
    return absl::OkStatus();
  }
  std::vector<Input> inputs;
  for (auto [name, one] : dom::object(first)) {
    TANDEM_ASSIGN_OR_RETURN(const TensorSignature* signature, InputByName(session, name));
    TANDEM_ASSIGN_OR_RETURN(Input input, Input::Create(session, *signature, name, one, count, request_bytes_, call));
    inputs.push_back(std::move(input));
  }
  int64_t number = 0;
  for (dom::element row : rows) {
    dom::object values;
    TANDEM_RETURN_IF_ERROR(
        Get(row, StrCat("entry ", number, " of 'instances'"), "an object, as the first is", &values));
    TANDEM_RETURN_IF_ERROR(ReadRow(number++, values, &inputs));
  }
  for (Input& input : inputs) input.Finish(call);
  return absl::OkStatus();
}

// Rows mostly have their values in the same order.
absl::Status TfServingDecoder::ReadRow(int64_t row, dom::object values, std::vector<Input>* inputs) const {
  size_t next = 0;
  for (auto [name, value] : values) {
    auto input =
        next < inputs->size() && (*inputs)[next].name() == name
            ? inputs->begin() + static_cast<std::ptrdiff_t>(next)
            : std::find_if(inputs->begin(), inputs->end(), [key = name](const Input& i) { return i.name() == key; });
    if (input == inputs->end()) {
      return InvalidArgument("entry ", row, " of 'instances' has '", name, "', which the first entry has not");
    }
    if (input->values() > row) return InvalidArgument("entry ", row, " of 'instances' has '", name, "' twice");
    TANDEM_RETURN_IF_ERROR(input->Add(value));
    ++next;
  }
  for (const Input& input : *inputs) {
    if (input.values() == row) return InvalidArgument("entry ", row, " of 'instances' has no '", input.name(), "'");
  }
  return absl::OkStatus();
}

absl::Status TfServingDecoder::DecodeColumns(dom::element value, const InferSession& session, v2::InferCall* call) {
  auto use = [&](const TensorSignature& signature, std::string_view name, dom::element column) -> absl::Status {
    TANDEM_ASSIGN_OR_RETURN(Input input,
                            Input::Create(session, signature, name, column, std::nullopt, request_bytes_, call));
    TANDEM_RETURN_IF_ERROR(input.Add(column));
    input.Finish(call);
    return absl::OkStatus();
  };
  if (!IsByName(value)) {
    TANDEM_ASSIGN_OR_RETURN(const TensorSignature* signature, OnlyInput(session, "inputs"));
    return use(*signature, signature->name, value);
  }
  for (auto [name, column] : dom::object(value)) {
    TANDEM_ASSIGN_OR_RETURN(const TensorSignature* signature, InputByName(session, name));
    TANDEM_RETURN_IF_ERROR(use(*signature, name, column));
  }
  return absl::OkStatus();
}

}  // namespace tandem::api::http
