#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "base/files.h"
#include "base/status.h"
#include "base/text.h"
#include "gmock/gmock.h"
#include "graph/test_models.h"
#include "gtest/gtest.h"

namespace tandem::graph {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string ErrorOf(const absl::StatusOr<Graph>& graph) {
  return graph.ok() ? "OK" : std::string(MessageOf(graph.status()));
}
std::string ErrorOf(const onnx::ModelProto& model) { return ErrorOf(ParseModel(model)); }

TEST(Parse, KeepsTheBytesAndNamesInputsAndOutputs) {
  const std::string bytes = ConvNormModel().SerializeAsString();
  const absl::StatusOr<Graph> graph = Graph::Parse(bytes, "test.onnx");
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_EQ(graph->bytes(), bytes);
  EXPECT_EQ(graph->opset(), 17);
  ASSERT_EQ(graph->inputs().size(), 1u);
  EXPECT_EQ(graph->inputs()[0].name, "x");
  EXPECT_THAT(graph->inputs()[0].shape, ElementsAre(-1, 4, 8, 8));
  EXPECT_EQ(graph->outputs()[0].name, "y");
  ASSERT_NE(graph->FindInitializer("w"), nullptr);
  EXPECT_EQ(graph->FindInitializer("w")->data.size(), 64u);
  EXPECT_EQ(graph->FindInitializer("nothing"), nullptr);
}

TEST(Parse, InitialisersThatAreInputsAsWellAreNoInputs) {
  onnx::ModelProto model = ConvNormModel();
  model.set_ir_version(3);
  *model.mutable_graph()->add_input() = FloatValue("w", {4, 4, 1, 1});
  const absl::StatusOr<Graph> graph = ParseModel(model);
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_EQ(graph->inputs().size(), 1u);
}

TEST(Parse, FilesCutAnywhereAreErrorsOrModelsButNeverCrash) {
  const std::string bytes = *MakeModel({"lenet", {1, 12, 12}, 3, 7});
  int errors = 0;
  for (size_t size = 0; size < bytes.size(); size += 97) {
    const absl::StatusOr<Graph> graph = Graph::Parse(bytes.substr(0, size), "cut.onnx");
    if (graph.ok()) continue;
    ++errors;
    EXPECT_EQ(graph.status().code(), absl::StatusCode::kInvalidArgument) << graph.status();
    EXPECT_THAT(ErrorOf(graph), HasSubstr("cut.onnx"));
  }
  EXPECT_EQ(errors, static_cast<int>((bytes.size() + 96) / 97));
}

TEST(Parse, FlippedBytesNeverCrash) {
  std::string bytes = *MakeModel({"mlp", {6}, 3, 7, {4}});
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (int bit = 0; bit < 8; bit += 3) {
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << bit));
      const absl::StatusOr<Graph> graph = Graph::Parse(bytes, "flipped.onnx");
      if (graph.ok()) {
        EXPECT_TRUE(Summarise(*graph).ok());
        EXPECT_TRUE(graph->Unshared({}).ok());
      }
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << bit));
    }
  }
}

TEST(Parse, RefusesRandomTextAndEmptyFiles) {
  EXPECT_THAT(ErrorOf(Graph::Parse("", "empty.onnx")), HasSubstr("empty"));
  EXPECT_THAT(ErrorOf(Graph::Parse("hello, this is no model", "text.onnx")), HasSubstr("text.onnx"));
}

TEST(Parse, RefusesMillionsOfTinyMessagesBeforeItMakesThem) {
  const std::string node("\x0a\x00", 2);
  std::string graph;
  for (int i = 0; i < 9'000'000; ++i) graph += node;
  onnx::ModelProto head;
  head.set_ir_version(8);
  std::string bytes = head.SerializeAsString();
  bytes += "\x3a";
  for (size_t size = graph.size(); true; size >>= 7) {
    bytes.push_back(static_cast<char>((size & 0x7f) | (size >= 0x80 ? 0x80 : 0)));
    if (size < 0x80) break;
  }
  EXPECT_THAT(ErrorOf(Graph::Parse(bytes + graph, "bomb.onnx")), HasSubstr("more than"));
}

TEST(Check, NamesVersionsThatAreNotSupported) {
  onnx::ModelProto model = ConvNormModel();
  model.mutable_opset_import(0)->set_version(10);
  EXPECT_THAT(ErrorOf(model), AllOf(HasSubstr("opset 10"), HasSubstr("11 to 21")));
  model.mutable_opset_import(0)->set_version(22);
  EXPECT_THAT(ErrorOf(model), HasSubstr("opset 22"));
  model.mutable_opset_import(0)->set_domain("ai.onnx.ml");
  EXPECT_THAT(ErrorOf(model), HasSubstr("'ai.onnx.ml', which are not supported"));
  model.clear_opset_import();
  EXPECT_THAT(ErrorOf(model), HasSubstr("no opset of ai.onnx"));
  model = ConvNormModel();
  model.set_ir_version(99);
  EXPECT_THAT(ErrorOf(model), HasSubstr("IR version 99"));
}

TEST(Check, NamesTheNodesOfACycle) {
  onnx::ModelProto model = EmptyModel({-1, 4});
  AddNode(&model, "Relu", {"x"}, {"a"});
  AddNode(&model, "Add", {"a", "d"}, {"c"});
  AddNode(&model, "Relu", {"c"}, {"d"});
  AddNode(&model, "Relu", {"d"}, {"y"});
  EXPECT_THAT(ErrorOf(model), AllOf(HasSubstr("cycle"), HasSubstr("Add_c"), HasSubstr("Relu_d")));
  EXPECT_THAT(ErrorOf(model), testing::Not(HasSubstr("Relu_y' (Relu) ->")));
}

TEST(Check, NamesANodeThatReadsItself) {
  onnx::ModelProto model = EmptyModel({-1, 4});
  AddNode(&model, "Add", {"x", "y"}, {"y"});
  EXPECT_THAT(ErrorOf(model), AllOf(HasSubstr("cycle"), HasSubstr("Add_y")));
}

TEST(Check, NamesUnsortedNodesAndMissingValues) {
  onnx::ModelProto model = EmptyModel({-1, 4});
  AddNode(&model, "Relu", {"a"}, {"y"});
  EXPECT_THAT(ErrorOf(model), AllOf(HasSubstr("Relu_y"), HasSubstr("'a' is made by no node")));
  AddNode(&model, "Relu", {"x"}, {"a"});
  EXPECT_THAT(ErrorOf(model), AllOf(HasSubstr("Relu_y"), HasSubstr("sorted")));
  model = EmptyModel({-1, 4});
  AddNode(&model, "Relu", {"x"}, {"z"});
  EXPECT_THAT(ErrorOf(model), HasSubstr("output 'y'"));
}

TEST(Check, NamesValuesThatAreMadeTwice) {
  onnx::ModelProto model = EmptyModel({-1, 4});
  AddNode(&model, "Relu", {"x"}, {"y"});
  AddNode(&model, "Tanh", {"x"}, {"y"});
  EXPECT_THAT(ErrorOf(model), AllOf(HasSubstr("Tanh_y"), HasSubstr("already made")));
  model = ConvNormModel();
  AddFloats(&model, "w", {1});
  EXPECT_THAT(ErrorOf(model), HasSubstr("initialiser 'w' stands twice"));
}

TEST(Check, NamesOperatorsOfOtherDomainsAndSubgraphs) {
  onnx::ModelProto model = EmptyModel({-1, 4});
  onnx::NodeProto* node = AddNode(&model, "FusedRelu", {"x"}, {"y"});
  node->set_domain("com.microsoft");
  EXPECT_THAT(ErrorOf(model), AllOf(HasSubstr("FusedRelu_y"), HasSubstr("com.microsoft")));
  node->set_domain("ai.onnx");
  onnx::AttributeProto* body = node->add_attribute();
  body->set_name("body");
  body->mutable_g()->set_name("inner");
  EXPECT_THAT(ErrorOf(model), AllOf(HasSubstr("FusedRelu_y"), HasSubstr("graph inside")));
}

// A message that is not UTF-8 does not reach the server: the wire refuses it.
TEST(Check, WhatIsNoUtf8IsNamedInUtf8) {
  onnx::ModelProto model = EmptyModel({-1, 4});
  onnx::NodeProto* node = AddNode(&model, "Re\xfflu\n", {"x"}, {"y"});
  node->set_domain("other");
  EXPECT_TRUE(IsUtf8(ErrorOf(model))) << ErrorOf(model);
  EXPECT_THAT(ErrorOf(model), HasSubstr("(Re\\xfflu\\n)"));
  std::string name = "a";
  for (int i = 0; i < 60; ++i) name += "模";
  node->set_name(name);
  EXPECT_TRUE(IsUtf8(ErrorOf(model))) << ErrorOf(model);
  EXPECT_THAT(ErrorOf(model), HasSubstr("模...'"));
}

TEST(Check, DeepNestingIsAnError) {
  onnx::GraphProto inner;
  for (int depth = 0; depth < 300; ++depth) {
    onnx::GraphProto outer;
    onnx::AttributeProto* body = outer.add_node()->add_attribute();
    body->set_name("body");
    *body->mutable_g() = std::move(inner);
    inner = std::move(outer);
  }
  onnx::ModelProto model = EmptyModel({1});
  *model.mutable_graph() = std::move(inner);
  EXPECT_FALSE(ParseModel(model).ok());
}

TEST(Check, NamesInitialisersOfWrongSize) {
  onnx::ModelProto model = ConvNormModel();
  onnx::TensorProto* w = model.mutable_graph()->mutable_initializer(0);
  w->mutable_raw_data()->pop_back();
  EXPECT_THAT(ErrorOf(model), AllOf(HasSubstr("'w'"), HasSubstr("needs 64 bytes"), HasSubstr("63")));
  w->clear_raw_data();
  EXPECT_THAT(ErrorOf(model), AllOf(HasSubstr("'w'"), HasSubstr("16 elements"), HasSubstr("holds 0")));
  w->set_dims(0, int64_t{1} << 40);
  EXPECT_THAT(ErrorOf(model), HasSubstr("2 GB"));
  w->set_dims(1, int64_t{1} << 40);
  EXPECT_THAT(ErrorOf(model), HasSubstr("too many elements"));
  w->set_dims(1, -3);
  EXPECT_THAT(ErrorOf(model), HasSubstr("negative dimension"));
  w->set_data_type(17);
  EXPECT_THAT(ErrorOf(model), HasSubstr("element type 17"));
}

TEST(Check, RefusesInputsThatAreNoTensors) {
  onnx::ModelProto model = ConvNormModel();
  model.mutable_graph()->mutable_input(0)->mutable_type()->mutable_sequence_type();
  EXPECT_THAT(ErrorOf(model), AllOf(HasSubstr("input 'x'"), HasSubstr("no tensor")));
}

// Models with external data in a folder of their own.
class External : public testing::Test {
 protected:
  void SetUp() override {
    root_ = std::filesystem::path(testing::TempDir()) / "graph_external";
    std::filesystem::remove_all(root_);
    ASSERT_TRUE(MakeFolders(root_ / "model" / "sub").ok());
    Write(root_ / "secret.bin", std::string(200, 's'));
    Write(root_ / "model" / "w.bin", std::string(16, '-') + std::string(64, 'w'));
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  static void Write(const std::filesystem::path& path, const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
  }

  // Loads ConvNormModel with the data of "w" at this place.
  absl::StatusOr<Graph> LoadWith(const std::string& location, const std::string& offset, const std::string& length) {
    onnx::ModelProto model = ConvNormModel();
    onnx::TensorProto* w = model.mutable_graph()->mutable_initializer(0);
    w->clear_raw_data();
    w->set_data_location(onnx::TensorProto::EXTERNAL);
    const auto add = [&](const char* key, const std::string& value) {
      if (value.empty()) return;
      onnx::StringStringEntryProto* entry = w->add_external_data();
      entry->set_key(key);
      entry->set_value(value);
    };
    add("location", location);
    add("offset", offset);
    add("length", length);
    Write(root_ / "model" / "m.onnx", model.SerializeAsString());
    return Graph::Load(root_ / "model" / "m.onnx");
  }

  std::filesystem::path root_;
};

TEST_F(External, IsJoinedIntoOneFileThatNeedsNoOther) {
  const absl::StatusOr<Graph> graph = LoadWith("w.bin", "16", "64");
  ASSERT_TRUE(graph.ok()) << graph.status();
  EXPECT_EQ(graph->FindInitializer("w")->data, std::string(64, 'w'));
  const absl::StatusOr<Graph> again = Graph::Parse(std::string(graph->bytes()), "joined");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->FindInitializer("w")->data, std::string(64, 'w'));
  EXPECT_EQ(LoadWith("./w.bin", "16", "")->bytes(), graph->bytes());
}

TEST_F(External, OutsideTheFolderIsRefusedNamingTheInitialiser) {
  const std::string absolute = (root_ / "secret.bin").string();
  for (const std::string& location : {absolute, std::string("../secret.bin"), std::string("sub/../../secret.bin")}) {
    EXPECT_THAT(ErrorOf(LoadWith(location, "0", "64")), AllOf(HasSubstr("'w'"), HasSubstr("outside")));
  }
  std::filesystem::create_symlink("../secret.bin", root_ / "model" / "link.bin");
  EXPECT_THAT(ErrorOf(LoadWith("link.bin", "0", "64")), AllOf(HasSubstr("'w'"), HasSubstr("leads out")));
  std::filesystem::create_directory_symlink(root_, root_ / "model" / "folder");
  EXPECT_THAT(ErrorOf(LoadWith("folder/secret.bin", "0", "64")), AllOf(HasSubstr("'w'"), HasSubstr("leads out")));
}

TEST_F(External, LinksInsideTheFolderAreFollowed) {
  std::filesystem::create_symlink("w.bin", root_ / "model" / "link.bin");
  EXPECT_TRUE(LoadWith("link.bin", "16", "64").ok());
}

TEST_F(External, MissingShortAndOddFilesAreNamed) {
  EXPECT_THAT(ErrorOf(LoadWith("gone.bin", "0", "64")), AllOf(HasSubstr("'w'"), HasSubstr("gone.bin")));
  EXPECT_THAT(ErrorOf(LoadWith("sub", "0", "64")), HasSubstr("not a regular file"));
  EXPECT_THAT(ErrorOf(LoadWith("", "0", "64")), HasSubstr("no usable name"));
  EXPECT_THAT(ErrorOf(LoadWith("w.bin", "17", "64")), HasSubstr("past the end"));
  EXPECT_THAT(ErrorOf(LoadWith("w.bin", "9223372036854775807", "64")), HasSubstr("past the end"));
  EXPECT_THAT(ErrorOf(LoadWith("w.bin", "-1", "64")), HasSubstr("offset"));
  EXPECT_THAT(ErrorOf(LoadWith("w.bin", "0", "65")), AllOf(HasSubstr("needs 64 bytes"), HasSubstr("65")));
}

TEST_F(External, APipeDoesNotHangTheLoader) {
  ASSERT_EQ(mkfifo((root_ / "model" / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(ErrorOf(LoadWith("pipe", "0", "64")), HasSubstr("not a regular file"));
}

TEST_F(External, BytesAloneCannotReferToOtherFiles) {
  ASSERT_TRUE(LoadWith("w.bin", "16", "64").ok());
  const absl::StatusOr<std::string> bytes = ReadFile(root_ / "model" / "m.onnx");
  ASSERT_TRUE(bytes.ok());
  EXPECT_THAT(ErrorOf(Graph::Parse(*bytes, "alone")), AllOf(HasSubstr("'w'"), HasSubstr("another file")));
}

TEST(Load, NamesAFileThatIsMissing) {
  EXPECT_THAT(ErrorOf(Graph::Load("/nowhere/m.onnx")), HasSubstr("/nowhere/m.onnx"));
}

}  // namespace
}  // namespace tandem::graph
