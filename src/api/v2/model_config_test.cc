#include "api/v2/model_config.h"

#include <gmock/gmock.h>

namespace tandem::api::v2 {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

TranslatedConfig Good(std::string_view json) {
  absl::StatusOr<TranslatedConfig> translated = TranslateModelConfigJson(json, "config");
  EXPECT_TRUE(translated.ok()) << translated.status();
  return translated.ok() ? *std::move(translated) : TranslatedConfig();
}

TEST(ModelConfig, ReadsWhatMeansSomethingHere) {
  TranslatedConfig translated = Good(R"({
    "name": "m", "platform": "onnxruntime_onnx", "backend": "onnxruntime", "default_model_filename": "net.onnx",
    "max_batch_size": 16,
    "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": ["3", "-1"]}],
    "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [10], "label_filename": "labels.txt"}],
    "version_policy": {"latest": {"num_versions": 2}},
    "dynamic_batching": {"preferred_batch_size": [8, 4, 8], "max_queue_delay_microseconds": "1500",
                         "priority_levels": 3, "default_priority_level": 2,
                         "default_queue_policy": {"timeout_action": "REJECT", "default_timeout_microseconds": 20000,
                                                  "allow_timeout_override": true, "max_queue_size": 99}},
    "instance_group": [{"count": 2, "kind": "KIND_CPU"}, {"name": "more"}],
    "response_cache": {"enable": true},
    "model_transaction_policy": {"decoupled": false},
    "model_warmup": [{"name": "w", "batch_size": 4}, {"batch_size": 0}],
    "parameters": {"tandem.slo_ms": {"string_value": "25"}, "tandem.lazy": {"string_value": "true"}}
  })");
  const spec::ModelConfig& config = translated.config;
  EXPECT_EQ(config.max_batch_size, 16);
  EXPECT_THAT(config.preferred_batch_sizes, ElementsAre(4, 8));
  EXPECT_EQ(config.max_queue_delay_ms, 1.5);
  EXPECT_EQ(config.priority_levels, 3);
  EXPECT_EQ(config.default_priority, 2);
  EXPECT_EQ(config.timeout_ms, 20);
  EXPECT_EQ(config.queue_limit, 99);
  EXPECT_EQ(config.instances, 3);
  EXPECT_EQ(config.versions, "latest:2");
  EXPECT_TRUE(config.response_cache);
  EXPECT_THAT(config.warm_up_batch_sizes, UnorderedElementsAre(1, 4));
  EXPECT_EQ(config.slo_ms, 25);
  EXPECT_TRUE(config.lazy);
  EXPECT_EQ(translated.name, "m");
  EXPECT_EQ(translated.backend, "onnxruntime");
  EXPECT_EQ(translated.default_model_filename, "net.onnx");
  EXPECT_EQ(translated.label_files.at("y"), "labels.txt");
  EXPECT_THAT(translated.ignored, IsEmpty());
}

TEST(ModelConfig, ReadsSequences) {
  spec::SequenceConfig sequence = Good(R"({"max_batch_size": 4, "sequence_batching": {
    "max_sequence_idle_microseconds": 5000000, "oldest": {"max_candidate_sequences": 9},
    "control_input": [
      {"name": "START", "control": [{"kind": "CONTROL_SEQUENCE_START", "fp32_false_true": [0, 1]}]},
      {"name": "STOP", "control": {"kind": "CONTROL_SEQUENCE_END", "bool_false_true": [false, true]}},
      {"name": "READY", "control": [{"kind": "CONTROL_SEQUENCE_READY", "int32_false_true": [0, 1]}]},
      {"name": "ID", "control": [{"kind": "CONTROL_SEQUENCE_CORRID", "data_type": "TYPE_UINT64"}]}],
    "state": [{"input_name": "h_in", "output_name": "h_out", "data_type": "TYPE_FP32", "dims": [4],
               "initial_state": [{"name": "zero", "zero_data": true}]}]}})")
                                      .config.sequence;
  EXPECT_EQ(sequence.strategy, "oldest");
  EXPECT_EQ(sequence.max_candidates, 9);
  EXPECT_EQ(sequence.max_idle_s, 5);
  ASSERT_EQ(sequence.controls.size(), 4);
  EXPECT_EQ(sequence.controls[0].kind, "start");
  EXPECT_EQ(sequence.controls[1].kind, "end");
  EXPECT_EQ(sequence.controls[2].kind, "ready");
  EXPECT_EQ(sequence.controls[3].kind, "id");
  EXPECT_EQ(sequence.controls[3].input, "ID");
  ASSERT_EQ(sequence.states.size(), 1);
  EXPECT_EQ(sequence.states[0].output, "h_out");
  EXPECT_EQ(Good(R"({"sequence_batching": {}})").config.sequence.strategy, "direct");
}

TEST(ModelConfig, ReadsVersionPolicies) {
  EXPECT_EQ(Good(R"({"version_policy": {"all": {}}})").config.versions, "all");
  EXPECT_EQ(Good(R"({"version_policy": {"latest": {}}})").config.versions, "latest:1");
  EXPECT_EQ(Good(R"({"version_policy": {"specific": {"versions": [4, 1]}}})").config.versions, "1,4");
  EXPECT_EQ(Good("{}").config, spec::ModelConfig());
}

TEST(ModelConfig, NamesWhatHasNoEffectButNotWhatIsEmpty) {
  EXPECT_THAT(Good(R"({"optimization": {"priority": "PRIORITY_MAX"}, "metric_tags": {}, "cc_model_filenames": {},
                       "batch_input": [], "runtime": "", "instance_group": [{"kind": "KIND_GPU", "gpus": [0]}],
                       "dynamic_batching": {"preserve_ordering": true, "priority_queue_policy": {},
                                            "default_queue_policy": {"timeout_action": "DELAY"}},
                       "input": [{"name": "x", "reshape": {"shape": [1]}, "optional": false}],
                       "parameters": {"EXECUTION_MODE": {"string_value": "1"}}, "from_the_future": 3})")
                  .ignored,
              UnorderedElementsAre("optimization", "instance_group.0.kind", "dynamic_batching.preserve_ordering",
                                   "dynamic_batching.default_queue_policy.timeout_action", "input.0.reshape",
                                   "parameters.EXECUTION_MODE", "from_the_future"));
}

struct Bad {
  const char* json;
  const char* message;
};
class BadModelConfig : public ::testing::TestWithParam<Bad> {};

TEST_P(BadModelConfig, IsRefusedWithWhatIsWrong) {
  absl::StatusOr<TranslatedConfig> translated = TranslateModelConfigJson(GetParam().json, "config");
  ASSERT_EQ(translated.status().code(), absl::StatusCode::kInvalidArgument) << GetParam().json;
  EXPECT_THAT(std::string(translated.status().message()), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadModelConfig,
    ::testing::Values(
        Bad{"[1]", "a map of keys"}, Bad{"{\"a\":", "config"}, Bad{R"({"max_batch_size": -1})", "max_batch_size"},
        Bad{R"({"max_batch_size": 5000})", "max_batch_size"}, Bad{R"({"max_batch_size": "many"})", "max_batch_size"},
        Bad{R"({"max_batch_size": {}})", "max_batch_size"}, Bad{R"({"name": [1]})", "name"},
        Bad{R"({"dynamic_batching": 3})", "dynamic_batching"},
        Bad{R"({"max_batch_size": 4, "dynamic_batching": {"preferred_batch_size": [8]}})", "above max_batch_size"},
        Bad{R"({"dynamic_batching": {"preferred_batch_size": [0]}})", "preferred_batch_size.0"},
        Bad{R"({"dynamic_batching": {"max_queue_delay_microseconds": -1}})", "max_queue_delay_microseconds"},
        Bad{R"({"dynamic_batching": {"priority_levels": 2, "default_priority_level": 3}})", "default_priority"},
        Bad{R"({"dynamic_batching": {"priority_levels": 99}})", "priority_levels"},
        Bad{R"({"instance_group": [{"count": 40}, {"count": 40}]})", "instance_group has 80"},
        Bad{R"({"instance_group": [{"count": -1}]})", "instance_group.0.count"},
        Bad{R"({"version_policy": {"latest": {"num_versions": 0}}})", "num_versions"},
        Bad{R"({"version_policy": {"specific": {"versions": ["x"]}}})", "versions.0"},
        Bad{R"({"response_cache": {"enable": 3}})", "response_cache.enable"},
        Bad{R"({"model_transaction_policy": {"decoupled": true}})", "decoupled models cannot be served"},
        Bad{R"({"ensemble_scheduling": {"step": [{"model_name": "a"}]}})", "ensembles cannot be served"},
        Bad{R"({"sequence_batching": {"control_input": [{"name": "S"}]}})", "no control"},
        Bad{R"({"sequence_batching": {"control_input": [{"name": "S", "control": [{"kind": "SOON"}]}]}})", "kind"},
        Bad{R"({"sequence_batching": {"control_input": [{"name": "S", "control": [{"int32_false_true": [1, 0]}]}]}})",
            "must be [0, 1]"},
        Bad{R"({"sequence_batching": {"control_input": [{"control": [{"kind": "CONTROL_SEQUENCE_END"}]}]}})",
            "input is missing"},
        Bad{R"({"sequence_batching": {"oldest": {"max_candidate_sequences": 0}}})", "max_candidate_sequences"},
        Bad{R"({"sequence_batching": {"state": [{"input_name": "a", "output_name": "b",
                 "initial_state": [{"data_file": "f"}]}]}})",
            "begins with zeros"},
        Bad{R"({"parameters": {"tandem.slo_ms": {"string_value": "soon"}}})", "slo_ms"},
        Bad{R"({"parameters": {"tandem.speed": {"string_value": "1"}}})", "speed"},
        Bad{R"({"parameters": [1]})", "parameters"}));

}  // namespace
}  // namespace tandem::api::v2
