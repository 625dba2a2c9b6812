// TensorProto <-> plain memory.
#include <bit>
#include <climits>
#include <cstring>

#include "base/status.h"
#include "graph/graph.h"
#include "graph/names.h"
#include "graph/tensor_data.h"
#include "onnx-ml.pb.h"

namespace tandem::graph {
namespace {

static_assert(std::endian::native == std::endian::little, "ONNX data are little endian");

// Which repeated field holds the data of a type when raw_data does not.
enum class Field { kFloat, kDouble, kInt32, kInt64, kUint64, kString };

Field FieldOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return Field::kFloat;
    case DType::kFloat64:
      return Field::kDouble;
    case DType::kInt64:
      return Field::kInt64;
    case DType::kUint32:
    case DType::kUint64:
      return Field::kUint64;
    case DType::kString:
      return Field::kString;
    default:
      return Field::kInt32;
  }
}

int64_t FieldSize(const onnx::TensorProto& proto, Field field) {
  switch (field) {
    case Field::kFloat:
      return proto.float_data_size();
    case Field::kDouble:
      return proto.double_data_size();
    case Field::kInt32:
      return proto.int32_data_size();
    case Field::kInt64:
      return proto.int64_data_size();
    case Field::kUint64:
      return proto.uint64_data_size();
    case Field::kString:
      return proto.string_data_size();
  }
  return 0;
}

int64_t TypedElements(const onnx::TensorProto& proto) {
  int64_t total = 0;
  for (Field field : {Field::kFloat, Field::kDouble, Field::kInt32, Field::kInt64, Field::kUint64, Field::kString}) {
    total += FieldSize(proto, field);
  }
  return total;
}

// Elements of type T, narrowed from the wider ones of a repeated field.
template <typename T, typename Values>
std::string Narrowed(const Values& values) {
  std::string out(static_cast<size_t>(values.size()) * sizeof(T), '\0');
  char* to = out.data();
  for (const auto value : values) {
    const T narrow = static_cast<T>(value);
    std::memcpy(to, &narrow, sizeof(T));
    to += sizeof(T);
  }
  return out;
}

std::string StringBytes(const onnx::TensorProto& proto) {
  std::string out;
  for (const std::string& text : proto.string_data()) {
    const auto size = static_cast<uint32_t>(text.size());
    out.append(reinterpret_cast<const char*>(&size), sizeof(size));
    out.append(text);
  }
  return out;
}

std::string BoolBytes(std::string bytes) {
  for (char& c : bytes) c = c != 0 ? 1 : 0;
  return bytes;
}

}  // namespace

absl::StatusOr<TensorSignature> CheckedSignature(const onnx::TensorProto& proto) {
  TensorSignature signature;
  signature.name = proto.name();
  signature.dtype = static_cast<DType>(proto.data_type());
  if (ProtocolName(signature.dtype).empty()) {
    return Unimplemented("element type ", proto.data_type(),
                         " is not supported; supported are float, double, float16, bfloat16, integers of 8 to 64 bits, "
                         "bool and string");
  }
  signature.shape.assign(proto.dims().begin(), proto.dims().end());
  TANDEM_ASSIGN_OR_RETURN(int64_t elements, ElementCount(signature.shape));
  const auto width = static_cast<int64_t>(ByteSize(signature.dtype));
  if (width > 0 && elements > INT_MAX / width) {
    return InvalidArgument("shape ", ToString(signature.shape),
                           " needs more than the 2 GB that one ONNX file can hold");
  }
  return signature;
}

absl::Status CheckTensor(const onnx::TensorProto& proto) {
  TANDEM_ASSIGN_OR_RETURN(TensorSignature signature, CheckedSignature(proto));
  if (proto.data_location() == onnx::TensorProto::EXTERNAL) {
    return InvalidArgument("data stand in another file, which only a model loaded from a file can have");
  }
  if (proto.has_segment()) return Unimplemented("data are split into segments, which is not supported");
  TANDEM_ASSIGN_OR_RETURN(int64_t elements, ElementCount(signature.shape));
  const int64_t typed = TypedElements(proto);
  if (proto.has_raw_data() && typed > 0) return InvalidArgument("data stand in raw_data and in a typed field as well");
  if (proto.has_raw_data() && signature.dtype == DType::kString) return InvalidArgument("strings cannot be raw_data");
  if (proto.has_raw_data()) {
    const int64_t wanted = elements * static_cast<int64_t>(ByteSize(signature.dtype));
    if (static_cast<int64_t>(proto.raw_data().size()) == wanted) return absl::OkStatus();
    return InvalidArgument("shape ", ToString(signature.shape), " of ", ProtocolName(signature.dtype), " needs ",
                           wanted, " bytes, but raw_data has ", proto.raw_data().size());
  }
  const int64_t own = FieldSize(proto, FieldOf(signature.dtype));
  if (own != typed) {
    return InvalidArgument("data stand in a field that does not belong to ", ProtocolName(signature.dtype));
  }
  if (own == elements) return absl::OkStatus();
  return InvalidArgument("shape ", ToString(signature.shape), " has ", elements, " elements, but the file holds ", own);
}

std::string DataBytes(const onnx::TensorProto& proto) {
  const auto dtype = static_cast<DType>(proto.data_type());
  if (proto.has_raw_data()) return dtype == DType::kBool ? BoolBytes(proto.raw_data()) : proto.raw_data();
  switch (dtype) {
    case DType::kFloat32:
      return Narrowed<float>(proto.float_data());
    case DType::kFloat64:
      return Narrowed<double>(proto.double_data());
    case DType::kInt64:
      return Narrowed<int64_t>(proto.int64_data());
    case DType::kUint64:
      return Narrowed<uint64_t>(proto.uint64_data());
    case DType::kUint32:
      return Narrowed<uint32_t>(proto.uint64_data());
    case DType::kInt32:
      return Narrowed<int32_t>(proto.int32_data());
    case DType::kString:
      return StringBytes(proto);
    case DType::kBool:
      return Narrowed<bool>(proto.int32_data());
    default:
      return ByteSize(dtype) == 1 ? Narrowed<uint8_t>(proto.int32_data()) : Narrowed<uint16_t>(proto.int32_data());
  }
}

std::vector<LabelledTensor> AllTensors(onnx::GraphProto* graph) {
  std::vector<LabelledTensor> all;
  for (onnx::TensorProto& tensor : *graph->mutable_initializer()) {
    all.push_back({StrCat("initialiser ", Quote(tensor.name())), &tensor});
  }
  for (onnx::NodeProto& node : *graph->mutable_node()) {
    for (onnx::AttributeProto& attribute : *node.mutable_attribute()) {
      const auto label = [&] { return StrCat(NodeLabel(node), ": attribute ", Quote(attribute.name())); };
      if (attribute.has_t()) all.push_back({label(), attribute.mutable_t()});
      for (onnx::TensorProto& tensor : *attribute.mutable_tensors()) all.push_back({label(), &tensor});
    }
  }
  return all;
}

absl::StatusOr<Tensor> ToTensor(const onnx::TensorProto& proto) {
  if (absl::Status status = CheckTensor(proto); !status.ok()) {
    return Annotate(status, StrCat("tensor ", Quote(proto.name())));
  }
  const std::string bytes = DataBytes(proto);
  Tensor tensor;
  tensor.name = proto.name();
  tensor.dtype = static_cast<DType>(proto.data_type());
  tensor.shape.assign(proto.dims().begin(), proto.dims().end());
  tensor.buffer.Resize(bytes.size());
  if (!bytes.empty()) std::memcpy(tensor.buffer.data(), bytes.data(), bytes.size());
  return tensor;
}

absl::StatusOr<Tensor> ReadTensorProto(std::string_view bytes) {
  if (bytes.size() > INT_MAX) return InvalidArgument("a TensorProto of ", bytes.size(), " bytes; the limit is 2 GB");
  onnx::TensorProto proto;
  if (!proto.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return InvalidArgument("these ", bytes.size(), " bytes are not a TensorProto, or are cut short");
  }
  return ToTensor(proto);
}

std::string WriteTensorProto(const Tensor& tensor) {
  onnx::TensorProto proto;
  proto.set_name(tensor.name);
  proto.set_data_type(static_cast<int32_t>(tensor.dtype));
  for (int64_t dim : tensor.shape) proto.add_dims(dim);
  if (tensor.dtype != DType::kString) {
    proto.set_raw_data(tensor.bytes().data(), tensor.bytes().size());
    return proto.SerializeAsString();
  }
  std::string_view rest = tensor.bytes();
  while (rest.size() >= sizeof(uint32_t)) {
    uint32_t size = 0;
    std::memcpy(&size, rest.data(), sizeof(size));
    rest.remove_prefix(sizeof(size));
    std::string_view text = rest.substr(0, size);
    proto.add_string_data(text.data(), text.size());
    rest.remove_prefix(text.size());
  }
  return proto.SerializeAsString();
}

}  // namespace tandem::graph
