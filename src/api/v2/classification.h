#pragma once
// The extension classification: the best classes of an output instead of all its values.
#include <cstdint>

#include "absl/status/status.h"
#include "base/tensor.h"
#include "spec/model_config.h"

namespace tandem::api::v2 {

// Replaces a tensor of numbers by BYTES "value:index" or "value:index:label", the largest value first, equal ones in
// their order, NaN last. With batching each row of the first dimension has its own (shape [rows, n]), else the whole
// tensor is one row (shape [n]); n = `classes`, or the row's length if that is less. Values are written as %f, integers
// in full. Labels: config.labels of the output. InvalidArgument for BYTES.
absl::Status ReplaceByClasses(const spec::ModelConfig& config, int64_t classes, Tensor* tensor);

}  // namespace tandem::api::v2
