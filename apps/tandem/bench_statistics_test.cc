#include "tandem/bench_statistics.h"

#include <gtest/gtest.h>

#include <numeric>

namespace tandem::cli {
namespace {

TEST(Quantile, IsAValueThatWasMeasured) {
  std::vector<double> values(1000);
  std::iota(values.begin(), values.end(), 1);
  EXPECT_EQ(Quantile(values, 0.5), 501);
  EXPECT_EQ(Quantile(values, 0.99), 991);
  EXPECT_EQ(Quantile(values, 0.999), 1000);
  EXPECT_EQ(Quantile(values, 1), 1000);
  EXPECT_EQ(Quantile(std::vector<float>{}, 0.99), 0);
}

TEST(Median, IsTheMiddleOrTheMeanOfTheTwoInTheMiddle) {
  EXPECT_EQ(Median({9, 1, 2}), 2);
  EXPECT_EQ(Median({4, 1, 2, 9}), 3);
  EXPECT_EQ(Median({}), 0);
}

TEST(BootstrapMedian, EnclosesTheMedianAndStaysWithinTheValues) {
  std::vector<double> values = {1.00, 1.02, 0.98, 1.01, 1.05, 0.97, 1.03, 1.00, 0.99};
  std::optional<Interval> interval = BootstrapMedian(values);
  ASSERT_TRUE(interval.has_value());
  EXPECT_LE(interval->low, 1.00);
  EXPECT_GE(interval->high, 1.00);
  EXPECT_GE(interval->low, 0.97);
  EXPECT_LE(interval->high, 1.05);
  EXPECT_LT(interval->low, interval->high);
}

TEST(BootstrapMedian, OneOutlierAmongNineMovesIntervalAndMedianLittle) {
  std::optional<Interval> interval = BootstrapMedian({1.0, 1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0, 40});
  ASSERT_TRUE(interval.has_value());
  EXPECT_LT(interval->high, 1.05);
}

TEST(BootstrapMedian, SaysTheSameForTheSameValuesAndNothingForTwo) {
  std::vector<double> values = {3, 1, 4, 1, 5, 9, 2, 6, 5};
  EXPECT_EQ(BootstrapMedian(values)->low, BootstrapMedian(values)->low);
  EXPECT_EQ(BootstrapMedian(values)->high, BootstrapMedian(values)->high);
  EXPECT_FALSE(BootstrapMedian({1, 2}).has_value());
}

TEST(ShareWithin, CountsFailuresAsTooLate) {
  EXPECT_DOUBLE_EQ(ShareWithin({1, 2, 3, 4}, 0, 3), 0.75);
  EXPECT_DOUBLE_EQ(ShareWithin({1, 2, 3, 4}, 4, 3), 0.375);
  EXPECT_DOUBLE_EQ(ShareWithin({}, 0, 3), 0);
}

}  // namespace
}  // namespace tandem::cli
