#include "base/status.h"
#include "gmock/gmock.h"
#include "graph/attributes.h"
#include "graph/test_models.h"
#include "gtest/gtest.h"

namespace tandem::graph {
namespace {

void SetInts(onnx::NodeProto* node, const std::string& name, const std::vector<int64_t>& values) {
  onnx::AttributeProto* attribute = node->add_attribute();
  attribute->set_name(name);
  attribute->set_type(onnx::AttributeProto::INTS);
  for (int64_t value : values) attribute->add_ints(value);
}

int64_t Macs(const onnx::ModelProto& model) {
  const absl::StatusOr<Graph> graph = ParseModel(model);
  EXPECT_TRUE(graph.ok()) << graph.status();
  return graph.ok() ? Summarise(*graph)->macs : -2;
}

TEST(Summarise, CountsParametersOperatorsAndCosts) {
  const Summary summary = *Summarise(*ParseModel(ConvNormModel()));
  EXPECT_EQ(summary.parameters, 32);
  EXPECT_EQ(summary.trainable_parameters, 24);
  EXPECT_EQ(summary.macs, 16 * 64);
  EXPECT_EQ(summary.operators.at("BatchNormalization"), 1);
}

TEST(Summarise, FollowsShapesThroughShapeGatherConcatAndReshape) {
  onnx::ModelProto model = EmptyModel({-1, 4, 6, 6});
  AddInts(&model, "first", {0});
  AddInts(&model, "rest", {-1});
  AddFloats(&model, "w", {144, 5});
  AddNode(&model, "Shape", {"x"}, {"s"});
  AddNode(&model, "Gather", {"s", "first"}, {"n"});
  SetInts(AddNode(&model, "Concat", {"n", "rest"}, {"target"}), "unused", {});
  AddNode(&model, "Reshape", {"x", "target"}, {"flat"});
  AddNode(&model, "MatMul", {"flat", "w"}, {"y"});
  EXPECT_EQ(Macs(model), 144 * 5);
}

TEST(Summarise, FollowsSlicePadTransposeAndReductions) {
  onnx::ModelProto model = EmptyModel({-1, 4, 6, 6});
  AddInts(&model, "starts", {1, -3});
  AddInts(&model, "ends", {INT64_MAX, 6});
  AddInts(&model, "axes", {2, 3});
  AddInts(&model, "pads", {0, 0, 1, 1, 0, 0, 1, 1});
  AddFloats(&model, "w", {4, 7});
  AddNode(&model, "Slice", {"x", "starts", "ends", "axes"}, {"a"});  // [1,4,5,3]
  AddNode(&model, "Pad", {"a", "pads"}, {"b"});                      // [1,4,7,5]
  SetInts(AddNode(&model, "Transpose", {"b"}, {"c"}), "perm", {0, 2, 3, 1});
  SetInts(AddNode(&model, "ReduceMean", {"c"}, {"d"}), "axes", {1});  // [1,1,5,4]
  AddNode(&model, "MatMul", {"d", "w"}, {"y"});
  EXPECT_EQ(Macs(model), 5 * 4 * 7);
}

TEST(Summarise, CountsGroupsStridesAndPadsOfConvolutions) {
  onnx::ModelProto model = EmptyModel({-1, 4, 9, 9});
  AddFloats(&model, "w", {8, 2, 3, 3});
  onnx::NodeProto* conv = AddNode(&model, "Conv", {"x", "w"}, {"y"});
  SetInts(conv, "strides", {2, 2});
  SetInts(conv, "pads", {1, 1, 1, 1});
  EXPECT_EQ(Macs(model), 8 * 5 * 5 * 2 * 9);
}

TEST(Summarise, DividesByAFixedBatch) {
  onnx::ModelProto model = EmptyModel({8, 4});
  AddFloats(&model, "w", {4, 3});
  AddNode(&model, "MatMul", {"x", "w"}, {"y"});
  EXPECT_EQ(Macs(model), 12);
}

TEST(Summarise, SaysUnknownWhereItCannotFollow) {
  onnx::ModelProto model = EmptyModel({-1, -1});
  AddFloats(&model, "w", {4, 3});
  AddNode(&model, "MatMul", {"x", "w"}, {"y"});
  EXPECT_EQ(Macs(model), -1);
  model = EmptyModel({-1, 4});
  AddNode(&model, "Einsum", {"x"}, {"y"});
  EXPECT_EQ(Macs(model), -1);
}

TEST(Summarise, HugeDimensionsAreUnknownNotOverflow) {
  const int64_t huge = int64_t{1} << 62;
  onnx::ModelProto model = EmptyModel({-1, huge, huge, huge});
  AddNode(&model, "Flatten", {"x"}, {"y"});
  EXPECT_EQ(Macs(model), -1);
  model = EmptyModel({-1, 1, huge, huge});
  AddFloats(&model, "w", {1, 1, 1, 1});
  onnx::NodeProto* conv = AddNode(&model, "Conv", {"x", "w"}, {"y"});
  SetInts(conv, "pads", {INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX});
  EXPECT_EQ(Macs(model), -1);
}

}  // namespace
}  // namespace tandem::graph
