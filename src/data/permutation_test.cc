#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "data/dataset.h"

namespace tandem::data {
namespace {

std::vector<int64_t> All(uint64_t seed, uint64_t epoch, int64_t n) {
  Permutation permutation(seed, epoch, n);
  std::vector<int64_t> out;
  for (int64_t i = 0; i < n; ++i) out.push_back(permutation(i));
  return out;
}

TEST(Permutation, IsABijectionForEverySize) {
  for (int64_t n : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 63, 64, 65, 100, 255, 256, 257, 1000, 4096, 4097, 54000}) {
    std::vector<bool> seen(n, false);
    for (int64_t value : All(11, 3, n)) {
      ASSERT_GE(value, 0);
      ASSERT_LT(value, n);
      ASSERT_FALSE(seen[value]) << n;
      seen[value] = true;
    }
  }
}

TEST(Permutation, DependsOnSeedAndEpochAlone) {
  EXPECT_EQ(All(1, 2, 1000), All(1, 2, 1000));
  EXPECT_NE(All(1, 2, 1000), All(1, 3, 1000));
  EXPECT_NE(All(1, 2, 1000), All(2, 2, 1000));
}

TEST(Permutation, LeavesLittleOfTheOrder) {
  constexpr int64_t kCount = 10'000;
  std::vector<int64_t> values = All(5, 0, kCount);
  int fixed = 0, neighbours = 0;
  double covariance = 0;
  for (int64_t i = 0; i < kCount; ++i) {
    fixed += values[i] == i ? 1 : 0;
    neighbours += i > 0 && std::abs(values[i] - values[i - 1]) == 1 ? 1 : 0;
    covariance += (static_cast<double>(i) / kCount - 0.5) * (static_cast<double>(values[i]) / kCount - 0.5);
  }
  EXPECT_LT(fixed, 10);
  EXPECT_LT(neighbours, 20);
  EXPECT_LT(std::abs(covariance / kCount * 12), 0.05);  // the correlation
}

TEST(Permutation, PutsEachSampleEverywhereOverTheEpochs) {
  std::vector<int> count(10, 0);
  for (uint64_t epoch = 0; epoch < 10'000; ++epoch) ++count[Permutation(1, epoch, 10)(3)];
  for (int c : count) EXPECT_NEAR(c, 1000, 200);
}

TEST(Permutation, WorksFarBeyondMemory) {
  Permutation permutation(1, 1, int64_t{1} << 50);
  EXPECT_NE(permutation(0), permutation(1));
  EXPECT_LT(permutation((int64_t{1} << 50) - 1), int64_t{1} << 50);
}

}  // namespace
}  // namespace tandem::data
