#include "api/http/infer_encoder.h"

#include <string.h>

#include <algorithm>

#include "api/http/json_writer.h"
#include "base/status.h"
#include "base/text.h"

namespace tandem::api::http {
namespace {

absl::Status WriteTexts(const Tensor& tensor, JsonWriter* json) {
  std::string_view bytes = tensor.bytes();
  json->BeginArray();
  while (bytes.size() >= sizeof(uint32_t)) {
    uint32_t length;
    memcpy(&length, bytes.data(), sizeof length);
    std::string_view text = bytes.substr(sizeof length, length);
    if (!IsUtf8(text))
      return InvalidArgument("output '", tensor.name, "' is not UTF-8 text; ask for it as binary data");
    json->String(text);
    bytes.remove_prefix(std::min(bytes.size(), sizeof length + length));
  }
  json->EndArray();
  return absl::OkStatus();
}

template <typename T>
absl::Status WriteNumbers(const Tensor& tensor, JsonWriter* json) {
  json->Numbers(tensor.As<T>(), tensor.buffer.size() / sizeof(T));
  return absl::OkStatus();
}

absl::Status WriteData(const Tensor& tensor, JsonWriter* json) {
  switch (tensor.dtype) {
    case DType::kFloat32:
      return WriteNumbers<float>(tensor, json);
    case DType::kFloat64:
      return WriteNumbers<double>(tensor, json);
    case DType::kInt8:
      return WriteNumbers<int8_t>(tensor, json);
    case DType::kInt16:
      return WriteNumbers<int16_t>(tensor, json);
    case DType::kInt32:
      return WriteNumbers<int32_t>(tensor, json);
    case DType::kInt64:
      return WriteNumbers<int64_t>(tensor, json);
    case DType::kUint8:
      return WriteNumbers<uint8_t>(tensor, json);
    case DType::kUint16:
      return WriteNumbers<uint16_t>(tensor, json);
    case DType::kUint32:
      return WriteNumbers<uint32_t>(tensor, json);
    case DType::kUint64:
      return WriteNumbers<uint64_t>(tensor, json);
    case DType::kBool:
      return WriteNumbers<bool>(tensor, json);
    case DType::kString:
      return WriteTexts(tensor, json);
    default:
      return InvalidArgument("output '", tensor.name, "' is ", ProtocolName(tensor.dtype),
                             ", which JSON cannot hold; ask for it as binary data");
  }
}

absl::Status WriteOutput(const Tensor& tensor, bool binary, const v2::WantedOutput* wanted, JsonWriter* json,
                         InferAnswer* answer) {
  json->BeginObject().Key("name").String(tensor.name).Key("datatype").String(ProtocolName(tensor.dtype));
  json->Key("shape").Numbers(tensor.shape.data(), tensor.shape.size());
  const bool elsewhere = wanted != nullptr && !wanted->region.empty();
  // No parameters there: the C++ client takes them for those of binary data.
  if (elsewhere) {
    json->EndObject();
    return absl::OkStatus();
  }
  if (binary) {
    json->Key("parameters").BeginObject().Key("binary_data_size").Number(tensor.buffer.size()).EndObject();
    answer->blobs.push_back(tensor.bytes());
    answer->binary = true;
  } else {
    json->Key("data");
    TANDEM_RETURN_IF_ERROR(WriteData(tensor, json));
  }
  json->EndObject();
  return absl::OkStatus();
}

}  // namespace

absl::Status EncodeAnswer(const InferSession& session, const v2::InferCall& call, InferAnswer* answer) {
  answer->json.clear();
  answer->blobs.clear();
  answer->binary = false;
  JsonWriter json(&answer->json);
  json.BeginObject().Key("model_name").String(session.model()).Key("model_version").String(session.version());
  if (!call.request.id.empty()) json.Key("id").String(call.request.id);
  json.Key("outputs").BeginArray();
  for (size_t i = 0; i < call.answers.size(); ++i) {
    const v2::WantedOutput* wanted = call.wanted.empty() ? nullptr : &call.wanted[i];
    const bool binary = wanted == nullptr ? call.binary_output : wanted->binary;
    TANDEM_RETURN_IF_ERROR(WriteOutput(*call.answers[i], binary, wanted, &json, answer));
  }
  json.EndArray().EndObject();
  return absl::OkStatus();
}

}  // namespace tandem::api::http
