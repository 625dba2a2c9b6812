#include "api/grpc/typed_contents.h"

#include <string.h>

#include <limits>
#include <type_traits>

#include "base/status.h"

namespace tandem::api::rpc {
namespace {

absl::Status CheckCount(std::string_view field, int64_t found, const InputTensor& tensor) {
  TANDEM_ASSIGN_OR_RETURN(int64_t count, ElementCount(tensor.shape));
  if (found == count) return absl::OkStatus();
  return InvalidArgument("'contents.", field, "' has ", found, " elements, but shape ", ToString(tensor.shape), " has ",
                         count);
}

template <typename To, typename From>
absl::Status Fill(std::string_view field, const google::protobuf::RepeatedField<From>& from, v2::InputBuffers* buffers,
                  InputTensor* tensor) {
  TANDEM_RETURN_IF_ERROR(CheckCount(field, from.size(), *tensor));
  AlignedBuffer* buffer = buffers->Next(from.size() * sizeof(To));
  tensor->data = buffer->data();
  tensor->byte_size = buffer->size();
  To* out = reinterpret_cast<To*>(buffer->data());
  if constexpr (std::is_same_v<To, From>) {
    if (!from.empty()) memcpy(out, from.data(), buffer->size());
    return absl::OkStatus();
  }
  for (int i = 0; i < from.size(); ++i) {
    if (from[i] < std::numeric_limits<To>::min() || from[i] > std::numeric_limits<To>::max()) {
      return InvalidArgument("element ", i, " of 'contents.", field, "' is ", from[i], ", which is no ",
                             ProtocolName(tensor->dtype));
    }
    out[i] = static_cast<To>(from[i]);
  }
  return absl::OkStatus();
}

absl::Status FillTexts(const google::protobuf::RepeatedPtrField<std::string>& from, v2::InputBuffers* buffers,
                       InputTensor* tensor) {
  TANDEM_RETURN_IF_ERROR(CheckCount("bytes_contents", from.size(), *tensor));
  size_t size = 0;
  for (const std::string& text : from) size += sizeof(uint32_t) + text.size();
  AlignedBuffer* buffer = buffers->Next(size);
  tensor->data = buffer->data();
  tensor->byte_size = size;
  std::byte* out = buffer->data();
  for (const std::string& text : from) {
    auto length = static_cast<uint32_t>(text.size());
    memcpy(out, &length, sizeof length);
    memcpy(out + sizeof length, text.data(), text.size());
    out += sizeof length + text.size();
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status UseContents(const inference::InferTensorContents& contents, v2::InputBuffers* buffers,
                         InputTensor* tensor) {
  switch (tensor->dtype) {
    case DType::kBool:
      return Fill<bool>("bool_contents", contents.bool_contents(), buffers, tensor);
    case DType::kInt8:
      return Fill<int8_t>("int_contents", contents.int_contents(), buffers, tensor);
    case DType::kInt16:
      return Fill<int16_t>("int_contents", contents.int_contents(), buffers, tensor);
    case DType::kInt32:
      return Fill<int32_t>("int_contents", contents.int_contents(), buffers, tensor);
    case DType::kInt64:
      return Fill<int64_t>("int64_contents", contents.int64_contents(), buffers, tensor);
    case DType::kUint8:
      return Fill<uint8_t>("uint_contents", contents.uint_contents(), buffers, tensor);
    case DType::kUint16:
      return Fill<uint16_t>("uint_contents", contents.uint_contents(), buffers, tensor);
    case DType::kUint32:
      return Fill<uint32_t>("uint_contents", contents.uint_contents(), buffers, tensor);
    case DType::kUint64:
      return Fill<uint64_t>("uint64_contents", contents.uint64_contents(), buffers, tensor);
    case DType::kFloat32:
      return Fill<float>("fp32_contents", contents.fp32_contents(), buffers, tensor);
    case DType::kFloat64:
      return Fill<double>("fp64_contents", contents.fp64_contents(), buffers, tensor);
    case DType::kString:
      return FillTexts(contents.bytes_contents(), buffers, tensor);
    default:
      return InvalidArgument("datatype ", ProtocolName(tensor->dtype),
                             " cannot be given in 'contents'; send it in raw_input_contents");
  }
}

}  // namespace tandem::api::rpc
