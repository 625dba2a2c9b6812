#include "base/status.h"
#include "gmock/gmock.h"
#include "graph/test_models.h"
#include "gtest/gtest.h"

namespace tandem::graph {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

std::vector<std::string> InputsOf(const Graph& graph, const std::string& output) {
  for (const onnx::NodeProto& node : graph.model().graph().node()) {
    if (node.output(0) == output) return {node.input().begin(), node.input().end()};
  }
  return {};
}

// Two BatchNormalizations: the first reads `zeros` as bias and as mean, `ones` as scale and as variance; the second
// reads both through Identity nodes, as PyTorch writes them.
onnx::ModelProto MergedModel() {
  onnx::ModelProto model = EmptyModel({-1, 4, 8, 8});
  AddFloats(&model, "ones", {4});
  AddFloats(&model, "zeros", {4}, 0.0f);
  AddNode(&model, "Identity", {"ones"}, {"bn2.weight"});
  AddNode(&model, "Identity", {"zeros"}, {"bn2.bias"});
  AddNode(&model, "BatchNormalization", {"x", "ones", "zeros", "zeros", "ones"}, {"a"});
  AddNode(&model, "BatchNormalization", {"a", "bn2.weight", "bn2.bias", "zeros", "bn2.weight"}, {"y"});
  return model;
}

TEST(Unshared, GivesEachUseItsOwnAndNamesThemAfterIdentityNodes) {
  const absl::StatusOr<Graph> graph = ParseModel(MergedModel())->Unshared({});
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_EQ(graph->model().graph().node_size(), 2);
  EXPECT_THAT(InputsOf(*graph, "a"), ElementsAre("x", "ones", "zeros", "zeros.1", "ones.1"));
  EXPECT_THAT(InputsOf(*graph, "y"), ElementsAre("a", "bn2.weight", "bn2.bias", "zeros.2", "bn2.weight.1"));
  EXPECT_THAT(graph->TrainableInitializers(), UnorderedElementsAre("ones", "zeros", "bn2.weight", "bn2.bias"));
  EXPECT_THAT(graph->StatisticInitializers(), UnorderedElementsAre("zeros.1", "ones.1", "zeros.2", "bn2.weight.1"));
  for (const char* name : {"ones", "ones.1", "bn2.weight", "bn2.weight.1"}) {
    EXPECT_EQ(graph->FindInitializer(name)->data, ParseModel(MergedModel())->FindInitializer("ones")->data) << name;
  }
}

TEST(Unshared, IsDoneOnceAndChangesNothingTheSecondTime) {
  const Graph once = *ParseModel(MergedModel())->Unshared({});
  EXPECT_EQ(once.Unshared({})->bytes(), once.bytes());
}

TEST(Unshared, LeavesTheBytesOfAModelThatSharesNothing) {
  const Graph graph = *ParseModel(ConvNormModel());
  EXPECT_EQ(graph.Unshared({})->bytes(), graph.bytes());
  const Graph made = *Graph::Parse(*MakeModel({"resnet20", {3, 32, 32}, 10}), "m");
  EXPECT_EQ(made.Unshared({})->bytes(), made.bytes());
}

TEST(Unshared, LeavesConstantsThatAreNotTrainedShared) {
  onnx::ModelProto model = EmptyModel({-1, 4});
  AddFloats(&model, "low", {});
  AddNode(&model, "Clip", {"x", "low"}, {"a"});
  AddNode(&model, "Clip", {"a", "low"}, {"y"});
  const Graph graph = *ParseModel(model);
  EXPECT_EQ(graph.Unshared({})->bytes(), graph.bytes());
}

TEST(Unshared, DoesNotCopyForNodesThatOnlyReadTheShape) {
  onnx::ModelProto model = EmptyModel({-1, 4});
  AddFloats(&model, "w", {4, 4});
  AddNode(&model, "MatMul", {"x", "w"}, {"y"});
  AddNode(&model, "Shape", {"w"}, {"s"});
  const Graph graph = *ParseModel(model);
  EXPECT_EQ(graph.Unshared({})->bytes(), graph.bytes());
}

// A weight used twice, once behind Identity.
onnx::ModelProto TiedModel() {
  onnx::ModelProto model = EmptyModel({-1, 4});
  AddFloats(&model, "w", {4, 4});
  AddNode(&model, "Identity", {"w"}, {"head"});
  AddNode(&model, "MatMul", {"x", "w"}, {"a"});
  AddNode(&model, "MatMul", {"a", "w"}, {"b"});
  AddNode(&model, "MatMul", {"b", "head"}, {"c"});
  AddNode(&model, "MatMul", {"c", "head"}, {"y"});
  return model;
}

TEST(Unshared, KeepsTiedWeightsShared) {
  const Graph graph = *ParseModel(TiedModel());
  EXPECT_EQ(graph.Unshared({{"w", "head"}})->bytes(), graph.bytes());
  const Graph split = *graph.Unshared({});
  EXPECT_THAT(split.TrainableInitializers(), UnorderedElementsAre("w", "w.1", "head", "head.1"));
  const Graph own = *graph.Unshared({{"w"}, {"head"}});
  EXPECT_THAT(own.TrainableInitializers(), UnorderedElementsAre("w", "head"));
  EXPECT_THAT(InputsOf(own, "c"), ElementsAre("b", "head"));
  EXPECT_THAT(InputsOf(own, "b"), ElementsAre("a", "w"));
  const Graph root = *graph.Unshared({{"w"}});
  EXPECT_THAT(root.TrainableInitializers(), UnorderedElementsAre("w", "head", "head.1"));
}

TEST(Unshared, KeepsAnIdentityThatIsAnOutput) {
  onnx::ModelProto model = TiedModel();
  *model.mutable_graph()->add_output() = FloatValue("head", {4, 4});
  const absl::StatusOr<Graph> graph = ParseModel(model)->Unshared({});
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_THAT(InputsOf(*graph, "head"), ElementsAre("w"));
  EXPECT_THAT(graph->TrainableInitializers(), UnorderedElementsAre("w", "w.1", "head.1", "head.2"));
}

TEST(Unshared, NamesATieThatDoesNotExist) {
  const absl::StatusOr<Graph> graph = ParseModel(TiedModel())->Unshared({{"w", "heat"}});
  ASSERT_FALSE(graph.ok());
  EXPECT_THAT(std::string(MessageOf(graph.status())),
              testing::AllOf(HasSubstr("'heat'"), HasSubstr("did you mean 'head'")));
  EXPECT_THAT(std::string(MessageOf(ParseModel(TiedModel())->Unshared({{"w"}, {"w"}}).status())),
              HasSubstr("two groups"));
}

TEST(Unshared, RefusesToGrowPastTwoGigabytesBeforeItCopies) {
  onnx::ModelProto model = EmptyModel({-1, 1024});
  AddFloats(&model, "w", {1024, 1024});
  std::string value = "x";
  for (int i = 0; i < 1000; ++i) {
    const std::string next = i == 999 ? "y" : "v" + std::to_string(i);
    AddNode(&model, "MatMul", {value, "w"}, {next});
    value = next;
  }
  const absl::StatusOr<Graph> graph = ParseModel(model)->Unshared({});
  ASSERT_FALSE(graph.ok());
  EXPECT_THAT(std::string(MessageOf(graph.status())), HasSubstr("2 GB"));
}

}  // namespace
}  // namespace tandem::graph
