#include "serving/comparison.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "base/half.h"
#include "base/status.h"

namespace tandem::serving {
namespace {

struct Float16 {
  uint16_t bits;
  explicit operator double() const { return FromFloat16(bits); }
};
struct BFloat16 {
  uint16_t bits;
  explicit operator double() const { return FromBFloat16(bits); }
};

template <typename T>
double At(const Tensor& tensor, int64_t index) {
  T value;
  std::memcpy(&value, tensor.buffer.data() + index * sizeof(T), sizeof(T));
  return static_cast<double>(value);
}

void CompareNumbers(double a, double b, Comparison* result) {
  if (a == b || (std::isnan(a) && std::isnan(b))) return;
  double difference = std::abs(a - b);
  const double size = std::max(std::abs(a), std::abs(b));
  double relative = difference / size;
  if (!std::isfinite(difference)) difference = relative = std::numeric_limits<double>::infinity();
  result->max_absolute = std::max(result->max_absolute, difference);
  result->max_relative = std::max(result->max_relative, relative);
  if (!std::isfinite(difference) || difference > kAbsoluteTolerance + kRelativeTolerance * size) result->equal = false;
}

template <typename T>
int64_t LargestOf(const Tensor& tensor, int64_t begin, int64_t count) {
  int64_t largest = 0;
  for (int64_t i = 1; i < count; ++i) {
    if (At<T>(tensor, begin + i) > At<T>(tensor, begin + largest)) largest = i;
  }
  return largest;
}

template <typename T, bool kIsFloat>
void CompareElements(const Tensor& a, const Tensor& b, int64_t elements, Comparison* result) {
  for (int64_t i = 0; i < elements; ++i) CompareNumbers(At<T>(a, i), At<T>(b, i), result);
  if (!kIsFloat || a.shape.size() != 2 || a.shape[1] < 2) return;
  for (int64_t row = 0; row < a.shape[0]; ++row) {
    const int64_t begin = row * a.shape[1];
    ++result->rows;
    if (LargestOf<T>(a, begin, a.shape[1]) == LargestOf<T>(b, begin, a.shape[1])) ++result->same_class;
  }
}

using CompareFunction = void (*)(const Tensor&, const Tensor&, int64_t, Comparison*);
CompareFunction FunctionOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return CompareElements<float, true>;
    case DType::kFloat64:
      return CompareElements<double, true>;
    case DType::kFloat16:
      return CompareElements<Float16, true>;
    case DType::kBFloat16:
      return CompareElements<BFloat16, true>;
    case DType::kInt8:
      return CompareElements<int8_t, false>;
    case DType::kUint8:
      return CompareElements<uint8_t, false>;
    case DType::kInt16:
      return CompareElements<int16_t, false>;
    case DType::kUint16:
      return CompareElements<uint16_t, false>;
    case DType::kInt32:
      return CompareElements<int32_t, false>;
    case DType::kUint32:
      return CompareElements<uint32_t, false>;
    case DType::kInt64:
      return CompareElements<int64_t, false>;
    case DType::kUint64:
      return CompareElements<uint64_t, false>;
    default:
      return nullptr;
  }
}

absl::Status CompareTensors(const Tensor& a, const Tensor& b, Comparison* result) {
  if (a.dtype != b.dtype || a.shape != b.shape) {
    return InvalidArgument("output '", a.name, "' is ", ProtocolName(a.dtype), " ", ToString(a.shape), " and ",
                           ProtocolName(b.dtype), " ", ToString(b.shape));
  }
  CompareFunction compare = FunctionOf(a.dtype);
  if (compare == nullptr) {
    if (a.bytes() != b.bytes()) result->equal = false;
    return absl::OkStatus();
  }
  TANDEM_ASSIGN_OR_RETURN(int64_t elements, ElementCount(a.shape));
  const size_t bytes = elements * ByteSize(a.dtype);
  if (a.buffer.size() < bytes || b.buffer.size() < bytes) {
    return InvalidArgument("output '", a.name, "' is shorter than its shape ", ToString(a.shape), " says");
  }
  compare(a, b, elements, result);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Comparison> Compare(const std::vector<Tensor>& expected, const std::vector<Tensor>& actual) {
  if (expected.size() != actual.size()) {
    return InvalidArgument("there are ", expected.size(), " and ", actual.size(), " outputs");
  }
  Comparison result;
  for (size_t i = 0; i < expected.size(); ++i) {
    TANDEM_RETURN_IF_ERROR(CompareTensors(expected[i], actual[i], &result));
  }
  return result;
}

}  // namespace tandem::serving
