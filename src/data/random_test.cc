#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

#include "data/dataset.h"
#include "data/philox.h"

namespace tandem::data {
namespace {

// The known answers that the authors publish with their Random123 library.
TEST(PhiloxBlock, GivesThePublishedAnswers) {
  EXPECT_EQ(Philox({0, 0, 0, 0}, {0, 0}), (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomStream, RepeatsItselfAndDiffersInEachPartOfItsName) {
  auto first = [](RandomStream stream) { return std::vector<uint32_t>{stream.Next(), stream.Next(), stream.Next()}; };
  EXPECT_EQ(first({1, Purpose::kFlip, 2, 3}), first({1, Purpose::kFlip, 2, 3}));
  std::set<std::vector<uint32_t>> all = {
      first({1, Purpose::kFlip, 2, 3}),          first({2, Purpose::kFlip, 2, 3}),
      first({1, Purpose::kCrop, 2, 3}),          first({1, Purpose::kFlip, 3, 3}),
      first({1, Purpose::kFlip, 2, 4}),          first({1, Purpose::kFlip, 3, 2}),
      first({1ull << 32, Purpose::kFlip, 2, 3}), first({1, Purpose::kFlip, 2ull << 32, 3}),
      first({1, Purpose::kFlip, 2, 3ull << 32})};
  EXPECT_EQ(all.size(), 9u);
}

TEST(RandomStream, DoesNotRepeatWithinManyBlocks) {
  RandomStream stream(7, Purpose::kInit, 0);
  std::set<uint64_t> seen;
  for (int i = 0; i < 10'000; ++i) {
    uint64_t high = stream.Next();
    EXPECT_TRUE(seen.insert(high << 32 | stream.Next()).second);
  }
}

TEST(RandomStream, BelowIsUniformAndStaysBelow) {
  RandomStream stream(1, Purpose::kShuffle, 0);
  std::vector<int> count(7, 0);
  for (int i = 0; i < 70'000; ++i) {
    uint32_t value = stream.Below(7);
    ASSERT_LT(value, 7u);
    ++count[value];
  }
  for (int c : count) EXPECT_NEAR(c, 10'000, 500);
  EXPECT_EQ(stream.Below(1), 0u);
}

TEST(RandomStream, BelowHasNoBiasForALargeBound) {
  // Without rejection, the lower third of 3 * 2^30 would come twice as often as the rest.
  RandomStream stream(1, Purpose::kShuffle, 1);
  const uint32_t bound = 3u << 30;
  int low = 0;
  for (int i = 0; i < 30'000; ++i) low += stream.Below(bound) % 3 == 0 ? 1 : 0;
  EXPECT_NEAR(low, 10'000, 400);
}

TEST(RandomStream, UniformAndNormalHaveTheirMoments) {
  RandomStream stream(3, Purpose::kInit, 5);
  double uniform = 0, normal = 0, square = 0;
  constexpr int kCount = 50'000;
  for (int i = 0; i < kCount; ++i) {
    double u = stream.Uniform(), n = stream.Normal();
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    ASSERT_TRUE(std::isfinite(n));
    uniform += u;
    normal += n;
    square += n * n;
  }
  EXPECT_NEAR(uniform / kCount, 0.5, 0.01);
  EXPECT_NEAR(normal / kCount, 0.0, 0.02);
  EXPECT_NEAR(square / kCount, 1.0, 0.03);
}

}  // namespace
}  // namespace tandem::data
