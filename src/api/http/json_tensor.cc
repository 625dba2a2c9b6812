#include "api/http/json_tensor.h"

namespace tandem::api::http {
namespace {

namespace dom = simdjson::dom;

// Calls `take(element)` for each leaf of a nested or flat array, in order, until it gives an error.
template <typename Take>
absl::Status ForEachLeaf(dom::array array, const Take& take) {
  for (dom::element element : array) {
    dom::array inner;
    absl::Status status =
        element.get(inner) == simdjson::SUCCESS ? ForEachLeaf(inner, take) : absl::Status(take(element));
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status WrongCount(const Shape& shape, int64_t count, std::string_view than) {
  return InvalidArgument("'data' has ", than, " elements than shape ", ToString(shape), " = ", count);
}

template <typename T>
absl::Status FillNumbers(dom::array data, DType dtype, const Shape& shape, int64_t count, T* out) {
  int64_t filled = 0;
  TANDEM_RETURN_IF_ERROR(ForEachLeaf(data, [&](dom::element element) -> absl::Status {
    if (filled == count) return WrongCount(shape, count, "more");
    if (ConvertNumber(element, out + filled)) {
      ++filled;
      return absl::OkStatus();
    }
    return InvalidArgument("element ", filled, " of 'data' is ", Describe(element), ", which is no ",
                           ProtocolName(dtype));
  }));
  if (filled < count) return WrongCount(shape, count, "fewer");
  return absl::OkStatus();
}

}  // namespace

std::string_view TypeName(dom::element value) {
  switch (value.type()) {
    case dom::element_type::ARRAY:
      return "an array";
    case dom::element_type::OBJECT:
      return "an object";
    case dom::element_type::STRING:
      return "a text";
    case dom::element_type::BOOL:
      return "true or false";
    case dom::element_type::NULL_VALUE:
      return "null";
    default:
      return "a number";
  }
}

std::string Describe(dom::element value) {
  return value.is_number() ? simdjson::minify(value) : std::string(TypeName(value));
}

absl::Status ReadNumbers(dom::array data, DType dtype, const Shape& shape, int64_t count, void* out) {
  switch (dtype) {
    case DType::kFloat32:
      return FillNumbers(data, dtype, shape, count, static_cast<float*>(out));
    case DType::kFloat64:
      return FillNumbers(data, dtype, shape, count, static_cast<double*>(out));
    case DType::kInt8:
      return FillNumbers(data, dtype, shape, count, static_cast<int8_t*>(out));
    case DType::kInt16:
      return FillNumbers(data, dtype, shape, count, static_cast<int16_t*>(out));
    case DType::kInt32:
      return FillNumbers(data, dtype, shape, count, static_cast<int32_t*>(out));
    case DType::kInt64:
      return FillNumbers(data, dtype, shape, count, static_cast<int64_t*>(out));
    case DType::kUint8:
      return FillNumbers(data, dtype, shape, count, static_cast<uint8_t*>(out));
    case DType::kUint16:
      return FillNumbers(data, dtype, shape, count, static_cast<uint16_t*>(out));
    case DType::kUint32:
      return FillNumbers(data, dtype, shape, count, static_cast<uint32_t*>(out));
    case DType::kUint64:
      return FillNumbers(data, dtype, shape, count, static_cast<uint64_t*>(out));
    case DType::kBool:
      return FillNumbers(data, dtype, shape, count, static_cast<bool*>(out));
    default:
      return InvalidArgument("datatype ", ProtocolName(dtype), " cannot be given in JSON; send it as binary data");
  }
}

absl::Status ReadTexts(dom::array data, const Shape& shape, int64_t count, std::string* out) {
  int64_t found = 0;
  TANDEM_RETURN_IF_ERROR(ForEachLeaf(data, [&](dom::element element) -> absl::Status {
    std::string_view text;
    if (element.get(text) != simdjson::SUCCESS) {
      return InvalidArgument("element ", found, " of 'data' is ", TypeName(element), ", must be a text");
    }
    auto length = static_cast<uint32_t>(text.size());
    out->append(reinterpret_cast<const char*>(&length), sizeof length).append(text);
    ++found;
    return absl::OkStatus();
  }));
  if (found != count) return WrongCount(shape, count, found > count ? "more" : "fewer");
  return absl::OkStatus();
}

}  // namespace tandem::api::http
