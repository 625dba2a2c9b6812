#pragma once
// Values out of parsed JSON, with messages that say what was found instead; whole tensors from nested or flat arrays.
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>

#include "absl/status/status.h"
#include "base/status.h"
#include "base/tensor.h"
#include "simdjson.h"

namespace tandem::api::http {

// "an array", "a text", ...
std::string_view TypeName(simdjson::dom::element value);

// The number itself, or the type's name.
std::string Describe(simdjson::dom::element value);

// One number of JSON as T; false when it is none or does not fit.
template <typename T>
bool ConvertNumber(simdjson::dom::element value, T* out) {
  if constexpr (std::is_same_v<T, bool>) {
    int64_t number;
    if (value.get(*out) == simdjson::SUCCESS) return true;
    if (value.get(number) != simdjson::SUCCESS || (number != 0 && number != 1)) return false;
    *out = number == 1;
    return true;
  } else if constexpr (std::is_floating_point_v<T>) {
    double number;
    if (value.get(number) != simdjson::SUCCESS) return false;
    *out = static_cast<T>(number);
    return std::isfinite(*out);
  } else {
    using Wide = std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>;
    Wide number;
    if (value.get(number) != simdjson::SUCCESS) return false;
    *out = static_cast<T>(number);
    return number >= std::numeric_limits<T>::min() && number <= std::numeric_limits<T>::max();
  }
}

// Gets a typed value or says what it is instead.
template <typename T>
absl::Status Get(simdjson::dom::element value, std::string_view what, std::string_view wanted, T* out) {
  if (value.get(*out) == simdjson::SUCCESS) return absl::OkStatus();
  return InvalidArgument(what, " is ", TypeName(value), ", must be ", wanted);
}

// Reads `count` = ElementCount(shape) numbers into `out`, which has room for them. Any nesting is accepted, the order
// is row-major. InvalidArgument for a wrong number of elements, one that is no number of this type, or a type that JSON
// cannot hold.
absl::Status ReadNumbers(simdjson::dom::array data, DType dtype, const Shape& shape, int64_t count, void* out);

// The same for BYTES: appends each text with its length in front, as on the wire.
absl::Status ReadTexts(simdjson::dom::array data, const Shape& shape, int64_t count, std::string* out);

}  // namespace tandem::api::http
