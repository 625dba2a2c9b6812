#include "graph/rewrite.h"

#include "gmock/gmock.h"
#include "graph/test_models.h"
#include "gtest/gtest.h"

namespace tandem::graph {
namespace {

using ::testing::ElementsAre;

std::vector<int64_t> TargetOf(const Graph& graph, const std::string& output) {
  for (const onnx::NodeProto& node : graph.model().graph().node()) {
    if (node.output(0) != output) continue;
    const Graph::Initializer* target = graph.FindInitializer(node.input(1));
    if (target == nullptr) return {};
    std::vector<int64_t> values(target->data.size() / sizeof(int64_t));
    std::copy(target->data.begin(), target->data.end(), reinterpret_cast<char*>(values.data()));
    return values;
  }
  return {};
}

// x [1,4,8,8], reshaped by the initialiser `shape`.
onnx::ModelProto ReshapeModel(const std::vector<int64_t>& shape) {
  onnx::ModelProto model = EmptyModel({1, 4, 8, 8});
  AddInts(&model, "shape", shape);
  AddNode(&model, "Reshape", {"x", "shape"}, {"y"});
  *model.mutable_graph()->mutable_output(0) = FloatValue("y", {1, -1});
  return model;
}

TEST(WithFreeBatch, FreesInputsOutputsAndKnownTargets) {
  const absl::StatusOr<Graph> graph = WithFreeBatch(*ParseModel(ReshapeModel({1, 256})));
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_THAT(graph->inputs()[0].shape, ElementsAre(-1, 4, 8, 8));
  EXPECT_THAT(graph->outputs()[0].shape, ElementsAre(-1, -1));
  EXPECT_THAT(TargetOf(*graph, "y"), ElementsAre(-1, 256));
}

TEST(WithFreeBatch, TakesTheDatasOwnBatchWhereTheTargetLeavesAnotherSizeOpen) {
  EXPECT_THAT(TargetOf(*WithFreeBatch(*ParseModel(ReshapeModel({1, -1}))), "y"), ElementsAre(0, -1));
}

TEST(WithFreeBatch, LetsAZeroMeanTheBatchWhereTheFileLetsItMeanNothing) {
  onnx::ModelProto model = ReshapeModel({1, -1});
  onnx::AttributeProto* allow = model.mutable_graph()->mutable_node(0)->add_attribute();
  allow->set_name("allowzero");
  allow->set_type(onnx::AttributeProto::INT);
  allow->set_i(1);
  const absl::StatusOr<Graph> graph = WithFreeBatch(*ParseModel(model));
  EXPECT_THAT(TargetOf(*graph, "y"), ElementsAre(0, -1));
  EXPECT_EQ(graph->model().graph().node(0).attribute(0).i(), 0);
}

TEST(WithFreeBatch, LeavesTargetsThatDoNotBeginWithTheBatch) {
  EXPECT_THAT(TargetOf(*WithFreeBatch(*ParseModel(ReshapeModel({2, 128}))), "y"), ElementsAre(2, 128));
  EXPECT_THAT(TargetOf(*WithFreeBatch(*ParseModel(ReshapeModel({-1, 256}))), "y"), ElementsAre(-1, 256));
  EXPECT_THAT(TargetOf(*WithFreeBatch(*ParseModel(ReshapeModel({0, 256}))), "y"), ElementsAre(0, 256));
}

TEST(WithFreeBatch, ReadsTargetsThatNodesPutTogether) {
  onnx::ModelProto model = EmptyModel({1, 4, 8, 8});
  AddInts(&model, "batch", {1});
  AddInts(&model, "rest", {256});
  AddNode(&model, "Identity", {"batch"}, {"first"});
  AddNode(&model, "Concat", {"first", "rest"}, {"shape"});
  AddNode(&model, "Reshape", {"x", "shape"}, {"y"});
  onnx::AttributeProto* axis = model.mutable_graph()->mutable_node(1)->add_attribute();
  axis->set_name("axis");
  axis->set_type(onnx::AttributeProto::INT);
  EXPECT_THAT(TargetOf(*WithFreeBatch(*ParseModel(model)), "y"), ElementsAre(-1, 256));
}

// Eight levels of a hundred inputs each would be 10^16 parts.
TEST(WithFreeBatch, GivesUpOnATargetOfEndlesslyManyParts) {
  onnx::ModelProto model = EmptyModel({1, 4, 8, 8});
  AddInts(&model, "level0", {});
  for (int level = 1; level <= 8; ++level) {
    AddNode(&model, "Concat", std::vector<std::string>(100, "level" + std::to_string(level - 1)),
            {"level" + std::to_string(level)});
  }
  AddNode(&model, "Reshape", {"x", "level8"}, {"y"});
  const absl::StatusOr<Graph> graph = WithFreeBatch(*ParseModel(model));
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_EQ(graph->model().graph().node(8).input(1), "level8");
}

TEST(WithFreeBatch, GivesUpOnATargetOfMoreSizesThanAShapeHas) {
  onnx::ModelProto model = EmptyModel({1, 4, 8, 8});
  AddInts(&model, "batch", {1});
  AddInts(&model, "ones", std::vector<int64_t>(40, 1));
  AddNode(&model, "Concat", {"batch", "ones", "ones"}, {"shape"});
  AddNode(&model, "Reshape", {"x", "shape"}, {"y"});
  const absl::StatusOr<Graph> graph = WithFreeBatch(*ParseModel(model));
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_EQ(graph->model().graph().node(1).input(1), "shape");
}

TEST(WithFreeBatch, LeavesTheShapesOfWeightsAlone) {
  onnx::ModelProto model = EmptyModel({1, 4});
  AddFloats(&model, "bias", {4});
  AddInts(&model, "shape", {1, 4});
  AddNode(&model, "Reshape", {"bias", "shape"}, {"row"});
  AddNode(&model, "Add", {"x", "row"}, {"y"});
  EXPECT_THAT(TargetOf(*WithFreeBatch(*ParseModel(model)), "row"), ElementsAre(1, 4));
}

TEST(WithFreeBatch, LeavesTheTargetThatOthersShare) {
  onnx::ModelProto model = ReshapeModel({1, 256});
  AddFloats(&model, "w", {256});
  AddNode(&model, "Reshape", {"w", "shape"}, {"row"});
  const absl::StatusOr<Graph> graph = WithFreeBatch(*ParseModel(model));
  EXPECT_THAT(TargetOf(*graph, "y"), ElementsAre(-1, 256));
  EXPECT_THAT(TargetOf(*graph, "row"), ElementsAre(1, 256));
}

TEST(WithFreeBatch, LeavesTheBytesOfAModelWhoseBatchIsFree) {
  const Graph graph = *ParseModel(ConvNormModel());
  EXPECT_EQ(WithFreeBatch(graph)->bytes(), graph.bytes());
  EXPECT_EQ(ForServing(graph)->bytes(), graph.bytes());
}

TEST(ForServing, TakesDropoutAndBatchNormOutOfTrainingMode) {
  onnx::ModelProto model = ConvNormModel();
  onnx::NodeProto* norm = model.mutable_graph()->mutable_node(1);
  norm->add_output("new_mean");
  norm->add_output("new_var");
  onnx::AttributeProto* mode = norm->add_attribute();
  mode->set_name("training_mode");
  mode->set_type(onnx::AttributeProto::INT);
  mode->set_i(1);
  AddFloats(&model, "ratio", {});
  onnx::TensorProto* training = model.mutable_graph()->add_initializer();
  training->set_name("training");
  training->set_data_type(onnx::TensorProto::BOOL);
  training->add_int32_data(1);
  AddNode(&model, "Dropout", {"y", "ratio", "training"}, {"z"});
  const absl::StatusOr<Graph> graph = ForServing(*ParseModel(model));
  ASSERT_TRUE(graph.ok()) << graph.status();
  const onnx::GraphProto& proto = graph->model().graph();
  EXPECT_THAT(proto.node(1).output(), ElementsAre("n"));
  EXPECT_EQ(proto.node(1).attribute(0).i(), 0);
  EXPECT_THAT(proto.node(3).input(), ElementsAre("y", "ratio"));
}

}  // namespace
}  // namespace tandem::graph
