#include "interpreter/values.h"

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <cstring>

namespace tandem::interpreter {

std::optional<at::ScalarType> ToScalarType(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return at::kFloat;
    case DType::kFloat64:
      return at::kDouble;
    case DType::kFloat16:
      return at::kHalf;
    case DType::kBFloat16:
      return at::kBFloat16;
    case DType::kInt8:
      return at::kChar;
    case DType::kInt16:
      return at::kShort;
    case DType::kInt32:
      return at::kInt;
    case DType::kInt64:
      return at::kLong;
    case DType::kUint8:
      return at::kByte;
    case DType::kUint16:
      return at::kUInt16;
    case DType::kUint32:
      return at::kUInt32;
    case DType::kUint64:
      return at::kUInt64;
    case DType::kBool:
      return at::kBool;
    case DType::kString:
    case DType::kInvalid:
      return std::nullopt;
  }
  return std::nullopt;
}

std::optional<at::ScalarType> ToScalarType(DType dtype, at::ScalarType float_type) {
  return dtype == DType::kFloat32 ? float_type : ToScalarType(dtype);
}

at::Tensor CopyToTensor(DType dtype, const Shape& shape, std::string_view bytes) {
  at::Tensor tensor = at::empty(shape, *ToScalarType(dtype));
  TORCH_CHECK(tensor.nbytes() == bytes.size(), "tensor of shape ", ToString(shape), " takes ", tensor.nbytes(),
              " bytes, not ", bytes.size());
  if (!bytes.empty()) std::memcpy(tensor.mutable_data_ptr(), bytes.data(), bytes.size());
  return tensor;
}

std::vector<int64_t> ToInts(const at::Tensor& tensor) {
  constexpr int64_t kMost = 1 << 20;
  TORCH_CHECK(at::isIntegralType(tensor.scalar_type(), /*includeBool=*/false), "expects integers, got ",
              tensor.scalar_type());
  TORCH_CHECK(tensor.numel() <= kMost, "a list of ", tensor.numel(), " integers is too long");
  const at::Tensor longs = tensor.to(at::kLong).contiguous();
  const auto* data = longs.const_data_ptr<int64_t>();
  return {data, data + longs.numel()};
}

at::Tensor FromInts(const std::vector<int64_t>& values) {
  at::Tensor tensor = at::empty({static_cast<int64_t>(values.size())}, at::kLong);
  std::copy(values.begin(), values.end(), tensor.mutable_data_ptr<int64_t>());
  return tensor;
}

at::Tensor ToChannelsLast(const at::Tensor& tensor) {
  if (tensor.size(1) != 1) return tensor.contiguous(at::MemoryFormat::ChannelsLast);
  const int64_t height = tensor.size(2);
  const int64_t width = tensor.size(3);
  return tensor.contiguous().as_strided(tensor.sizes(), {height * width, 1, width, 1});
}

int64_t NormalAxis(int64_t axis, int64_t rank) {
  TORCH_CHECK(axis >= -rank && axis < rank, "axis ", axis, " is outside a tensor of rank ", rank);
  return axis < 0 ? axis + rank : axis;
}

std::vector<int64_t> NormalAxes(std::vector<int64_t> axes, int64_t rank) {
  for (int64_t& axis : axes) axis = NormalAxis(axis, rank);
  return axes;
}

}  // namespace tandem::interpreter
