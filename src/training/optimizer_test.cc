#include "training/optimizer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>

namespace tandem::training {
namespace {

at::Tensor Doubles(std::vector<double> values) { return at::tensor(values, at::kDouble); }

void Step(Optimizer* optimizer, int64_t step, double lr, const at::Tensor& gradient) {
  optimizer->Begin(step, lr);
  optimizer->Update(0, gradient, 0, gradient.numel());
}

TEST(Sgd, FollowsPyTorchWithNesterovMomentumAndDecay) {
  at::Tensor weight = Doubles({1.0, -2.0});
  auto optimizer = MakeOptimizer({.name = "sgd", .momentum = 0.9, .nesterov = true, .weight_decay = 0.1}, {weight});
  double w = 1.0, v = 0;
  for (int step = 0; step < 3; ++step) {
    Step(optimizer.get(), step, 0.5, Doubles({0.25, 0.5}));
    double d = 0.25 + 0.1 * w;
    v = step == 0 ? d : 0.9 * v + d;
    w -= 0.5 * (d + 0.9 * v);
    EXPECT_DOUBLE_EQ(weight[0].item<double>(), w);
  }
  // By hand: 0.35 * 1.9 * 0.5 off in the first step.
  at::Tensor once = Doubles({1.0});
  auto first = MakeOptimizer({.name = "sgd", .momentum = 0.9, .nesterov = true, .weight_decay = 0.1}, {once});
  Step(first.get(), 0, 0.5, Doubles({0.25}));
  EXPECT_DOUBLE_EQ(once.item<double>(), 1.0 - 0.3325);
}

TEST(Sgd, WithoutNesterovStepsAlongTheVelocity) {
  at::Tensor weight = Doubles({0.0});
  auto optimizer = MakeOptimizer({.name = "sgd", .momentum = 0.5, .nesterov = false, .weight_decay = 0}, {weight});
  Step(optimizer.get(), 0, 0.1, Doubles({1.0}));
  EXPECT_DOUBLE_EQ(weight.item<double>(), -0.1);
  Step(optimizer.get(), 1, 0.1, Doubles({1.0}));
  EXPECT_DOUBLE_EQ(weight.item<double>(), -0.1 - 0.15);
}

TEST(AdamW, FollowsPyTorchWithDecoupledDecay) {
  at::Tensor weight = Doubles({2.0});
  spec::OptimizerSpec spec{.name = "adamw", .weight_decay = 0.1, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
  auto optimizer = MakeOptimizer(spec, {weight});
  double w = 2.0, m = 0, s = 0;
  const double gradients[] = {0.5, -1.5, 0.25};
  for (int step = 0; step < 3; ++step) {
    double g = gradients[step];
    Step(optimizer.get(), step, 0.01, Doubles({g}));
    w *= 1 - 0.01 * 0.1;
    m = 0.9 * m + 0.1 * g;
    s = 0.999 * s + 0.001 * g * g;
    double t = step + 1;
    w -= 0.01 * (m / (1 - std::pow(0.9, t))) / (std::sqrt(s / (1 - std::pow(0.999, t))) + 1e-8);
    EXPECT_NEAR(weight.item<double>(), w, 1e-14);
  }
}

TEST(Optimizer, GivesTheSameBytesWhenUpdatedInRanges) {
  for (const char* name : {"sgd", "adamw"}) {
    at::Tensor whole = at::arange(1000, at::kFloat) / 7, parts = whole.clone(), gradient = whole.sin();
    auto one = MakeOptimizer({.name = name}, {whole}), two = MakeOptimizer({.name = name}, {parts});
    one->Begin(0, 0.1);
    one->Update(0, gradient, 0, 1000);
    two->Begin(0, 0.1);
    two->Update(0, gradient, 333, 1000);
    two->Update(0, gradient, 0, 333);
    EXPECT_TRUE(whole.equal(parts)) << name;
    for (size_t i = 0; i < one->State().size(); ++i) {
      EXPECT_TRUE(one->State()[i].second[0].equal(two->State()[i].second[0])) << name;
    }
  }
}

}  // namespace
}  // namespace tandem::training
