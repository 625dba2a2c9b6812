#include "engine/difference.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "base/status.h"
#include "base/tensor.h"

namespace tandem::engine {
namespace {

std::string Describe(const wire::SampleTensor& tensor) {
  return StrCat(ProtocolName(static_cast<DType>(tensor.dtype())), " ",
                ToString(Shape(tensor.shape().begin(), tensor.shape().end())));
}

template <typename T>
T Read(const std::string& data, size_t index) {
  T value;
  std::memcpy(&value, data.data() + index * sizeof(T), sizeof(T));
  return value;
}

double NumberAt(DType dtype, const std::string& data, size_t index) {
  switch (dtype) {
    case DType::kFloat32:
      return Read<float>(data, index);
    case DType::kFloat64:
      return Read<double>(data, index);
    case DType::kFloat16:
      return FromFloat16(Read<uint16_t>(data, index));
    default:
      return FromBFloat16(Read<uint16_t>(data, index));
  }
}

bool HasFractions(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kFloat64 || dtype == DType::kFloat16 || dtype == DType::kBFloat16;
}

// Gives what no accuracy explains; "" if nothing.
std::string CompareNumbers(const wire::SampleTensor& reference, const wire::SampleTensor& actual,
                           wire::Measurement* found) {
  const auto dtype = static_cast<DType>(reference.dtype());
  const size_t count = reference.data().size() / ByteSize(dtype);
  double difference = 0, scale = 0;
  for (size_t i = 0; i < count; ++i) {
    const double a = NumberAt(dtype, reference.data(), i), b = NumberAt(dtype, actual.data(), i);
    if (std::isfinite(a)) scale = std::max(scale, std::abs(a));
    if (a == b || (std::isnan(a) && std::isnan(b))) continue;
    if (!std::isfinite(a) || !std::isfinite(b)) {
      return StrCat("output '", reference.name(), "' has ", b, " at ", i, ", where the reference has ", a);
    }
    difference = std::max(difference, std::abs(a - b));
  }
  found->set_max_difference(std::max(found->max_difference(), difference));
  // An output of zeros has no scale: a difference there counts by itself.
  found->set_relative_difference(std::max(found->relative_difference(), difference / (scale > 0 ? scale : 1)));
  return "";
}

std::string CompareTensors(const wire::SampleTensor& reference, const wire::SampleTensor& actual,
                           wire::Measurement* found) {
  if (reference.dtype() != actual.dtype() || !std::ranges::equal(reference.shape(), actual.shape())) {
    return StrCat("output '", reference.name(), "' is ", Describe(actual), ", the reference's is ",
                  Describe(reference));
  }
  if (reference.data().size() == actual.data().size() && HasFractions(static_cast<DType>(reference.dtype()))) {
    return CompareNumbers(reference, actual, found);
  }
  if (reference.data() == actual.data()) return "";
  return StrCat("output '", reference.name(), "' (", Describe(reference), ") is not what the reference gives");
}

}  // namespace

void AddDifference(const wire::Sample& reference, const wire::Sample& actual, wire::Measurement* found) {
  found->set_compared(true);
  for (const wire::SampleTensor& expected : reference.tensors()) {
    auto same = [&](const wire::SampleTensor& tensor) { return tensor.name() == expected.name(); };
    auto it = std::ranges::find_if(actual.tensors(), same);
    const std::string problem = it == actual.tensors().end() ? StrCat("output '", expected.name(), "' is missing")
                                                             : CompareTensors(expected, *it, found);
    if (!problem.empty() && found->mismatch().empty()) found->set_mismatch(problem);
  }
}

}  // namespace tandem::engine
