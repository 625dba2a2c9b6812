#include "daemon/engine_choice_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/engine_choice_measuring.h"

namespace tandem::daemon {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

EngineResult Result(const std::string& engine, double ms, double relative = 1e-6) {
  return {.engine = engine,
          .version = "1",
          .compared = engine != kReferenceEngine,
          .max_difference = relative * 10,
          .relative_difference = relative,
          .latency_ms = {{1, ms}}};
}

EngineReport Report(std::vector<EngineResult> engines) {
  return {.default_engine = "openvino", .reference = "interpreter", .engines = std::move(engines)};
}

EngineReport Chosen(EngineReport report) {
  Choose(&report);
  return report;
}

TEST(Choose, TakesTheFastest) {
  EngineReport report = Chosen(Report({Result("torch", 3), Result("openvino", 1), Result("onnxruntime", 0.5)}));
  EXPECT_EQ(report.chosen, "onnxruntime");
  EXPECT_EQ(report.why, "50 % less time than openvino at batch 1");
  report = Chosen(Report({Result("torch", 3), Result("openvino", 0.5), Result("onnxruntime", 1)}));
  EXPECT_EQ(report.chosen, "openvino");
  EXPECT_EQ(report.why, "the fastest at batch 1");
}

TEST(Choose, StaysWithTheDefaultUnlessTheMarginIsClear) {
  EngineReport report = Chosen(Report({Result("openvino", 1), Result("onnxruntime", 0.96)}));
  EXPECT_EQ(report.chosen, "openvino");
  EXPECT_EQ(report.why, "the default; onnxruntime takes 4 % less time at batch 1, not enough for a change");
  EXPECT_EQ(Chosen(Report({Result("openvino", 1), Result("onnxruntime", 0.94)})).chosen, "onnxruntime");
}

TEST(Choose, DecidesAtThePreferredBatch) {
  EngineResult slow_alone = Result("openvino", 2), slow_together = Result("onnxruntime", 1);
  slow_alone.latency_ms[8] = 4;
  slow_together.latency_ms[8] = 6;
  EngineReport report = Report({slow_alone, slow_together});
  EXPECT_EQ(Chosen(report).chosen, "onnxruntime");
  report.batch = 8;
  EXPECT_EQ(Chosen(report).chosen, "openvino");
  report.batch = 64;
  EXPECT_EQ(Chosen(report).chosen, "openvino") << "the largest that was measured";
}

TEST(Choose, AnEngineWithOtherOutputsIsOutHoweverFastItIs) {
  EngineReport report = Chosen(Report({Result("torch", 3), Result("openvino", 1), Result("onnxruntime", 0.1, 0.02)}));
  EXPECT_EQ(report.chosen, "openvino");
  EXPECT_THAT(report.engines[2].error,
              AllOf(HasSubstr("differ from those of interpreter"), HasSubstr("0.02 of their scale")));
}

TEST(Choose, LowPrecisionsMayDifferMore) {
  EngineReport report = Report({Result("openvino", 1, 0.02)});
  EXPECT_THAT(Chosen(report).chosen, IsEmpty());
  report.precision = "bf16";
  EXPECT_EQ(Chosen(report).chosen, "openvino");
  report.precision = "f16";
  EXPECT_THAT(Chosen(report).chosen, IsEmpty());
}

TEST(Choose, RoundingOfNumbersAboutZeroIsNoDifference) {
  EngineResult tiny = Result("openvino", 1);
  tiny.max_difference = 1e-9;
  tiny.relative_difference = 0.5;
  EXPECT_EQ(Chosen(Report({tiny})).chosen, "openvino");
}

TEST(Choose, AnEngineInAnotherProcessPaysForTheWay) {
  EngineResult torch = Result("torch", 0.07);
  torch.hop_ms = 0.05;
  EXPECT_EQ(Chosen(Report({torch, Result("openvino", 0.1)})).chosen, "openvino");
  torch.hop_ms = 0;
  EXPECT_EQ(Chosen(Report({torch, Result("openvino", 0.1)})).chosen, "torch");
}

TEST(Choose, WhatCannotServeIsOut) {
  EngineResult broken = Result("openvino", 0.1), reference_only = Result("torch", 0.1);
  broken.error = "operator 'Tree' is not supported";
  reference_only.candidate = false;
  EngineReport report = Chosen(Report({reference_only, broken, Result("onnxruntime", 1)}));
  EXPECT_EQ(report.chosen, "onnxruntime");
  EXPECT_EQ(report.why, "the only one that serves it");
  EXPECT_EQ(WhyOthersDoNot(report, ""), "openvino: operator 'Tree' is not supported");
  EXPECT_EQ(WhyOthersDoNot(report, "openvino"), "");
  report = Chosen(Report({broken}));
  EXPECT_THAT(report.chosen, IsEmpty());
  EXPECT_EQ(report.why, "no engine serves it");
}

TEST(Choose, WhatCouldNotBeMeasuredLeavesTheDefault) {
  EngineResult openvino = Result("openvino", 0), onnxruntime = Result("onnxruntime", 0);
  openvino.latency_ms.clear();
  onnxruntime.latency_ms.clear();
  EXPECT_EQ(Chosen(Report({onnxruntime, openvino})).chosen, "openvino");
  EXPECT_EQ(Chosen(Report({onnxruntime})).chosen, "onnxruntime");
}

TEST(HoldBack, TheFormerEngineServesAgain) {
  EngineReport report = Chosen(Report({Result("torch", 3), Result("openvino", 1), Result("onnxruntime", 0.5)}));
  ASSERT_EQ(report.chosen, "onnxruntime");
  ASSERT_TRUE(HoldBack("onnxruntime", "torch", "it ended the server", &report));
  EXPECT_EQ(report.chosen, "torch") << "it served, and that openvino would is only measured";
  EXPECT_EQ(report.why, "it served the version before; onnxruntime is held back: it ended the server");
  EXPECT_EQ(report.engines[2].error, "held back: it ended the server");
  EXPECT_TRUE(report.engines[2].held_back);
  const std::string once = ToJson(report);
  ASSERT_TRUE(HoldBack("onnxruntime", "torch", "it ended the server", &report));
  EXPECT_EQ(ToJson(report), once);
}

TEST(HoldBack, WhereSomethingSpeaksAgainstTheFormerEngineTheBestOfTheOthersServes) {
  EngineReport report = Chosen(Report({Result("torch", 3), Result("openvino", 1, 0.02), Result("onnxruntime", 0.5)}));
  ASSERT_EQ(report.chosen, "onnxruntime");
  ASSERT_TRUE(HoldBack("onnxruntime", "openvino", "it ended the server", &report));
  EXPECT_EQ(report.chosen, "torch");
  EngineReport alone = Chosen(Report({Result("openvino", 1, 0.02), Result("onnxruntime", 0.5)}));
  EXPECT_FALSE(HoldBack("onnxruntime", "openvino", "it ended the server", &alone));
  EXPECT_EQ(alone.chosen, "onnxruntime");
  EXPECT_FALSE(alone.engines[1].held_back);
}

TEST(HoldBack, WhatWasNeverMeasuredIsHeldBackToo) {
  EngineReport report;
  ASSERT_TRUE(HoldBack("openvino", "torch", "it ended the server", &report));
  EXPECT_EQ(report.chosen, "torch");
  const EngineReport read = EngineReportFromJson(ToJson(report));
  ASSERT_EQ(read.engines.size(), 1U);
  EXPECT_TRUE(read.engines[0].held_back);
  EXPECT_THAT(read.key, IsEmpty()) << "it is measured yet";
}

TEST(ChooseBeside, WhatIsHeldBackStaysSoHoweverFastItIs) {
  EngineReport former = Chosen(Report({Result("torch", 3), Result("openvino", 1), Result("onnxruntime", 0.5)}));
  ASSERT_TRUE(HoldBack("onnxruntime", "torch", "it ended the server", &former));
  EngineReport report = Report({Result("torch", 3), Result("openvino", 1), Result("onnxruntime", 0.1)});
  ChooseBeside(former, &report);
  EXPECT_EQ(report.chosen, "openvino");
  EXPECT_EQ(report.engines[2].error, "held back: it ended the server");
  EngineReport without = Report({Result("torch", 3), Result("openvino", 1)});
  ChooseBeside(former, &without);
  ASSERT_EQ(without.engines.size(), 3U) << "its plug-in may come back";
  EXPECT_TRUE(without.engines[2].held_back);
}

TEST(ChooseBeside, WhatServesStaysWhereOnlyWhatIsHeldBackCould) {
  EngineReport former = Chosen(Report({Result("onnxruntime", 0.5)}));
  ASSERT_TRUE(HoldBack("onnxruntime", "custom", "it ended the server", &former));
  EngineReport report = Report({Result("onnxruntime", 0.5)});
  ChooseBeside(former, &report);
  EXPECT_EQ(report.chosen, "custom");
  EXPECT_EQ(report.why, former.why);
  ChooseBeside({}, &report);
  EXPECT_THAT(report.chosen, IsEmpty()) << "nobody chose before";
}

TEST(EngineReport, IsReadBackAsItWasWritten) {
  EngineReport report = Report({Result("torch", 3), Result("openvino", 1)});
  report.key = "a key";
  report.samples = "made";
  report.engines[0].candidate = false;
  report.engines[1].error = "not \xff UTF-8";
  Choose(&report);
  const EngineReport read = EngineReportFromJson(ToJson(report));
  EXPECT_EQ(read.key, "a key");
  EXPECT_EQ(read.why, report.why);
  EXPECT_FALSE(read.engines[0].candidate);
  EXPECT_THAT(read.engines[1].latency_ms, ElementsAre(std::pair(1, 1.0)));
  EXPECT_EQ(ToJson(read), ToJson(EngineReportFromJson(ToJson(read))));
  for (const char* bad :
       {"", "{", "[]", "{}", R"({"engines":[1]})", R"({"engines":[{"engine":"a","latency_ms":{"x":1}}]})"}) {
    EXPECT_THAT(EngineReportFromJson(bad).key, IsEmpty()) << bad;
  }
}

TEST(EngineReport, DependsOnVersionsOptionsBatchAndIsolation) {
  const std::vector<engine::EngineInfo> engines = {{"openvino", "1", "", ""}}, newer = {{"openvino", "2", "", ""}};
  const std::string key = KeyOf(engines, {}, 1, "thread");
  EXPECT_EQ(key, KeyOf(engines, {}, 1, "thread"));
  EXPECT_NE(key, KeyOf(newer, {}, 1, "thread"));
  EXPECT_NE(key, KeyOf(engines, {.precision = "bf16"}, 1, "thread"));
  EXPECT_NE(key, KeyOf(engines, {.threads = 2}, 1, "thread"));
  EXPECT_NE(key, KeyOf(engines, {}, 8, "thread"));
  EXPECT_NE(key, KeyOf(engines, {}, 1, "process"));
}

TEST(EngineReport, EnginesThatDoNotComputeAreNoChoice) {
  std::vector<engine::EngineInfo> left = ComputingEngines({{"echo", "1", "", ""}, {"openvino", "1", "", ""}});
  ASSERT_EQ(left.size(), 1U);
  EXPECT_EQ(left[0].name, "openvino");
}

TEST(DecidingBatch, IsThePreferredOneWithinBounds) {
  spec::ModelConfig config;
  EXPECT_EQ(DecidingBatch(config), 1);
  config.max_batch_size = 32;
  EXPECT_EQ(DecidingBatch(config), 32);
  config.preferred_batch_sizes = {4, 16};
  EXPECT_EQ(DecidingBatch(config), 16);
  config.preferred_batch_sizes = {512};
  EXPECT_EQ(DecidingBatch(config), 64);
}

}  // namespace
}  // namespace tandem::daemon
