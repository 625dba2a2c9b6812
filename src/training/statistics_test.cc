#include "training/statistics.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

namespace tandem::training {
namespace {

// [n, channels] samples whose columns differ in mean and spread.
at::Tensor Samples(int64_t n) { return (at::arange(n * 3, at::kDouble).view({n, 3}) * 0.37).sin() * 2 + 1; }

interpreter::BatchStatistics Of(const at::Tensor& samples) {
  return {.mean_name = "mean",
          .variance_name = "variance",
          .mean = samples.mean(0),
          .variance = samples.var(0, /*unbiased=*/false),
          .unbiased_variance = samples.var(0, /*unbiased=*/true),
          .n = samples.size(0)};
}

TEST(PoolStatistics, EqualsTheStatisticsOfAllSamplesTogether) {
  at::Tensor samples = Samples(20);
  auto a = Of(samples.narrow(0, 0, 7)), b = Of(samples.narrow(0, 7, 13));
  interpreter::BatchStatistics pooled = PoolStatistics({&a, &b});
  EXPECT_EQ(pooled.n, 20);
  EXPECT_TRUE(pooled.mean.allclose(samples.mean(0), 1e-12, 1e-12));
  EXPECT_TRUE(pooled.variance.allclose(samples.var(0, false), 1e-12, 1e-12));
  EXPECT_TRUE(pooled.unbiased_variance.allclose(samples.var(0, true), 1e-12, 1e-12));
}

TEST(UpdateRunningStatistics, EqualsPyTorchsBatchNormForOneMicroBatch) {
  at::Tensor samples = Samples(11), mean = at::zeros({3}, at::kDouble), variance = at::ones({3}, at::kDouble);
  at::batch_norm(samples, {}, {}, mean, variance, /*training=*/true, 0.1, 1e-5, false);
  interpreter::Values values{{"mean", at::zeros({3}, at::kDouble)}, {"variance", at::ones({3}, at::kDouble)}};
  ASSERT_TRUE(UpdateRunningStatistics({{Of(samples)}}, values).ok());
  EXPECT_TRUE(values["mean"].allclose(mean, 1e-14, 1e-14));
  EXPECT_TRUE(values["variance"].allclose(variance, 1e-14, 1e-14));
}

TEST(UpdateRunningStatistics, OnnxRuleKeepsThePopulationVariance) {
  at::Tensor samples = Samples(11);
  auto statistics = Of(samples);
  statistics.onnx_rule = true;
  interpreter::Values values{{"mean", at::zeros({3}, at::kDouble)}, {"variance", at::zeros({3}, at::kDouble)}};
  ASSERT_TRUE(UpdateRunningStatistics({{statistics}}, values).ok());
  EXPECT_TRUE(values["variance"].allclose(samples.var(0, false) * 0.1, 1e-14, 1e-14));
}

TEST(UpdateRunningStatistics, AMicroBatchThatReportsNothingIsLeftOut) {
  at::Tensor samples = Samples(5);
  interpreter::Values values{{"mean", at::zeros({3}, at::kDouble)}, {"variance", at::ones({3}, at::kDouble)}};
  ASSERT_TRUE(UpdateRunningStatistics({{}, {Of(samples)}, {}}, values).ok());
  EXPECT_TRUE(values["mean"].allclose(samples.mean(0) * 0.1, 1e-14, 1e-14));
}

TEST(UpdateRunningStatistics, NamesStatisticsThatAreNoInitialisers) {
  EXPECT_FALSE(UpdateRunningStatistics({{Of(Samples(4))}}, {}).ok());
}

}  // namespace
}  // namespace tandem::training
