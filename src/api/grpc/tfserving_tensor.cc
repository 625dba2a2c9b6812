#include <string.h>

#include <algorithm>
#include <limits>
#include <type_traits>

#include "api/grpc/tfserving.h"
#include "api/tfserving/model_info.h"
#include "base/status.h"

namespace tandem::api::rpc {
namespace {

using tensorflow::TensorProto;

constexpr int kMostDimensions = 16;
// Of what a list shorter than its tensor is filled up to: a message of a few bytes shall not take all memory.
constexpr size_t kMostFilledBytes = 64 << 20;

absl::Status ReadShape(const tensorflow::TensorShapeProto& from, Shape* shape) {
  if (from.unknown_rank()) return InvalidArgument("its tensor_shape is unknown");
  if (from.dim_size() > kMostDimensions) {
    return InvalidArgument("tensor_shape has more than ", kMostDimensions, " dimensions");
  }
  for (const auto& dim : from.dim()) {
    if (dim.size() < 0) return InvalidArgument("tensor_shape has the negative dimension ", dim.size());
    shape->push_back(dim.size());
  }
  return absl::OkStatus();
}

// The tensor's elements, of which `found` are given.
absl::StatusOr<int64_t> CheckCount(std::string_view field, int64_t found, size_t element_bytes, const Shape& shape) {
  TANDEM_ASSIGN_OR_RETURN(int64_t count, ElementCount(shape));
  if (found > count || (found == 0 && count > 0)) {
    return InvalidArgument("'", field, "' has ", found, " elements, but tensor_shape ", ToString(shape), " has ", count,
                           "; another list than this one is not read for this dtype");
  }
  if (found<count&& static_cast<size_t>(count)> kMostFilledBytes / element_bytes) {
    return InvalidArgument("'", field, "' has ", found, " elements, which are not repeated for a tensor as large as ",
                           ToString(shape), "; send all of them");
  }
  return count;
}

template <typename To, typename From>
absl::Status Fill(std::string_view field, const google::protobuf::RepeatedField<From>& from, v2::InputBuffers* buffers,
                  InputTensor* tensor) {
  TANDEM_ASSIGN_OR_RETURN(int64_t count, CheckCount(field, from.size(), sizeof(To), tensor->shape));
  AlignedBuffer* buffer = buffers->Next(static_cast<size_t>(count) * sizeof(To));
  tensor->data = buffer->data();
  tensor->byte_size = buffer->size();
  To* out = reinterpret_cast<To*>(buffer->data());
  for (int64_t i = 0; i < count; ++i) {
    From value = from[static_cast<int>(i < from.size() ? i : from.size() - 1)];
    if constexpr (!std::is_same_v<To, From>) {
      if (value < std::numeric_limits<To>::min() || value > std::numeric_limits<To>::max()) {
        return InvalidArgument("element ", i, " of '", field, "' is ", value, ", which is no ",
                               ProtocolName(tensor->dtype));
      }
    }
    out[i] = static_cast<To>(value);
  }
  return absl::OkStatus();
}

absl::Status FillTexts(const google::protobuf::RepeatedPtrField<std::string>& from, v2::InputBuffers* buffers,
                       InputTensor* tensor) {
  const size_t given = from.size();
  size_t size = 0;
  for (const std::string& text : from) size += sizeof(uint32_t) + text.size();
  const size_t last = given == 0 ? 0 : sizeof(uint32_t) + from[from.size() - 1].size();
  TANDEM_ASSIGN_OR_RETURN(int64_t count,
                          CheckCount("string_val", from.size(), std::max<size_t>(last, 1), tensor->shape));
  size += (static_cast<size_t>(count) - given) * last;
  auto text_at = [&](int64_t i) -> const std::string& {
    return from[static_cast<int>(i < from.size() ? i : from.size() - 1)];
  };
  AlignedBuffer* buffer = buffers->Next(size);
  tensor->data = buffer->data();
  tensor->byte_size = size;
  std::byte* out = buffer->data();
  for (int64_t i = 0; i < count; ++i) {
    const std::string& text = text_at(i);
    auto length = static_cast<uint32_t>(text.size());
    memcpy(out, &length, sizeof length);
    memcpy(out + sizeof length, text.data(), text.size());
    out += sizeof length + text.size();
  }
  return absl::OkStatus();
}

absl::Status UseList(const TensorProto& from, v2::InputBuffers* buffers, InputTensor* tensor) {
  switch (tensor->dtype) {
    case DType::kFloat32:
      return Fill<float>("float_val", from.float_val(), buffers, tensor);
    case DType::kFloat64:
      return Fill<double>("double_val", from.double_val(), buffers, tensor);
    case DType::kInt8:
      return Fill<int8_t>("int_val", from.int_val(), buffers, tensor);
    case DType::kInt16:
      return Fill<int16_t>("int_val", from.int_val(), buffers, tensor);
    case DType::kInt32:
      return Fill<int32_t>("int_val", from.int_val(), buffers, tensor);
    case DType::kUint8:
      return Fill<uint8_t>("int_val", from.int_val(), buffers, tensor);
    case DType::kUint16:
      return Fill<uint16_t>("int_val", from.int_val(), buffers, tensor);
    case DType::kInt64:
      return Fill<int64_t>("int64_val", from.int64_val(), buffers, tensor);
    case DType::kUint32:
      return Fill<uint32_t>("uint32_val", from.uint32_val(), buffers, tensor);
    case DType::kUint64:
      return Fill<uint64_t>("uint64_val", from.uint64_val(), buffers, tensor);
    case DType::kBool:
      return Fill<bool>("bool_val", from.bool_val(), buffers, tensor);
    case DType::kFloat16:
    case DType::kBFloat16:
      return Fill<uint16_t>("half_val", from.half_val(), buffers, tensor);
    case DType::kString:
      return FillTexts(from.string_val(), buffers, tensor);
    default:
      return InvalidArgument("its dtype is not supported");
  }
}

template <typename T, typename List>
void Append(const Tensor& tensor, List* list) {
  const T* values = tensor.As<T>();
  size_t count = tensor.buffer.size() / sizeof(T);
  list->Reserve(static_cast<int>(count));
  for (size_t i = 0; i < count; ++i) list->Add(values[i]);
}

void AppendTexts(const Tensor& tensor, TensorProto* out) {
  std::string_view bytes = tensor.bytes();
  while (bytes.size() >= sizeof(uint32_t)) {
    uint32_t length;
    memcpy(&length, bytes.data(), sizeof length);
    bytes.remove_prefix(sizeof length);
    out->add_string_val(bytes.data(), std::min<size_t>(length, bytes.size()));
    bytes.remove_prefix(std::min<size_t>(length, bytes.size()));
  }
}

}  // namespace

tensorflow::DataType ToTensorFlow(DType dtype) {
  for (const tfs::ElementType& type : tfs::ElementTypes()) {
    if (type.dtype == dtype) return static_cast<tensorflow::DataType>(type.number);
  }
  return tensorflow::DT_INVALID;
}

DType FromTensorFlow(tensorflow::DataType dtype) {
  for (const tfs::ElementType& type : tfs::ElementTypes()) {
    if (type.number == dtype) return type.dtype;
  }
  return DType::kInvalid;
}

absl::Status UseTensorProto(const TensorProto& from, v2::InputBuffers* buffers, InputTensor* tensor) {
  if (tensor->dtype == DType::kInvalid) {
    return InvalidArgument("its dtype ", static_cast<int>(from.dtype()), " is not supported");
  }
  TANDEM_RETURN_IF_ERROR(ReadShape(from.tensor_shape(), &tensor->shape));
  if (from.tensor_content().empty()) return UseList(from, buffers, tensor);
  if (tensor->dtype == DType::kString) return InvalidArgument("texts are given in 'string_val', not 'tensor_content'");
  return v2::UseBytes(from.tensor_content(), buffers, tensor);
}

absl::Status FillTensorProto(const Tensor& tensor, TensorProto* out) {
  out->set_dtype(ToTensorFlow(tensor.dtype));
  for (int64_t dim : tensor.shape) out->mutable_tensor_shape()->add_dim()->set_size(dim);
  switch (tensor.dtype) {
    case DType::kFloat32:
      Append<float>(tensor, out->mutable_float_val());
      break;
    case DType::kFloat64:
      Append<double>(tensor, out->mutable_double_val());
      break;
    case DType::kInt8:
      Append<int8_t>(tensor, out->mutable_int_val());
      break;
    case DType::kInt16:
      Append<int16_t>(tensor, out->mutable_int_val());
      break;
    case DType::kInt32:
      Append<int32_t>(tensor, out->mutable_int_val());
      break;
    case DType::kUint8:
      Append<uint8_t>(tensor, out->mutable_int_val());
      break;
    case DType::kUint16:
      Append<uint16_t>(tensor, out->mutable_int_val());
      break;
    case DType::kInt64:
      Append<int64_t>(tensor, out->mutable_int64_val());
      break;
    case DType::kUint32:
      Append<uint32_t>(tensor, out->mutable_uint32_val());
      break;
    case DType::kUint64:
      Append<uint64_t>(tensor, out->mutable_uint64_val());
      break;
    case DType::kBool:
      Append<bool>(tensor, out->mutable_bool_val());
      break;
    case DType::kFloat16:
    case DType::kBFloat16:
      Append<uint16_t>(tensor, out->mutable_half_val());
      break;
    case DType::kString:
      AppendTexts(tensor, out);
      break;
    default:
      return Internal("output '", tensor.name, "' has a type that TensorFlow does not know");
  }
  return absl::OkStatus();
}

}  // namespace tandem::api::rpc
