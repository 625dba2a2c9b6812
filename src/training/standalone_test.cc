#include "training/standalone.h"

#include <gtest/gtest.h>

#include <limits>

#include "training/trainer.h"

namespace tandem::training {
namespace {

TEST(Standalone, ANumberThatIsNotFiniteIsNullInTheResult) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  TrainerOutcome outcome{.step = 20,
                         .metrics = {{"accuracy", 0.25},
                                     {"loss", std::numeric_limits<double>::quiet_NaN()},
                                     {"seconds", -kInfinity},
                                     {"train_loss", kInfinity}},
                         .idle_share = 0.125};
  EXPECT_EQ(ResultLine(outcome, "ab12"),
            "{\"stopped\": false, \"step\": 20, \"accuracy\": 0.25, \"loss\": null, \"seconds\": null, "
            "\"train_loss\": null, \"idle_share\": 0.1250, \"sha256\": \"ab12\"}\n");
}

TEST(Standalone, AStoppedRunHasNoFileToSayTheHashOf) {
  EXPECT_EQ(ResultLine({.stopped = true, .step = 3}, ""), "{\"stopped\": true, \"step\": 3, \"idle_share\": 0.0000}\n");
}

}  // namespace
}  // namespace tandem::training
