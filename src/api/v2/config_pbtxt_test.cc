#include "api/v2/config_pbtxt.h"

#include <gmock/gmock.h>

#include "api/v2/text_format.h"
#include "base/status.h"

namespace tandem::api::v2 {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string Yaml(std::string_view text) {
  absl::StatusOr<spec::Node> root = ParseTextFormat(text, "m");
  return root.ok() ? spec::EmitYaml(*root) : std::string(MessageOf(root.status()));
}
PbtxtConfig Good(std::string_view text) {
  absl::StatusOr<PbtxtConfig> config = TranslateModelConfigText(text, "config.pbtxt");
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *std::move(config) : PbtxtConfig();
}
std::string Bad(std::string_view text) {
  return std::string(MessageOf(TranslateModelConfigText(text, "config.pbtxt").status()));
}
std::string Contradiction(std::string_view text) {
  const std::vector<TensorSignature> inputs = {{"x", DType::kFloat32, {-1, 3, -1}}};
  const std::vector<TensorSignature> outputs = {{"y", DType::kString, {-1, 10}}};
  return std::string(MessageOf(CheckAgainstModel(Good(text), inputs, outputs)));
}

TEST(TextFormat, ReadsEveryWayToWriteAMessage) {
  EXPECT_EQ(Yaml("a { b: 1 c <d: 'x'>; } # note\n, e: [1, -2]"),
            Yaml("a: {\n  b: 0x1,\n  c: { d: \"x\" }\n}\ne: 01 e: - 2"));
  EXPECT_EQ(Yaml("a { b: 1 } a { b: 2 }"), Yaml("a: [{ b: 1 }, < b: 2 >]"));
  EXPECT_EQ(Yaml(""), Yaml("  # nothing\n\n"));
  EXPECT_EQ(Yaml("[some.extension]: 3"), "\"[some.extension]\": 3\n");
  EXPECT_EQ(Yaml("a: []"), "a: []\n");
}

TEST(TextFormat, ReadsTextsAndNumbers) {
  spec::Node root = *ParseTextFormat(
      "a: \"one \" 'two\\n\\x41\\303\\244' b: 1.5e-3f c: TYPE_FP32 d: -inf e: 18446744073709551615", "m");
  EXPECT_EQ(root.Find("a")->text, "one two\nA\u00e4");
  EXPECT_EQ(root.Find("b")->text, "1.5e-3");
  EXPECT_EQ(root.Find("c")->text, "TYPE_FP32");
  EXPECT_EQ(root.Find("d")->text, "-inf");
  EXPECT_EQ(root.Find("e")->text, "18446744073709551615");
  EXPECT_EQ(root.Find("c")->where, "m:1:45");
}

TEST(TextFormat, SaysWhereItIsWrong) {
  EXPECT_EQ(Yaml("a: 1\nb {\n  c: 2\n"), "m:4:1: the file ends inside of a message; '}' is missing");
  EXPECT_EQ(Yaml("a: 1\n b 2"), "m:2:4: ':' or '{' was expected after the field's name, not '2'");
  EXPECT_EQ(Yaml("a: }"), "m:1:4: a value was expected, not '}'");
  EXPECT_EQ(Yaml("}"), "m:1:1: a field's name was expected, not '}'");
  EXPECT_EQ(Yaml("a: \"x\nb: 1"), "m:1:4: the text has no end; \" is missing in its line");
  EXPECT_EQ(Yaml("a: [1 2]"), "m:1:7: ',' or ']' was expected in the list, not '2'");
  EXPECT_EQ(Yaml("a: 12x"), "m:1:4: '12x' is no number");
  EXPECT_THAT(Yaml("a: '\\xff'"), HasSubstr("not valid UTF-8"));
  EXPECT_THAT(Yaml("a: '\\q'"), HasSubstr("wrong escape"));
  EXPECT_THAT(Yaml("\xff"), HasSubstr("not valid UTF-8"));
  std::string deep;
  for (int i = 0; i < 100; ++i) deep += "a {";
  EXPECT_THAT(Yaml(deep), HasSubstr("nested deeper"));
  std::string wide;
  for (int i = 0; i < 30'000; ++i) wide += "a:1 ";
  EXPECT_THAT(Yaml(wide), HasSubstr("more than 20000 values"));
}

TEST(ConfigPbtxt, ReadsWhatARepositoryHas) {
  PbtxtConfig config = Good(R"(name: "m"
    backend: "onnxruntime"
    max_batch_size: 8
    input [ { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] } ]
    output { name: "y" data_type: TYPE_STRING dims: 10 label_filename: "labels.txt" }
    dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 500 }
    instance_group [ { count: 2 kind: KIND_CPU } ]
    version_policy: { specific { versions: [ 1, 3 ] } }
    parameters { key: "tandem.slo_ms" value: { string_value: "25" } }
    parameters: { key: "tandem.lazy", value { string_value: "true" } })");
  EXPECT_EQ(config.translated.name, "m");
  EXPECT_EQ(config.translated.backend, "onnxruntime");
  EXPECT_EQ(config.translated.label_files.at("y"), "labels.txt");
  const spec::ModelConfig& model = config.translated.config;
  EXPECT_EQ(model.max_batch_size, 8);
  EXPECT_THAT(model.preferred_batch_sizes, ElementsAre(4, 8));
  EXPECT_EQ(model.max_queue_delay_ms, 0.5);
  EXPECT_EQ(model.instances, 2);
  EXPECT_EQ(model.versions, "1,3");
  EXPECT_EQ(model.slo_ms, 25);
  EXPECT_TRUE(model.lazy);
  EXPECT_THAT(config.ignored, IsEmpty());
  ASSERT_EQ(config.inputs.size(), 1);
  EXPECT_EQ(config.inputs[0].dtype, DType::kFloat32);
  EXPECT_THAT(config.inputs[0].dims, ElementsAre(3, -1));
  EXPECT_EQ(config.outputs[0].dtype, DType::kString);
  EXPECT_EQ(Good("version_policy { all { } }").translated.config.versions, "all");
}

TEST(ConfigPbtxt, NamesWhatHasNoEffectWithItsLine) {
  PbtxtConfig config = Good(
      "max_batch_size: 1\noptimization {\n  execution_accelerators { name: 'tensorrt' }\n}\n"
      "instance_group [\n  { kind: KIND_GPU gpus: [ 0, 1 ] }\n]\nparameters { key: 'a.b' value { string_value: 'c' } "
      "}");
  EXPECT_THAT(config.ignored,
              ElementsAre("config.pbtxt:2:1: optimization", "config.pbtxt:6:5: instance_group.0.kind",
                          "config.pbtxt:6:20: instance_group.0.gpus", "config.pbtxt:8:19: parameters.a.b"));
}

TEST(ConfigPbtxt, RefusesWrongValuesWithTheirLine) {
  EXPECT_THAT(Bad("name: 'm'\nmax_batch_size: many"), HasSubstr("config.pbtxt:2:17: max_batch_size"));
  EXPECT_THAT(Bad("input { data_type: TYPE_FP32 }"), HasSubstr("config.pbtxt:1:7: input has no name"));
  EXPECT_THAT(Bad("input { name: 'x' data_type: FP32 }"), HasSubstr("1:30: input.data_type"));
  EXPECT_THAT(Bad("input { name: 'x' dims: [ a ] }"), HasSubstr("1:27: input.dims.0"));
  EXPECT_THAT(Bad("parameters: 3"), HasSubstr("parameters must be a message with key and value"));
  EXPECT_THAT(Bad("ensemble_scheduling { step [ { model_name: 'a' } ] }"), HasSubstr("ensembles cannot be served"));
}

TEST(ConfigPbtxt, AgreesWithTheModelOrNamesBothSides) {
  EXPECT_EQ(Contradiction("max_batch_size: 8 input { name: 'x' data_type: TYPE_FP32 dims: [ 3, 224 ] }"), "");
  EXPECT_EQ(Contradiction("input { name: 'x' dims: [ -1, 3, -1 ] } output { name: 'y' data_type: TYPE_STRING }"), "");
  EXPECT_EQ(Contradiction("max_batch_size: 8\ninput { name: 'x' dims: [ 4, 224 ] }"),
            "config.pbtxt:2:25: input.dims of 'x' is [4,224], with the batch [-1,4,224], but the model's shape is "
            "[-1,3,-1]");
  EXPECT_EQ(Contradiction("input { name: 'x' dims: [ 3, -1 ] }"),
            "config.pbtxt:1:25: input.dims of 'x' is [3,-1], but the model's shape is [-1,3,-1]");
  EXPECT_EQ(Contradiction("output { name: 'y' data_type: TYPE_INT64 }"),
            "config.pbtxt:1:8: output.data_type of 'y' is INT64, but the model's is BYTES");
  EXPECT_EQ(Contradiction("input { name: 'z' }"), "config.pbtxt:1:7: input: the model has no input 'z'; it has 'x'");
}

TEST(ConfigPbtxt, ABatchNeedsAFirstDimensionOfAnySize) {
  absl::Status status = CheckAgainstModel(Good("name: 'm'\nmax_batch_size: 4"), {{"x", DType::kFloat32, {1, 3}}}, {});
  EXPECT_THAT(MessageOf(status), HasSubstr("config.pbtxt:2:17: max_batch_size is 4, but the model's input 'x' has the "
                                           "shape [1,3]"));
}

}  // namespace
}  // namespace tandem::api::v2
