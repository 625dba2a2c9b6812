#include "training/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "training/plan.h"

namespace tandem::training {
namespace {

TEST(LearningRate, ConstantRisesThenStays) {
  spec::ScheduleSpec schedule{.name = "constant", .warmup_fraction = 0.3};
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 0.4, 0, 10), 0.1);
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 0.4, 2, 10), 0.3);
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 0.4, 3, 10), 0.4);
  EXPECT_DOUBLE_EQ(LearningRate(schedule, 0.4, 9, 10), 0.4);
}

TEST(LearningRate, CosineIsPyTorchsAnnealing) {
  spec::ScheduleSpec schedule{.name = "cosine", .warmup_fraction = 0, .final_fraction = 0.1};
  for (int step = 0; step < 8; ++step) {
    double expected = 0.02 + (0.2 - 0.02) * (1 + std::cos(std::numbers::pi * step / 8)) / 2;
    EXPECT_NEAR(LearningRate(schedule, 0.2, step, 8), expected, 1e-15);
  }
}

TEST(LearningRate, OneCycleRisesFromATwentyFifthAndEndsLow) {
  spec::ScheduleSpec schedule{.name = "one_cycle", .warmup_fraction = 0.3, .final_fraction = 1e-4};
  EXPECT_NEAR(LearningRate(schedule, 1.0, 0, 10), 0.04, 1e-15);
  EXPECT_NEAR(LearningRate(schedule, 1.0, 1, 10), 0.52, 1e-15);
  EXPECT_NEAR(LearningRate(schedule, 1.0, 2, 10), 1.0, 1e-15);
  EXPECT_NEAR(LearningRate(schedule, 1.0, 9, 10), 1e-4, 1e-15);
}

TEST(LearningRate, IsFiniteAndPositiveForAnyLength) {
  for (const char* name : {"constant", "cosine", "one_cycle"}) {
    for (double warmup : {0.0, 0.3, 1.0}) {
      for (int steps : {1, 2, 3, 7}) {
        for (int step = 0; step < steps; ++step) {
          double lr = LearningRate({.name = name, .warmup_fraction = warmup, .final_fraction = 0.01}, 1, step, steps);
          EXPECT_TRUE(lr > 0 && lr <= 1) << name << " " << warmup << " " << step << "/" << steps << ": " << lr;
        }
      }
    }
  }
}

TEST(Plan, CoversEachEpochOnceAndKeepsTheSmallerLastBatch) {
  spec::TrainSpec spec;
  spec.batch = 40;
  Plan plan(100, spec);
  EXPECT_EQ(plan.StepsPerEpoch(), 3);
  EXPECT_EQ(plan.At(0).count, 40);
  EXPECT_EQ(plan.At(2).first, 80);
  EXPECT_EQ(plan.At(2).count, 20);
  EXPECT_EQ(plan.At(3).epoch, 1);
  EXPECT_EQ(plan.At(3).first, 0);
}

TEST(Plan, SplitsIntoNearlyEqualMicroBatchesOfAtMostTheSize) {
  spec::TrainSpec spec;
  spec.batch = 128;
  Plan plan(1000, spec);
  EXPECT_EQ(plan.micro_batch(), 32);
  EXPECT_EQ(plan.Split(128).size(), 4u);
  for (int64_t count = 1; count <= 128; ++count) {
    int64_t at = 0;
    for (const MicroBatch& part : plan.Split(count)) {
      EXPECT_EQ(part.begin, at);
      EXPECT_GE(part.size(), 1);
      EXPECT_LE(part.size(), 32);
      at = part.end;
    }
    EXPECT_EQ(at, count);
  }
}

TEST(Plan, ABatchLargerThanTheSetIsTheSet) {
  spec::TrainSpec spec;
  spec.batch = 128;
  spec.micro_batch = 128;
  Plan plan(10, spec);
  EXPECT_EQ(plan.StepsPerEpoch(), 1);
  EXPECT_EQ(plan.At(5).epoch, 5);
  EXPECT_EQ(plan.Split(10).size(), 1u);
}

}  // namespace
}  // namespace tandem::training
