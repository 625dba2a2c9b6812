#include <gtest/gtest.h>

#include <map>
#include <numeric>
#include <vector>

#include "data/dataset.h"

namespace tandem::data {
namespace {

constexpr int64_t kHeight = 5, kWidth = 7, kChannels = 2;
const Shape kShape = {kChannels, kHeight, kWidth};

std::vector<float> Numbered() {
  std::vector<float> image(kChannels * kHeight * kWidth);
  std::iota(image.begin(), image.end(), 1.0f);
  return image;
}

float At(const std::vector<float>& image, int64_t c, int64_t y, int64_t x) {
  if (y < 0 || y >= kHeight || x < 0 || x >= kWidth) return 0;
  return image[(c * kHeight + y) * kWidth + x];
}

// The image moved and perhaps mirrored, written the slow way.
std::vector<float> Expected(int64_t dy, int64_t dx, bool flip) {
  const std::vector<float> image = Numbered();
  std::vector<float> out;
  for (int64_t c = 0; c < kChannels; ++c) {
    for (int64_t y = 0; y < kHeight; ++y) {
      for (int64_t x = 0; x < kWidth; ++x) out.push_back(At(image, c, y + dy, (flip ? kWidth - 1 - x : x) + dx));
    }
  }
  return out;
}

TEST(Augment, DoesNothingWhenNothingIsAskedFor) {
  std::vector<float> image = Numbered();
  Augment({}, kShape, 1, 2, 3, image);
  EXPECT_EQ(image, Numbered());
}

TEST(Augment, FlipsHalfOfTheImages) {
  int flipped = 0;
  for (int64_t sample = 0; sample < 1000; ++sample) {
    std::vector<float> image = Numbered();
    Augment({.flip = true}, kShape, 1, 0, sample, image);
    if (image == Expected(0, 0, true)) {
      ++flipped;
    } else {
      ASSERT_EQ(image, Numbered());
    }
  }
  EXPECT_NEAR(flipped, 500, 80);
}

TEST(Augment, CropsToEveryOffsetWithZerosAround) {
  std::map<std::vector<float>, int> seen;
  for (int64_t dy = -2; dy <= 2; ++dy) {
    for (int64_t dx = -2; dx <= 2; ++dx) {
      for (bool flip : {false, true}) seen[Expected(dy, dx, flip)] = 0;
    }
  }
  ASSERT_EQ(seen.size(), 50u);
  for (int64_t sample = 0; sample < 5000; ++sample) {
    std::vector<float> image = Numbered();
    Augment({.flip = true, .crop_padding = 2}, kShape, 9, 4, sample, image);
    ASSERT_EQ(seen.count(image), 1u);
    ++seen[image];
  }
  for (const auto& [image, count] : seen) EXPECT_NEAR(count, 100, 60);
}

TEST(Augment, IsKeyedBySeedEpochAndSample) {
  auto run = [](uint64_t seed, uint64_t epoch) {
    std::vector<float> all;
    for (int64_t sample = 0; sample < 20; ++sample) {
      std::vector<float> image = Numbered();
      Augment({.flip = true, .crop_padding = 2}, kShape, seed, epoch, sample, image);
      all.insert(all.end(), image.begin(), image.end());
    }
    return all;
  };
  EXPECT_EQ(run(1, 1), run(1, 1));
  EXPECT_NE(run(1, 1), run(1, 2));
  EXPECT_NE(run(1, 1), run(2, 1));
}

TEST(Augment, LeavesFeatureVectorsAloneAndBearsGiantPadding) {
  std::vector<float> vector = {1, 2, 3};
  Augment({.flip = true, .crop_padding = 4}, {3}, 1, 1, 1, vector);
  EXPECT_EQ(vector, (std::vector<float>{1, 2, 3}));
  for (int64_t sample = 0; sample < 50; ++sample) {
    std::vector<float> image = Numbered();
    Augment({.crop_padding = int64_t{1} << 40}, kShape, 1, 1, sample, image);
  }
}

}  // namespace
}  // namespace tandem::data
