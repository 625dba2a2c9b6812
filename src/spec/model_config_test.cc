#include "spec/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "base/status.h"

namespace tandem::spec {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

std::string Wrong(std::string_view text, const std::vector<std::string>& overrides = {}) {
  absl::StatusOr<ModelConfig> config = ParseModelConfig(text, "m.yaml", overrides);
  EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(MessageOf(config.status()));
}

constexpr std::string_view kWhole = R"(engine: openvino
device: GPU
isolation: process
run_timeout_s: 2.5
max_instances: 3
threads: 2
max_batch_size: 32
preferred_batch_sizes: [4, 8, 32]
max_queue_delay_ms: 0.5
pad: true
priority: 2
priority_levels: 4
default_priority: 3
queue_limit: 10
queue_bytes: 20MB
timeout_ms: 100
slo_ms: 7.5
response_cache: true
lazy: true
warm_up_batch_sizes: [1, 32]
versions: "latest:2"
approval: true
canary:
  max_error_rate: 5%
  max_p99_ratio: 2
  min_requests: 50
sequence:
  strategy: oldest
  max_candidates: 8
  max_idle_s: 3
  controls:
    - input: START
      kind: start
    - input: READY
      kind: ready
  states:
    - input: h_in
      output: h_out
labels:
  y: [cat, dog, "a: b"]
)";

TEST(ModelConfig, ReadsEveryKey) {
  ModelConfig config = ParseModelConfig(kWhole, "m.yaml").value();
  EXPECT_EQ(config.engine, "openvino");
  EXPECT_EQ(config.device, "GPU");
  EXPECT_EQ(config.isolation, "process");
  EXPECT_EQ(config.run_timeout_s, 2.5);
  EXPECT_EQ(config.max_instances, 3);
  EXPECT_EQ(config.threads, 2);
  EXPECT_EQ(config.max_batch_size, 32);
  EXPECT_THAT(config.preferred_batch_sizes, ElementsAre(4, 8, 32));
  EXPECT_EQ(config.max_queue_delay_ms, 0.5);
  EXPECT_TRUE(config.pad && config.response_cache && config.lazy && config.approval);
  EXPECT_EQ(config.priority, 2);
  EXPECT_EQ(config.priority_levels, 4);
  EXPECT_EQ(config.default_priority, 3);
  EXPECT_EQ(config.queue_limit, 10);
  EXPECT_EQ(config.queue_bytes, 20'000'000);
  EXPECT_EQ(config.timeout_ms, 100);
  EXPECT_EQ(config.slo_ms, 7.5);
  EXPECT_THAT(config.warm_up_batch_sizes, ElementsAre(1, 32));
  EXPECT_EQ(config.versions, "latest:2");
  EXPECT_EQ(config.canary.max_error_rate, 0.05);
  EXPECT_EQ(config.canary.max_p99_ratio, 2);
  EXPECT_EQ(config.canary.min_requests, 50);
  EXPECT_EQ(config.sequence.strategy, "oldest");
  EXPECT_EQ(config.sequence.max_candidates, 8);
  EXPECT_EQ(config.sequence.max_idle_s, 3);
  ASSERT_EQ(config.sequence.controls.size(), 2u);
  EXPECT_EQ(config.sequence.controls[1].input, "READY");
  EXPECT_EQ(config.sequence.controls[1].kind, "ready");
  ASSERT_EQ(config.sequence.states.size(), 1u);
  EXPECT_EQ(config.sequence.states[0].output, "h_out");
  EXPECT_THAT(config.labels["y"], ElementsAre("cat", "dog", "a: b"));
}

TEST(ModelConfig, WritesWhatReadsBackTheSame) {
  std::string text = ToYaml(ParseModelConfig(kWhole, "m.yaml").value());
  EXPECT_EQ(ToYaml(ParseModelConfig(text, "again").value()), text);
  for (std::string_view key : {"engine: openvino", "queue_bytes: 20MB", "max_error_rate: 5%", "kind: ready", "a: b",
                               "latest:2", "max_candidates: 8", "warm_up_batch_sizes: [1, 32]"}) {
    EXPECT_THAT(text, HasSubstr(key));
  }
}

TEST(ModelConfig, WritesOnlyWhatDiffersFromTheDefault) {
  EXPECT_EQ(ToYaml(ModelConfig()), "");
  EXPECT_EQ(ToYaml(ParseModelConfig("", "m.yaml").value()), "");
  ModelConfig config;
  config.threads = 2;
  config.canary.min_requests = 7;
  EXPECT_EQ(ToYaml(config), "threads: 2\ncanary:\n  min_requests: 7\n");
}

TEST(ModelConfig, ReadsJsonToo) {
  EXPECT_EQ(ParseModelConfig(R"({"max_batch_size": 8, "sequence": "direct"})", "m.json")->max_batch_size, 8);
  EXPECT_EQ(ParseModelConfig(R"({"sequence": "direct"})", "m.json")->sequence.strategy, "direct");
}

TEST(ModelConfig, OverridesStandOnTopOfTheText) {
  ModelConfig config =
      ParseModelConfig("threads: 2\npriority: 3\n", "m.yaml", {"threads=4", "canary.min_requests=9", "priority="})
          .value();
  EXPECT_EQ(config.threads, 4);
  EXPECT_EQ(config.canary.min_requests, 9);
  EXPECT_EQ(config.priority, 5);
  EXPECT_THAT(Wrong("threads: 2\n", {"threads=65"}), StartsWith("--set threads=65: threads is '65'"));
  EXPECT_EQ(ParseModelConfig("", "", {"sequence=oldest"})->sequence.strategy, "oldest");
}

TEST(ModelConfig, AnUnknownKeyIsNamedWithTheNearest) {
  EXPECT_EQ(Wrong("threads: 1\nmax_batchsize: 8\n"),
            "m.yaml:2:1: unknown key 'max_batchsize'; did you mean 'max_batch_size'?");
  EXPECT_THAT(Wrong("canary: {min_request: 8}\n"), HasSubstr("in 'canary'; did you mean 'min_requests'?"));
  EXPECT_THAT(Wrong("sequence: {controls: [{input: a, kin: b}]}\n"), HasSubstr("did you mean 'kind'?"));
}

TEST(ModelConfig, AWrongValueIsNamedWithItsPlaceAndWhatIsRight) {
  EXPECT_EQ(Wrong("instances: 65\n"), "m.yaml:1:12: instances is '65'; it must be a whole number from 0 to 64");
  EXPECT_THAT(Wrong("instances: many\n"), HasSubstr("whole number"));
  EXPECT_THAT(Wrong("threads: 0\n"), HasSubstr("from 1 to 64"));
  EXPECT_THAT(Wrong("max_batch_size: 4097\n"), HasSubstr("from 0 to 4096"));
  EXPECT_THAT(Wrong("priority: 11\n"), HasSubstr("from 1 to 10"));
  EXPECT_THAT(Wrong("priority_levels: 17\n"), HasSubstr("from 0 to 16"));
  EXPECT_THAT(Wrong("slo_ms: -1\n"), HasSubstr("slo_ms is '-1'"));
  EXPECT_THAT(Wrong("timeout_ms: .nan\n"), HasSubstr("a number from 0"));
  EXPECT_THAT(Wrong("queue_bytes: 1\n"), HasSubstr("queue_bytes is '1'"));
  EXPECT_THAT(Wrong("pad: perhaps\n"), HasSubstr("true or false"));
  EXPECT_THAT(Wrong("isolation: proces\n"), HasSubstr("did you mean 'process'?"));
  EXPECT_THAT(Wrong("preferred_batch_sizes: 4\n"), HasSubstr("a list of up to 64"));
  EXPECT_THAT(Wrong("warm_up_batch_sizes: [0]\n"), HasSubstr("warm_up_batch_sizes.0 is '0'"));
  EXPECT_THAT(Wrong("labels: [a]\n"), HasSubstr("a map of output: list of class names"));
  EXPECT_THAT(Wrong("labels: {y: cat}\n"), HasSubstr("labels.y is 'cat'"));
  EXPECT_THAT(Wrong("- a\n"), HasSubstr("is a map of keys"));
  EXPECT_THAT(Wrong("threads: [\n"), StartsWith("m.yaml:"));
}

TEST(ModelConfig, TheBoundsOfACanaryAreChecked) {
  EXPECT_THAT(Wrong("canary: {max_error_rate: 1.5}\n"), HasSubstr("canary.max_error_rate is '1.5'"));
  EXPECT_THAT(Wrong("canary: {max_p99_ratio: 0.9}\n"), HasSubstr("canary.max_p99_ratio is '0.9'"));
  EXPECT_THAT(Wrong("canary: {min_requests: 0}\n"), HasSubstr("canary.min_requests is '0'"));
}

TEST(ModelConfig, BatchSizesMustAscendAndFit) {
  EXPECT_EQ(Wrong("max_batch_size: 8\npreferred_batch_sizes: [8, 4]\n"),
            "m.yaml:2:24: preferred_batch_sizes has 4 after 8; write them ascending, each once");
  EXPECT_THAT(Wrong("max_batch_size: 8\npreferred_batch_sizes: [4, 4]\n"), HasSubstr("ascending"));
  EXPECT_THAT(Wrong("max_batch_size: 8\npreferred_batch_sizes: [4, 16]\n"), HasSubstr("above max_batch_size"));
  EXPECT_THAT(Wrong("preferred_batch_sizes: [4]\n"), HasSubstr("above max_batch_size, which is 0"));
  EXPECT_THAT(Wrong("max_batch_size: 8\npad: true\n"), StartsWith("m.yaml:2:6: pad is true"));
  EXPECT_THAT(Wrong("max_batch_size: 8\nwarm_up_batch_sizes: [9]\n"), HasSubstr("no batch is that large"));
}

TEST(ModelConfig, TheDefaultPriorityIsOneOfTheLevels) {
  EXPECT_THAT(Wrong("priority_levels: 2\ndefault_priority: 3\n"), StartsWith("m.yaml:2:19: default_priority is 3"));
  EXPECT_EQ(ParseModelConfig("priority_levels: 2\ndefault_priority: 2\n", "m.yaml")->default_priority, 2);
}

TEST(ModelConfig, AFixedNumberOfInstancesHasNoGreatestOne) {
  EXPECT_THAT(Wrong("instances: 2\nmax_instances: 3\n"), StartsWith("m.yaml:2:16: max_instances is 3"));
}

TEST(ModelConfig, SequencesNeedTheirPartsWhole) {
  EXPECT_THAT(Wrong("sequence: {controls: [{input: a, kind: start}]}\n"), HasSubstr("sequence.strategy is missing"));
  EXPECT_THAT(Wrong("sequence: {strategy: newest}\n"), HasSubstr("one of direct, oldest"));
  EXPECT_THAT(Wrong("sequence: {strategy: direct, controls: [{input: a}]}\n"),
              HasSubstr("sequence.controls.0.kind is missing"));
  EXPECT_THAT(Wrong("sequence: {strategy: direct, controls: [{input: a, kind: begin}]}\n"),
              HasSubstr("one of start, end, ready, id"));
  EXPECT_THAT(Wrong("sequence: {strategy: direct, controls: [{input: a, kind: end}, {input: b, kind: end}]}\n"),
              HasSubstr("sequence.controls.1.kind is 'end'"));
  EXPECT_THAT(Wrong("sequence: {strategy: direct, states: [{output: a}]}\n"),
              HasSubstr("sequence.states.0.input is missing"));
  EXPECT_THAT(
      Wrong("sequence: {strategy: direct, controls: [{input: a, kind: end}], states: [{input: a, output: b}]}\n"),
      HasSubstr("sequence.states.0.input is 'a'"));
}

TEST(ModelConfig, VersionsAreAllTheLatestOrListed) {
  auto versions = [](std::string_view text) { return ParseModelConfig(text, "m.yaml").value().versions; };
  EXPECT_EQ(versions("versions: all"), "all");
  EXPECT_EQ(versions("versions: none"), "");
  EXPECT_EQ(versions("versions: latest"), "latest:1");
  EXPECT_EQ(versions("versions: 'latest:3'"), "latest:3");
  EXPECT_EQ(versions("versions: 4"), "4");
  EXPECT_EQ(versions("versions: '4,1,4'"), "1,4");
  EXPECT_EQ(versions("versions: [4, 1]"), "1,4");
  EXPECT_EQ(versions("versions: []"), "");
  for (std::string_view text : {"versions: 0", "versions: some", "versions: 'latest:0'", "versions: 'latest:x'",
                                "versions: '1,,2'", "versions: -1", "versions: [[1]]", "versions: {a: 1}"}) {
    EXPECT_THAT(Wrong(text), HasSubstr("it must be none, all, latest:N")) << text;
  }
  ModelConfig listed;
  listed.versions = "1,4";
  EXPECT_EQ(ToYaml(listed), "versions: [1, 4]\n");
}

TEST(ModelConfig, TheVersionsKeyPicksFromThoseThatExist) {
  EXPECT_THAT(VersionsServed("", {1, 2}), IsEmpty());
  EXPECT_THAT(VersionsServed("all", {2, 1}), ElementsAre(1, 2));
  EXPECT_THAT(VersionsServed("latest:2", {1, 5, 3}), ElementsAre(3, 5));
  EXPECT_THAT(VersionsServed("latest:9", {1, 5}), ElementsAre(1, 5));
  EXPECT_THAT(VersionsServed("1,4,7", {1, 2, 4}), ElementsAre(1, 4));
}

TEST(ModelConfig, TheDocumentedKeysAreTheRealOnes) {
  std::ifstream file(std::string(TANDEM_SOURCE_DIR) + "/docs/serving.md");
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_THAT(text.str(), HasSubstr(ModelConfigMarkdown())) << "docs/serving.md should have:\n"
                                                            << ModelConfigMarkdown();
}

}  // namespace
}  // namespace tandem::spec
