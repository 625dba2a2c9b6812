#include "graph/roles.h"

#include "gmock/gmock.h"
#include "graph/test_models.h"
#include "gtest/gtest.h"

namespace tandem::graph {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> Trainable(const onnx::ModelProto& model) {
  const absl::StatusOr<Graph> graph = ParseModel(model);
  EXPECT_TRUE(graph.ok()) << graph.status();
  return graph.ok() ? graph->TrainableInitializers() : std::vector<std::string>();
}

TEST(Trainable, AreWeightsBiasesAndScalesButNotStatistics) {
  EXPECT_THAT(Trainable(ConvNormModel()), ElementsAre("w", "gamma", "beta"));
  EXPECT_THAT(ParseModel(ConvNormModel())->StatisticInitializers(), ElementsAre("mean", "var"));
}

TEST(Trainable, AreNotClipBoundsShapesAndEpsilons) {
  onnx::ModelProto model = EmptyModel({-1, 4});
  AddFloats(&model, "w", {4, 4});
  AddFloats(&model, "bias", {4});
  AddFloats(&model, "epsilon", {});
  AddFloats(&model, "factor", {1});
  AddFloats(&model, "low", {});
  AddInts(&model, "shape", {-1, 4});
  AddNode(&model, "MatMul", {"x", "w"}, {"a"});
  AddNode(&model, "Add", {"a", "bias"}, {"b"});
  AddNode(&model, "Add", {"b", "epsilon"}, {"c"});
  AddNode(&model, "Mul", {"c", "factor"}, {"d"});
  AddNode(&model, "Clip", {"d", "low"}, {"e"});
  AddNode(&model, "Reshape", {"e", "shape"}, {"y"});
  EXPECT_THAT(Trainable(model), ElementsAre("w", "bias"));
}

TEST(Trainable, AreNotNormalisationConstantsInFrontOfTheFirstLayer) {
  onnx::ModelProto model = EmptyModel({-1, 4});
  for (const char* name : {"mean", "scale", "shift", "std"}) AddFloats(&model, name, {4});
  AddFloats(&model, "w", {4, 4});
  AddFloats(&model, "scale2", {4});
  AddNode(&model, "Sub", {"x", "mean"}, {"a"});
  AddNode(&model, "Mul", {"a", "scale"}, {"b"});
  AddNode(&model, "Add", {"shift", "b"}, {"c"});
  AddNode(&model, "Div", {"c", "std"}, {"d"});
  AddNode(&model, "MatMul", {"d", "w"}, {"e"});
  AddNode(&model, "Mul", {"e", "scale2"}, {"y"});
  EXPECT_THAT(Trainable(model), ElementsAre("w", "scale2"));
}

TEST(Trainable, SingleNumbersAreBiasesOnlyBehindALayer) {
  onnx::ModelProto model = EmptyModel({-1, 4});
  AddFloats(&model, "w", {4, 1});
  AddFloats(&model, "bias", {1});
  AddFloats(&model, "epsilon", {1});
  AddNode(&model, "MatMul", {"x", "w"}, {"a"});
  AddNode(&model, "Add", {"a", "bias"}, {"b"});
  AddNode(&model, "Add", {"b", "epsilon"}, {"y"});
  EXPECT_THAT(Trainable(model), ElementsAre("w", "bias"));
}

TEST(Trainable, AreSeenThroughTransposeCastAndExpand) {
  onnx::ModelProto model = EmptyModel({-1, 4});
  AddFloats(&model, "w", {3, 4});
  AddFloats(&model, "bias", {3});
  AddInts(&model, "shape", {1, 3});
  AddNode(&model, "Transpose", {"w"}, {"wt"});
  AddNode(&model, "CastLike", {"wt", "x"}, {"wc"});
  AddNode(&model, "MatMul", {"x", "wc"}, {"a"});
  AddNode(&model, "Expand", {"bias", "shape"}, {"be"});
  AddNode(&model, "Add", {"a", "be"}, {"y"});
  EXPECT_THAT(Trainable(model), ElementsAre("w", "bias"));
}

TEST(Trainable, AreEmbeddingsButNotGatheredShapes) {
  onnx::ModelProto model = EmptyModel({-1});
  model.mutable_graph()->mutable_input(0)->mutable_type()->mutable_tensor_type()->set_elem_type(
      onnx::TensorProto::INT64);
  AddFloats(&model, "table", {10, 4});
  AddFloats(&model, "position", {1, 4});
  AddNode(&model, "Gather", {"table", "x"}, {"a"});
  AddNode(&model, "Add", {"a", "position"}, {"y"});
  EXPECT_THAT(Trainable(model), ElementsAre("table", "position"));
}

TEST(Roles, FollowLongChainsWithoutDeepCalls) {
  onnx::ModelProto model = EmptyModel({-1, 4});
  AddFloats(&model, "w", {4, 4});
  std::string value = "w";
  for (int i = 0; i < 20'000; ++i) {
    const std::string next = "v" + std::to_string(i);
    AddNode(&model, "Identity", {value}, {next});
    value = next;
  }
  AddNode(&model, "MatMul", {"x", value}, {"y"});
  EXPECT_THAT(Trainable(model), ElementsAre("w"));
  EXPECT_TRUE(ParseModel(model)->Unshared({}).ok());
}

TEST(Trainable, IsNothingInAGraphWithoutWeights) {
  onnx::ModelProto model = EmptyModel({-1, 4});
  AddNode(&model, "Relu", {"x"}, {"y"});
  EXPECT_THAT(Trainable(model), IsEmpty());
}

}  // namespace
}  // namespace tandem::graph
