#include "api/http/tfserving_encoder.h"

#include <string.h>

#include <algorithm>
#include <span>

#include "absl/strings/escaping.h"
#include "api/http/json_writer.h"
#include "api/tfserving/model_info.h"
#include "base/status.h"
#include "base/strings.h"
#include "base/text.h"

namespace tandem::api::http {
namespace {

using Dims = std::span<const int64_t>;

// Walks through one tensor from its begin to its end.
class TensorReader {
 public:
  TensorReader(const Tensor& tensor, JsonWriter* json)
      : tensor_(tensor), json_(json), base64_(tensor.name.ends_with("_bytes")), left_(tensor.bytes()) {}

  // Writes the next value of this shape.
  absl::Status Write(Dims dims) {
    switch (tensor_.dtype) {
      case DType::kFloat32:
        return WriteNumbers<float>(dims);
      case DType::kFloat64:
        return WriteNumbers<double>(dims);
      case DType::kInt8:
        return WriteNumbers<int8_t>(dims);
      case DType::kInt16:
        return WriteNumbers<int16_t>(dims);
      case DType::kInt32:
        return WriteNumbers<int32_t>(dims);
      case DType::kInt64:
        return WriteNumbers<int64_t>(dims);
      case DType::kUint8:
        return WriteNumbers<uint8_t>(dims);
      case DType::kUint16:
        return WriteNumbers<uint16_t>(dims);
      case DType::kUint32:
        return WriteNumbers<uint32_t>(dims);
      case DType::kUint64:
        return WriteNumbers<uint64_t>(dims);
      case DType::kBool:
        return WriteNumbers<bool>(dims);
      case DType::kString:
        WriteTexts(dims);
        return absl::OkStatus();
      default:
        return InvalidArgument("output '", tensor_.name, "' is ", tfs::ElementTypeName(tensor_.dtype),
                               ", which JSON cannot hold; ask over gRPC, or /v2 for binary data");
    }
  }

 private:
  template <typename T>
  absl::Status WriteNumbers(Dims dims) {
    if (dims.size() > 1) return WriteList(dims);
    const auto* values = reinterpret_cast<const T*>(left_.data());
    const int64_t count = dims.empty() ? 1 : dims[0];
    if (static_cast<size_t>(count) * sizeof(T) > left_.size()) {
      return Internal("output '", tensor_.name, "' has fewer bytes than its shape says");
    }
    if (dims.empty()) {
      json_->Number(*values);
    } else {
      json_->Numbers(values, count);
    }
    left_.remove_prefix(static_cast<size_t>(count) * sizeof(T));
    return absl::OkStatus();
  }

  absl::Status WriteList(Dims dims) {
    json_->BeginArray();
    for (int64_t i = 0; i < dims[0]; ++i) TANDEM_RETURN_IF_ERROR(Write(dims.subspan(1)));
    json_->EndArray();
    return absl::OkStatus();
  }

  void WriteTexts(Dims dims) {
    if (dims.empty()) return WriteText();
    json_->BeginArray();
    for (int64_t i = 0; i < dims[0]; ++i) WriteTexts(dims.subspan(1));
    json_->EndArray();
  }
  void WriteText() {
    uint32_t length = 0;
    if (left_.size() >= sizeof length) memcpy(&length, left_.data(), sizeof length);
    left_.remove_prefix(std::min(left_.size(), sizeof length));
    const std::string_view text = left_.substr(0, length);
    left_.remove_prefix(text.size());
    if (base64_ || !IsUtf8(text)) {
      json_->BeginObject().Key("b64").String(absl::Base64Escape(AbslView(text))).EndObject();
    } else {
      json_->String(text);
    }
  }

  const Tensor& tensor_;
  JsonWriter* const json_;
  const bool base64_;
  std::string_view left_;
};

absl::StatusOr<int64_t> RowsOf(const v2::InferCall& call) {
  for (const Tensor* tensor : call.answers) {
    const Tensor& first = *call.answers[0];
    if (!tensor->shape.empty() && !first.shape.empty() && tensor->shape[0] == first.shape[0]) continue;
    return InvalidArgument("output '", tensor->name, "' of shape ", ToString(tensor->shape),
                           " cannot be given in rows beside '", first.name, "' of shape ", ToString(first.shape),
                           "; send the request in columns: {\"inputs\": ..}");
  }
  return call.answers.empty() ? 0 : call.answers[0]->shape[0];
}

}  // namespace

absl::Status EncodeTfServing(const v2::InferCall& call, bool in_rows, InferAnswer* answer) {
  answer->json.clear();
  answer->blobs.clear();
  answer->binary = false;
  JsonWriter json(&answer->json);
  std::vector<TensorReader> outputs;
  for (const Tensor* tensor : call.answers) outputs.emplace_back(*tensor, &json);
  auto write_all = [&](size_t skipped) -> absl::Status {
    const bool by_name = outputs.size() != 1;
    if (by_name) json.BeginObject();
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (by_name) json.Key(call.answers[i]->name);
      TANDEM_RETURN_IF_ERROR(outputs[i].Write(Dims(call.answers[i]->shape).subspan(skipped)));
    }
    if (by_name) json.EndObject();
    return absl::OkStatus();
  };
  json.BeginObject().Key(in_rows ? "predictions" : "outputs");
  if (!in_rows) {
    TANDEM_RETURN_IF_ERROR(write_all(0));
  } else {
    TANDEM_ASSIGN_OR_RETURN(int64_t rows, RowsOf(call));
    json.BeginArray();
    for (int64_t row = 0; row < rows; ++row) TANDEM_RETURN_IF_ERROR(write_all(1));
    json.EndArray();
  }
  json.EndObject();
  return absl::OkStatus();
}

}  // namespace tandem::api::http
