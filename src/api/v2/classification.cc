#include "api/v2/classification.h"

#include <string.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/status.h"

namespace tandem::api::v2 {
namespace {

using Labels = std::vector<std::string>;

// As they lie in memory; only their values matter here.
struct Half {
  uint16_t bits;
};
struct BFloat {
  uint16_t bits;
};

float ToValue(BFloat value) {
  const uint32_t wide = static_cast<uint32_t>(value.bits) << 16;
  float out;
  memcpy(&out, &wide, sizeof out);
  return out;
}

// IEEE 754 binary16: 1 sign, 5 exponent (bias 15) and 10 fraction bits.
float ToValue(Half value) {
  const float sign = (value.bits & 0x8000) != 0 ? -1.0F : 1.0F;
  const int exponent = (value.bits >> 10) & 31, fraction = value.bits & 1023;
  if (exponent == 31) return fraction != 0 ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -24);
  return sign * std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
}

template <typename T>
T ToValue(T value) {
  return value;
}

template <typename V>
bool Better(V a, V b) {
  if constexpr (std::is_floating_point_v<V>) {
    if (std::isnan(a) || std::isnan(b)) return !std::isnan(a) && std::isnan(b);
  }
  return a > b;
}

template <typename V>
void AppendValue(V value, std::string* out) {
  char text[400];  // a double written as %f has at most 317 characters
  if constexpr (std::is_floating_point_v<V>) {
    out->append(text, snprintf(text, sizeof text, "%f", static_cast<double>(value)));
  } else {
    out->append(text, std::to_chars(text, text + sizeof text, value).ptr - text);
  }
}

void AppendElement(std::string_view element, std::string* out) {
  const auto length = static_cast<uint32_t>(element.size());
  out->append(reinterpret_cast<const char*>(&length), sizeof length).append(element);
}

// The best `count` of one row, as elements of BYTES.
template <typename T>
void AppendRow(const T* row, size_t length, size_t count, const Labels* labels, std::string* out) {
  std::vector<size_t> order(length);
  std::iota(order.begin(), order.end(), size_t{0});
  std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(count), order.end(),
                    [row](size_t a, size_t b) {
                      if (Better(ToValue(row[a]), ToValue(row[b]))) return true;
                      return !Better(ToValue(row[b]), ToValue(row[a])) && a < b;
                    });
  std::string element;
  for (size_t i = 0; i < count; ++i) {
    element.clear();
    AppendValue(ToValue(row[order[i]]), &element);
    StrAppend(&element, ":", order[i]);
    if (labels != nullptr && order[i] < labels->size()) StrAppend(&element, ":", (*labels)[order[i]]);
    AppendElement(element, out);
  }
}

struct Rows {
  int64_t rows = 1, length = 1;
  size_t count = 0;  // classes of each
};

template <typename T>
std::string AllRows(const Tensor& tensor, const Rows& rows, const Labels* labels) {
  std::string out;
  for (int64_t row = 0; row < rows.rows; ++row) {
    AppendRow(tensor.As<T>() + row * rows.length, static_cast<size_t>(rows.length), rows.count, labels, &out);
  }
  return out;
}

absl::StatusOr<std::string> Classes(const Tensor& tensor, const Rows& rows, const Labels* labels) {
  switch (tensor.dtype) {
    case DType::kFloat32:
      return AllRows<float>(tensor, rows, labels);
    case DType::kFloat64:
      return AllRows<double>(tensor, rows, labels);
    case DType::kFloat16:
      return AllRows<Half>(tensor, rows, labels);
    case DType::kBFloat16:
      return AllRows<BFloat>(tensor, rows, labels);
    case DType::kInt8:
      return AllRows<int8_t>(tensor, rows, labels);
    case DType::kInt16:
      return AllRows<int16_t>(tensor, rows, labels);
    case DType::kInt32:
      return AllRows<int32_t>(tensor, rows, labels);
    case DType::kInt64:
      return AllRows<int64_t>(tensor, rows, labels);
    case DType::kUint8:
    case DType::kBool:
      return AllRows<uint8_t>(tensor, rows, labels);
    case DType::kUint16:
      return AllRows<uint16_t>(tensor, rows, labels);
    case DType::kUint32:
      return AllRows<uint32_t>(tensor, rows, labels);
    case DType::kUint64:
      return AllRows<uint64_t>(tensor, rows, labels);
    default:
      return InvalidArgument("output '", tensor.name, "' is ", ProtocolName(tensor.dtype),
                             ", which has no classes; ask for it without 'classification'");
  }
}

}  // namespace

absl::Status ReplaceByClasses(const spec::ModelConfig& config, int64_t classes, Tensor* tensor) {
  const bool batched = config.max_batch_size > 0 && !tensor->shape.empty();
  TANDEM_ASSIGN_OR_RETURN(int64_t elements, ElementCount(tensor->shape));
  Rows rows{.rows = batched ? tensor->shape[0] : 1};
  rows.length = rows.rows == 0 ? 0 : elements / rows.rows;
  rows.count = static_cast<size_t>(std::min(classes, rows.length));
  auto labels = config.labels.find(tensor->name);
  TANDEM_ASSIGN_OR_RETURN(std::string bytes,
                          Classes(*tensor, rows, labels == config.labels.end() ? nullptr : &labels->second));
  tensor->shape =
      batched ? Shape{rows.rows, static_cast<int64_t>(rows.count)} : Shape{static_cast<int64_t>(rows.count)};
  tensor->dtype = DType::kString;
  tensor->buffer.Resize(bytes.size());
  memcpy(tensor->buffer.data(), bytes.data(), bytes.size());
  return absl::OkStatus();
}

}  // namespace tandem::api::v2
