#include <cstring>

#include "base/files.h"
#include "base/status.h"
#include "gmock/gmock.h"
#include "graph/graph.h"
#include "gtest/gtest.h"

namespace tandem::graph {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kResnet8Hash[] = "7ddf54ae6cde150deb9e18ed87eeb33db48223b22577781aa20f27059e7e8972";

std::string ErrorOf(const Architecture& architecture) {
  const absl::StatusOr<std::string> model = MakeModel(architecture);
  return model.ok() ? "OK" : std::string(MessageOf(model.status()));
}

Summary SummaryOf(const Architecture& architecture) {
  const absl::StatusOr<std::string> bytes = MakeModel(architecture);
  EXPECT_TRUE(bytes.ok()) << bytes.status();
  const absl::StatusOr<Graph> graph = Graph::Parse(*bytes, architecture.name);
  EXPECT_TRUE(graph.ok()) << graph.status();
  EXPECT_EQ(graph->inputs()[0].name, "input");
  EXPECT_EQ(graph->inputs()[0].shape[0], -1);
  EXPECT_EQ(graph->outputs()[0].name, "logits");
  EXPECT_THAT(graph->outputs()[0].shape, ElementsAre(-1, architecture.classes));
  return *Summarise(*graph);
}

// The counts of the same networks elsewhere: ResNet-18's 11,689,512 and 1.814 G are torchvision's.
TEST(MakeModel, GivesEachArchitectureItsParametersAndCosts) {
  EXPECT_EQ(SummaryOf({"mlp", {1, 28, 28}, 10}).trainable_parameters, 784 * 256 + 256 + 256 * 128 + 128 + 1290);
  EXPECT_EQ(SummaryOf({"mlp", {20}, 3, 0, {}}).trainable_parameters, 63);
  EXPECT_EQ(SummaryOf({"lenet", {1, 28, 28}, 10}).trainable_parameters, 61'706);
  EXPECT_EQ(SummaryOf({"resnet8", {3, 32, 32}, 10}).trainable_parameters, 78'042);
  EXPECT_EQ(SummaryOf({"resnet20", {3, 32, 32}, 10}).trainable_parameters, 272'474);
  const Summary large = SummaryOf({"resnet18", {3, 224, 224}, 1000});
  EXPECT_EQ(large.trainable_parameters, 11'689'512);
  EXPECT_EQ(large.macs, 1'814'073'344);
  EXPECT_EQ(large.operators.at("Conv"), 20);
  EXPECT_EQ(SummaryOf({"resnet18", {3, 32, 32}, 10}).macs, 555'422'720);
}

TEST(MakeModel, TrainsWeightsButNeitherStatisticsNorNormalisationConstants) {
  const Graph graph = *Graph::Parse(*MakeModel({"resnet8", {1, 28, 28}, 10}), "m");
  const std::vector<std::string> trainable = graph.TrainableInitializers();
  const std::vector<std::string> statistics = graph.StatisticInitializers();
  EXPECT_THAT(trainable, testing::IsSupersetOf({"stem.conv.weight", "stem.bn.weight", "stem.bn.bias", "fc.bias"}));
  EXPECT_THAT(statistics, testing::IsSupersetOf({"stem.bn.running_mean", "stem.bn.running_var"}));
  EXPECT_EQ(trainable.size() + statistics.size() + 2, graph.initializers().size());
  EXPECT_THAT(trainable, testing::Each(testing::Not(HasSubstr("normalise"))));
}

// Fixed for ever: a seed that is written into a job's record must give the same model on every machine.
TEST(MakeModel, GivesTheSameBytesForTheSameSeedEverywhere) {
  EXPECT_EQ(Sha256Hex(*MakeModel({"resnet8", {3, 32, 32}, 10, 42})), kResnet8Hash);
  EXPECT_NE(*MakeModel({"mlp", {4}, 2, 1}), *MakeModel({"mlp", {4}, 2, 2}));
}

TEST(MakeModel, DrawsWeightsWithTheVarianceOfHe) {
  const Graph graph = *Graph::Parse(*MakeModel({"mlp", {784}, 10, 3}), "m");
  const std::string_view data = graph.FindInitializer("fc1.weight")->data;
  std::vector<float> weights(data.size() / sizeof(float));
  std::memcpy(weights.data(), data.data(), data.size());
  double sum = 0, squares = 0;
  for (const float weight : weights) {
    sum += weight;
    squares += static_cast<double>(weight) * weight;
  }
  const auto count = static_cast<double>(weights.size());
  EXPECT_NEAR(sum / count, 0.0, 5e-4);
  EXPECT_NEAR(squares / count / (2.0 / 784), 1.0, 0.01);
}

TEST(MakeModel, SaysWhatIsWrongWithItsArguments) {
  EXPECT_THAT(ErrorOf({"resnet80", {3, 32, 32}, 10}), AllOf(HasSubstr("resnet80"), HasSubstr("did you mean")));
  EXPECT_THAT(ErrorOf({"lenet", {1, 8, 8}, 10}), HasSubstr("12x12"));
  EXPECT_THAT(ErrorOf({"lenet", {28, 28}, 10}), HasSubstr("channels, height, width"));
  EXPECT_THAT(ErrorOf({"mlp", {0}, 10}), HasSubstr("between 1 and"));
  EXPECT_THAT(ErrorOf({"mlp", {4}, 1}), HasSubstr("classes is 1"));
  EXPECT_THAT(ErrorOf({"mlp", {4}, 2, 0, {-5}}), HasSubstr("hidden holds -5"));
  EXPECT_THAT(ErrorOf({"mlp", {1000, 1000, 1000}, 2}), HasSubstr("2 GB"));
  EXPECT_THAT(ErrorOf({"mlp", {1 << 20, 1 << 20, 1 << 20}, 2, 0, {1'000'000}}), HasSubstr("too many elements"));
}

TEST(MakeModel, WorksOnTheSmallestImages) {
  for (const std::string& name : ArchitectureNames()) {
    const Shape smallest = name == "lenet" ? Shape{1, 12, 12} : Shape{1, 8, 8};
    EXPECT_GT(SummaryOf({name, smallest, 2}).macs, 0) << name;
  }
}

}  // namespace
}  // namespace tandem::graph
