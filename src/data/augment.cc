#include <algorithm>
#include <cstring>

#include "data/dataset.h"

namespace tandem::data {
namespace {

// Moves a plane so that out(y, x) = in(y + dy, x + dx), with 0 where that lies outside. In place: the rows are taken in
// the order in which no row is overwritten before it is read.
void ShiftPlane(float* plane, int64_t height, int64_t width, int64_t dy, int64_t dx) {
  const int64_t first = std::max<int64_t>(0, -dx), last = std::min(width, width - dx);  // columns with a source
  for (int64_t i = 0; i < height; ++i) {
    int64_t y = dy >= 0 ? i : height - 1 - i;
    float* row = plane + y * width;
    if (y + dy < 0 || y + dy >= height || first >= last) {
      std::fill_n(row, width, 0.0f);
      continue;
    }
    std::memmove(row + first, plane + (y + dy) * width + first + dx, (last - first) * sizeof(float));
    std::fill(row, row + first, 0.0f);
    std::fill(row + last, row + width, 0.0f);
  }
}

}  // namespace

void Augment(const Augmentation& augmentation, const Shape& shape, uint64_t seed, uint64_t epoch, int64_t sample,
             std::span<float> image) {
  if (shape.size() != 3) return;
  const int64_t channels = shape[0], height = shape[1], width = shape[2];
  if (augmentation.crop_padding > 0) {
    RandomStream stream(seed, Purpose::kCrop, epoch, sample);
    // Padding beyond the image's own size would only make more black images.
    auto offset = [&](int64_t size) {
      int64_t padding = std::min(augmentation.crop_padding, size);
      return int64_t{stream.Below(static_cast<uint32_t>(2 * padding + 1))} - padding;
    };
    const int64_t dy = offset(height), dx = offset(width);
    for (int64_t c = 0; c < channels && (dy != 0 || dx != 0); ++c) {
      ShiftPlane(image.data() + c * height * width, height, width, dy, dx);
    }
  }
  if (augmentation.flip && (RandomStream(seed, Purpose::kFlip, epoch, sample).Next() & 1) != 0) {
    for (int64_t row = 0; row < channels * height; ++row) {
      float* begin = image.data() + row * width;
      std::reverse(begin, begin + width);
    }
  }
}

}  // namespace tandem::data
