#include <algorithm>
#include <cmath>

#include "data/codec.h"

namespace tandem::data {
namespace {

// Which input positions one output position takes, and with what weights (they sum to 1).
struct Tap {
  int64_t first;
  std::vector<float> weights;
};

std::vector<Tap> TriangleTaps(int64_t in, int64_t out) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  const double radius = std::max(scale, 1.0);
  std::vector<Tap> taps(out);
  for (int64_t i = 0; i < out; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * scale;
    const int64_t first = std::max<int64_t>(0, std::llround(std::floor(centre - radius + 0.5)));
    const int64_t last = std::min(in, static_cast<int64_t>(std::floor(centre + radius + 0.5)));
    double sum = 0;
    std::vector<double> weights;
    for (int64_t x = first; x < last; ++x) {
      weights.push_back(std::max(0.0, 1.0 - std::abs(static_cast<double>(x) - centre + 0.5) / radius));
      sum += weights.back();
    }
    taps[i].first = first;
    for (double weight : weights) taps[i].weights.push_back(static_cast<float>(weight / sum));
  }
  return taps;
}

// Rows of the input, each shrunk or stretched to the taps' width.
std::vector<float> ResizeRows(const Pixels& image, const std::vector<Tap>& taps) {
  const int64_t channels = image.size.channels;
  std::vector<float> out(image.size.height * taps.size() * channels);
  float* target = out.data();
  for (int64_t y = 0; y < image.size.height; ++y) {
    const uint8_t* row = image.bytes.data() + y * image.size.width * channels;
    for (const Tap& tap : taps) {
      for (int64_t c = 0; c < channels; ++c) {
        const uint8_t* from = row + tap.first * channels + c;
        float sum = 0;
        for (size_t k = 0; k < tap.weights.size(); ++k) sum += tap.weights[k] * static_cast<float>(from[k * channels]);
        *target++ = sum;
      }
    }
  }
  return out;
}

}  // namespace

Pixels Resize(const Pixels& image, int64_t height, int64_t width) {
  const int64_t channels = image.size.channels, stride = width * channels;
  const std::vector<float> rows = ResizeRows(image, TriangleTaps(image.size.width, width));
  Pixels out{{channels, height, width}, std::vector<uint8_t>(height * stride)};
  std::vector<float> sums(stride);
  uint8_t* target = out.bytes.data();
  for (const Tap& tap : TriangleTaps(image.size.height, height)) {
    std::fill(sums.begin(), sums.end(), 0.0f);
    for (size_t k = 0; k < tap.weights.size(); ++k) {
      const float* row = rows.data() + (tap.first + static_cast<int64_t>(k)) * stride;
      for (int64_t x = 0; x < stride; ++x) sums[x] += tap.weights[k] * row[x];
    }
    for (float sum : sums) *target++ = static_cast<uint8_t>(std::clamp(sum + 0.5f, 0.0f, 255.0f));
  }
  return out;
}

}  // namespace tandem::data
