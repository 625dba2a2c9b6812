// What a version is run with before it serves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/status.h"
#include "serving/testing.h"

namespace tandem::serving {
namespace {

using testing::Copy;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Merging;
using testing::Served;

using WarmUpTest = testing::FunctionTest;

TEST_F(WarmUpTest, IsWarmedUpOnTheSizesThatBatchesWillHaveBeforeItServes) {
  spec::ModelConfig config = Merging(16);
  config.preferred_batch_sizes = {4, 8};
  Served model = Serve(config);
  ASSERT_TRUE(model.made.ok()) << model.made.status();
  EXPECT_THAT(runs_, ElementsAre(1, 1, 4, 8, 16)) << "one row twice: the first run tells nothing about the next";
  runs_.clear();
  config.preferred_batch_sizes = {16};
  config.instances = 2;
  Served two = Serve(config);
  EXPECT_THAT(runs_, ElementsAre(1, 1, 16, 1, 1, 16)) << "each instance";
}

TEST_F(WarmUpTest, IsWarmedUpOnOneRowWhereRequestsAreNotMerged) {
  Served model = Serve({});
  EXPECT_THAT(runs_, ElementsAre(1));
  runs_.clear();
  Served alone = Serve(Merging(1));
  EXPECT_THAT(runs_, ElementsAre(1));
}

TEST_F(WarmUpTest, IsWarmedUpOnTheSizesOfTheConfigurationAloneWhereItGivesThem) {
  spec::ModelConfig config = Merging(16);
  config.preferred_batch_sizes = {4, 8};
  config.warm_up_batch_sizes = {2, 3};
  Served model = Serve(config);
  EXPECT_THAT(runs_, ElementsAre(2, 3));
}

TEST_F(WarmUpTest, IsWarmedUpOnOneRowWhereARequestWaitsForTheLoad) {
  spec::ModelConfig config = Merging(16);
  config.lazy = true;
  Served model = Serve(config);
  ASSERT_TRUE(model.made.ok()) << model.made.status();
  EXPECT_THAT(runs_, ElementsAre(1));
}

TEST_F(WarmUpTest, BatchesAreWarmedUpForTwoSecondsAtMostByTheTimeThatTheirRowsWillTake) {
  spec::ModelConfig config = Merging(16);
  config.preferred_batch_sizes = {4, 8};
  config.instances = 2;
  Served model(
      config,
      [&](const std::vector<engine::InputView>& in, std::vector<Tensor>* out) {
        runs_.push_back(in[0].shape[0]);
        clock_.AdvanceMillis(300 * in[0].shape[0]);
        out->resize(1);
        Copy(in[0], "out", &(*out)[0]);
        return absl::OkStatus();
      },
      &clock_);
  ASSERT_TRUE(model.made.ok()) << model.made.status();
  // 0.3 s and 1.2 s of the two; what is left does for one row of the second instance, and 8 would take 2.4 s.
  EXPECT_THAT(runs_, ElementsAre(1, 1, 4, 1, 1));
}

TEST_F(WarmUpTest, ABatchThatCannotBeWarmedUpIsNoReasonNotToServe) {
  auto at_most_four = [&](const std::vector<engine::InputView>& in, std::vector<Tensor>* out) -> absl::Status {
    runs_.push_back(in[0].shape[0]);
    if (in[0].shape[0] > 4) return ResourceExhausted("too many rows");
    out->resize(1);
    Copy(in[0], "out", &(*out)[0]);
    return absl::OkStatus();
  };
  spec::ModelConfig config = Merging(16);
  config.preferred_batch_sizes = {4, 8};
  const std::vector<TensorSignature> inputs = {{"x", DType::kFloat32, {-1, 1}}};
  Served model(config, at_most_four, &clock_, nullptr, inputs);
  ASSERT_TRUE(model.made.ok()) << model.made.status();
  EXPECT_THAT(runs_, ElementsAre(1, 1, 4, 8)) << "none larger than the one that failed";
  config.warm_up_batch_sizes = {8};
  Served asked(config, at_most_four, &clock_, nullptr, inputs);
  EXPECT_THAT(std::string(asked.made.status().message()), HasSubstr("warm-up on 8 rows of zeros"));
}

TEST_F(WarmUpTest, ABatchOfMoreThan64MiBIsNotWarmedUpUnlessTheConfigurationAsksForIt) {
  const std::vector<TensorSignature> wide = {{"x", DType::kFloat32, {-1, 1 << 20}}};  // 4 MiB a row
  auto note = [&](const std::vector<engine::InputView>& in, std::vector<Tensor>* out) {
    runs_.push_back(in[0].shape[0]);
    out->resize(1);
    (*out)[0].shape = {in[0].shape[0], 0};
    return absl::OkStatus();
  };
  spec::ModelConfig config = Merging(17);
  config.preferred_batch_sizes = {16};
  Served model(config, note, &clock_, nullptr, wide);
  EXPECT_THAT(runs_, ElementsAre(1, 1, 16));
  runs_.clear();
  config.warm_up_batch_sizes = {17};
  Served asked(config, note, &clock_, nullptr, wide);
  EXPECT_THAT(runs_, ElementsAre(17));
}

}  // namespace
}  // namespace tandem::serving
