#include "base/status.h"
#include "gmock/gmock.h"
#include "graph/test_models.h"
#include "gtest/gtest.h"

namespace tandem::graph {
namespace {

using ::testing::HasSubstr;

// Checks that data of `name` come out as given, and that all bytes outside them are equal.
void ExpectOnlyThisChanges(const Graph& graph, const std::string& name) {
  const Graph::Initializer* before = graph.FindInitializer(name);
  const std::string data(before->data.size(), '\x3d');
  const absl::StatusOr<std::string> file = graph.Splice({{name, data}});
  ASSERT_TRUE(file.ok()) << file.status();
  const absl::StatusOr<Graph> after = Graph::Parse(*file, "spliced");
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_EQ(after->FindInitializer(name)->data, data) << name;
  const absl::StatusOr<std::string> back = after->Splice({{name, std::string(before->data)}});
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(*back, graph.bytes()) << name;
}

size_t DifferentBytes(std::string_view a, std::string_view b) {
  EXPECT_EQ(a.size(), b.size());
  size_t different = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) different += a[i] != b[i] ? 1 : 0;
  return different;
}

TEST(Splice, LeavesAllOtherBytesEqual) {
  const Graph graph = *Graph::Parse(*MakeModel({"lenet", {1, 12, 12}, 3, 7}), "m");
  for (const Graph::Initializer& initializer : graph.initializers()) ExpectOnlyThisChanges(graph, initializer.name);
  const std::string data(graph.FindInitializer("fc3.bias")->data.size(), '\x3d');
  EXPECT_EQ(DifferentBytes(*graph.Splice({{"fc3.bias", data}}), graph.bytes()), data.size());
}

TEST(Splice, OfNothingGivesTheSameFile) {
  const Graph graph = *ParseModel(ConvNormModel());
  EXPECT_EQ(*graph.Splice({}), graph.bytes());
}

TEST(Splice, OverwritesTypedFields) {
  onnx::ModelProto model = ConvNormModel();
  onnx::TensorProto* w = model.mutable_graph()->mutable_initializer(0);
  w->clear_raw_data();
  for (int i = 0; i < 16; ++i) w->add_float_data(static_cast<float>(i));
  const Graph graph = *ParseModel(model);
  ExpectOnlyThisChanges(graph, "w");
  EXPECT_EQ(DifferentBytes(*graph.Splice({{"w", std::string(64, '\x3d')}}), graph.bytes()), 64u);
}

// The bytes of a float tensor [4] whose elements stand one by one, and once in two packed pieces.
std::string UnpackedModel(bool pieces) {
  onnx::ModelProto model = ConvNormModel();
  onnx::TensorProto* beta = model.mutable_graph()->mutable_initializer(2);
  beta->clear_raw_data();
  const std::string one("\x00\x00\x80\x3f", 4);
  std::string data;
  if (pieces) {
    data = "\x22\x08" + one + one + "\x22\x08" + one + one;
  } else {
    for (int i = 0; i < 4; ++i) data += "\x25" + one;
  }
  // An unknown field of the same length holds the place; its tag and length are replaced by the data.
  const std::string holder(data.size() - 2, '#');
  beta->set_doc_string(holder);
  std::string bytes = model.SerializeAsString();
  bytes.replace(bytes.find(holder) - 2, data.size(), data);
  return bytes;
}

TEST(Splice, OverwritesFieldsThatAreNotPackedOrInPieces) {
  for (bool pieces : {false, true}) {
    const absl::StatusOr<Graph> graph = Graph::Parse(UnpackedModel(pieces), "unpacked");
    ASSERT_TRUE(graph.ok()) << graph.status();
    const std::string ones = std::string(graph->FindInitializer("gamma")->data);
    EXPECT_EQ(graph->FindInitializer("beta")->data, ones);
    ExpectOnlyThisChanges(*graph, "beta");
    EXPECT_EQ(DifferentBytes(*graph->Splice({{"beta", std::string(16, '\x3d')}}), graph->bytes()), 16u);
  }
}

TEST(Splice, WritesHalfFloatsThatStoodInInt32DataAsRawData) {
  onnx::ModelProto model = ConvNormModel();
  onnx::TensorProto* w = model.mutable_graph()->mutable_initializer(0);
  w->clear_raw_data();
  w->set_data_type(onnx::TensorProto::FLOAT16);
  for (int i = 0; i < 16; ++i) w->add_int32_data(0x3c00);
  const Graph graph = *ParseModel(model);
  const std::string data(32, '\x3d');
  const std::string gamma(16, '\x3e');
  const absl::StatusOr<std::string> file = graph.Splice({{"w", data}, {"gamma", gamma}});
  ASSERT_TRUE(file.ok()) << file.status();
  const absl::StatusOr<Graph> after = Graph::Parse(*file, "spliced");
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_EQ(after->FindInitializer("w")->data, data);
  EXPECT_EQ(after->FindInitializer("gamma")->data, gamma);
  onnx::ModelProto expected = model;
  onnx::TensorProto* changed = expected.mutable_graph()->mutable_initializer(0);
  changed->clear_int32_data();
  changed->set_raw_data(data);
  expected.mutable_graph()->mutable_initializer(1)->set_raw_data(gamma);
  EXPECT_EQ(*file, expected.SerializeAsString());
}

TEST(Splice, NamesAnInitialiserThatIsMissingOrOfAnotherSize) {
  const Graph graph = *ParseModel(ConvNormModel());
  EXPECT_THAT(std::string(MessageOf(graph.Splice({{"v", ""}}).status())), HasSubstr("no initialiser 'v'"));
  EXPECT_THAT(std::string(MessageOf(graph.Splice({{"w", "abc"}}).status())), HasSubstr("takes 64 bytes, not 3"));
}

}  // namespace
}  // namespace tandem::graph
