#pragma once
// What two versions answered to the same request, compared element by element.
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "base/tensor.h"

namespace tandem::serving {

struct Comparison {
  bool equal = true;  // every element within kAbsoluteTolerance + kRelativeTolerance * its larger value
  double max_absolute = 0, max_relative = 0;  // of numbers; infinite where one is NaN and the other is not
  // Of floating point outputs [rows, classes] with two classes or more: rows, and those whose largest element is the
  // same one.
  int64_t rows = 0, same_class = 0;
};
constexpr double kAbsoluteTolerance = 1e-5;
constexpr double kRelativeTolerance = 1e-4;

// Outputs are matched by their place. Strings and booleans are equal or not. InvalidArgument when number, dtype or
// shape of the outputs differ, or a buffer is too short.
absl::StatusOr<Comparison> Compare(const std::vector<Tensor>& expected, const std::vector<Tensor>& actual);

}  // namespace tandem::serving
