#pragma once
#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace tandem::cli {

struct ImageCounts {
  int64_t train = 0, val = 0, test = 0;
};
// Writes a data set in the layout of Fashion-MNIST (IDX files, with a val split of its own): images of 28 x 28, noise
// with a bright bar whose place tells the class, of 10. The same bytes every time.
absl::Status WriteSyntheticImages(const std::string& folder, const ImageCounts& counts);

}  // namespace tandem::cli
