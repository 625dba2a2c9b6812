#pragma once
// Data sets that lie in memory as one array, and what every format needs to make one.
#include <string>
#include <string_view>
#include <vector>

#include "data/dataset.h"

namespace tandem::data {

// Bytes / 255 -> floats.
void BytesToFloats(const uint8_t* bytes, std::span<float> out);

// Samples of bytes, delivered as byte / 255. Sample i begins at `offset` + i * ElementCount(shape).
std::unique_ptr<Dataset> MakeByteDataset(std::string bytes, size_t offset, Shape shape, std::vector<int32_t> labels,
                                         int64_t classes);
// Samples of floats, delivered as they are.
std::unique_ptr<Dataset> MakeFloatDataset(std::vector<float> values, Shape shape, std::vector<int32_t> labels,
                                          int64_t classes);
// The samples of `base` that `indices` name.
std::unique_ptr<Dataset> MakeSubset(std::unique_ptr<Dataset> base, std::vector<int64_t> indices);

// No data set of a single machine has more; a larger label is a mistake, and would make a giant last layer.
inline constexpr int64_t kMaxClasses = 100'000;

// Narrows one label, and names the file and the sample when it is not 0..classes-1 (classes 0: not known yet).
absl::StatusOr<int32_t> CheckLabel(std::string_view file, int64_t sample, int64_t label, int64_t classes);
// `classes` if known, else the largest label + 1.
int64_t CountClasses(const std::vector<int32_t>& labels, int64_t classes);

}  // namespace tandem::data
