// The pure parts of `bench colocation`: options, amounts, ratios, goals, text, JSON and picture.
#include "tandem/bench_colocation.h"

#include <gmock/gmock.h>

#include "absl/strings/match.h"
#include "base/strings.h"
#include "data/dataset.h"
#include "nlohmann/json.hpp"
#include "tandem/bench_colocation_command.h"
#include "tandem/bench_colocation_report.h"
#include "tandem/synthetic_images.h"
#include "tandem/temporary_folder.h"
#include "tandem/warm_cpus.h"

namespace tandem::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

const Style kPlain(false);

std::string ErrorOf(const ColocationWords& words) { return std::string(ParseColocation(words).status().message()); }

TEST(ColocationOptions, HaveTheDocumentedDefaults) {
  absl::StatusOr<ColocationOptions> options = ParseColocation({});
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_THAT(options->loads, ElementsAre(0.05, 0.25, 0.5));
  EXPECT_EQ(options->modes.size(), 5u);
  EXPECT_EQ(options->amount.rounds, 9);
  EXPECT_TRUE(options->check_bytes);
}

TEST(ColocationOptions, QuickMeansThreeRoundsAndNoComparisonUnlessAsked) {
  absl::StatusOr<ColocationOptions> quick = ParseColocation({.quick = true});
  ASSERT_TRUE(quick.ok());
  EXPECT_EQ(quick->amount.rounds, 3);
  EXPECT_FALSE(quick->check_bytes);
  EXPECT_TRUE(ParseColocation({.quick = true, .deterministic_check = true})->check_bytes);
  EXPECT_EQ(ParseColocation({.rounds = 5, .quick = true})->amount.rounds, 5);
}

TEST(ColocationOptions, WrongWordsAreNamed) {
  EXPECT_THAT(ErrorOf({.loads = "5,many"}), HasSubstr("'many'"));
  EXPECT_THAT(ErrorOf({.loads = "95"}), HasSubstr("'95'"));
  EXPECT_THAT(ErrorOf({.loads = ""}), HasSubstr("--loads"));
  EXPECT_THAT(ErrorOf({.modes = "alone_warn"}), HasSubstr("did you mean 'alone_warm'?"));
  EXPECT_THAT(ErrorOf({.rung = "best"}), HasSubstr("'best'"));
  EXPECT_THAT(ErrorOf({.client_priority = "high"}), HasSubstr("--client-priority"));
  EXPECT_THAT(ErrorOf({.rounds = 2.5}), HasSubstr("--rounds"));
  EXPECT_THAT(ErrorOf({.deterministic_check = true, .no_deterministic_check = true}), HasSubstr("contradict"));
}

TEST(WindowRequests, GiveAThousandBeyondP99OfAllRoundsTogetherOrOfEach) {
  ColocationAmount amount;
  EXPECT_GE(WindowRequests(amount, 1) * amount.rounds, 100'000);
  EXPECT_LT(WindowRequests(amount, 1) * amount.rounds, 100'010);
  amount.beyond_each = true;
  EXPECT_EQ(WindowRequests(amount, 1), 100'000);
  amount.beyond_each = false;
  EXPECT_EQ(WindowRequests(amount, 50'000), 150'000) << "no window is shorter than window_s";
  amount.requests = 7;
  EXPECT_EQ(WindowRequests(amount, 50'000), 7);
}

TEST(EstimateSeconds, GrowsWithRoundsAndCountsEveryWindow) {
  ColocationOptions options = *ParseColocation({.requests = 1000, .no_deterministic_check = true});
  double nine = EstimateSeconds(options, 1000);
  EXPECT_GT(nine, 9 * 5 * (20 + 4 + 2));
  options.amount.rounds = 18;
  EXPECT_DOUBLE_EQ(EstimateSeconds(options, 1000), 2 * nine);
}

// Three rounds; beside a trainer p99 is 2 % and p99.9 20 % longer than in the warm window of the same round, though
// the rounds differ by far more.
ColocationResult MadeUpResult() {
  ColocationResult result;
  result.options = *ParseColocation({.loads = "25", .rounds = 3});
  result.host = {.kernel = "Linux 6.1", .cpu_model = "A <fast> CPU", .governor = "", .cpus = 2, .root = true};
  result.model = "resnet8 (x [1,1,28,28])";
  result.capacity = 4000;
  result.capacities = {3900, 4000, 4100};
  result.rounds_done = 3;
  result.modes["tandem"] = {"realtime", "serving threads run as SCHED_FIFO", {"tandem_run_delay 1"}};
  for (int round = 0; round < 3; ++round) {
    for (const ColocationMode* mode : result.options.modes) {
      double slower = mode->jobs > 0 ? 1.02 : 1, tail = mode->jobs > 0 ? 1.2 : 1;
      ColocationWindow window{.mode = std::string(mode->name), .load = 0.25, .round = round};
      window.p50_ms = 0.1 * (1 + round);
      window.p99_ms = 0.2 * (1 + round) * slower;
      window.p999_ms = 0.3 * (1 + round) * tail;
      window.max_ms = 5 + round;
      window.sent = 1000;
      window.offered_per_s = 1000;
      for (int i = 0; i < 1000; ++i) window.latencies_ms.push_back(static_cast<float>(i < 990 ? 0.1 : 1000));
      if (mode->jobs > 0) {
        window.host.conservation = mode->jobs > 1 ? 0.98 : 0.96;
        window.images_per_s = mode->isolated ? 900 : 800;
      }
      result.windows.push_back(std::move(window));
    }
  }
  return result;
}

const ColocationSummary& Of(const std::vector<ColocationSummary>& all, std::string_view mode) {
  for (const ColocationSummary& one : all) {
    if (one.mode == mode) return one;
  }
  ADD_FAILURE() << "no summary of " << mode;
  return all.front();
}

TEST(Summary, RatiosCompareWindowsOfTheSameRound) {
  std::vector<ColocationSummary> all = Summarise(MadeUpResult());
  ASSERT_EQ(all.size(), 5u);
  const ColocationSummary& tandem = Of(all, "tandem");
  EXPECT_EQ(tandem.p99_warm.rounds, 3);
  EXPECT_NEAR(tandem.p99_warm.median, 1.02, 1e-9);
  EXPECT_NEAR(tandem.p999_warm.median, 1.2, 1e-9);
  EXPECT_NEAR(tandem.p99_warm.interval->high, 1.02, 1e-9);
  EXPECT_NEAR(tandem.p99_ms, 0.408, 1e-9) << "the median round";
  EXPECT_EQ(tandem.max_ms, 7);
  EXPECT_EQ(tandem.requests, 3000);
}

TEST(Summary, SloIsTwiceTheWarmP99AndCountsAllRequests) {
  std::vector<ColocationSummary> all = Summarise(MadeUpResult());
  EXPECT_DOUBLE_EQ(Of(all, "tandem").slo_ms, 0.8);
  EXPECT_DOUBLE_EQ(Of(all, "tandem").slo_attained, 0.99);
  ColocationResult result = MadeUpResult();
  result.options.slo_ms = 0.05;
  EXPECT_DOUBLE_EQ(Of(Summarise(result), "tandem").slo_attained, 0);
}

TEST(Summary, AModeWithoutWindowsHasNoFigures) {
  ColocationResult result = MadeUpResult();
  std::erase_if(result.windows, [](const ColocationWindow& window) { return window.mode == "alone_warm"; });
  std::vector<ColocationSummary> all = Summarise(result);
  EXPECT_EQ(Of(all, "alone_warm").windows, 0);
  EXPECT_EQ(Of(all, "tandem").p99_warm.rounds, 0);
  EXPECT_EQ(Of(all, "tandem").p99_alone.rounds, 3);
  EXPECT_THAT(ColocationText(result, kPlain), HasSubstr("alone_warm"));
}

const ColocationGoal* Find(const std::vector<ColocationGoal>& goals, std::string_view name) {
  for (const ColocationGoal& goal : goals) {
    if (goal.name == name) return &goal;
  }
  return nullptr;
}

TEST(Goals, AreReachedOrMissedByTheMedianRatio) {
  ColocationResult result = MadeUpResult();
  std::vector<ColocationGoal> goals = Goals(result, Summarise(result));
  ASSERT_NE(Find(goals, "tandem at 25 %: p99 / alone warm"), nullptr);
  EXPECT_TRUE(Find(goals, "tandem at 25 %: p99 / alone warm")->reached());
  EXPECT_FALSE(Find(goals, "tandem at 25 %: p99.9 / alone warm")->reached());
  EXPECT_TRUE(Find(goals, "tandem at 25 %: conservation")->reached());
  EXPECT_FALSE(Find(goals, "tandem_2jobs at 25 %: conservation")->reached());
  EXPECT_TRUE(Find(goals, "tandem at 25 %: images/s / unmanaged")->reached());
  EXPECT_EQ(Find(goals, "unmanaged at 25 %: p99 / alone warm"), nullptr) << "nobody promises anything there";
  EXPECT_EQ(Find(goals, "every byte of the trained model equal"), nullptr) << "it was not compared";
  result.bytes = {.done = true, .steps = 2, .alone_sha256 = "a", .beside_sha256 = "b"};
  EXPECT_FALSE(Find(Goals(result, Summarise(result)), "every byte of the trained model equal")->reached());
  result.bytes.beside_sha256 = "a";
  EXPECT_TRUE(Find(Goals(result, Summarise(result)), "every byte of the trained model equal")->reached());
}

TEST(Report, TextNamesMachineIsolationAndMissedGoals) {
  std::string text = ColocationText(MadeUpResult(), kPlain);
  for (const char* part : {"A <fast> CPU", "Linux 6.1", "governor not told", "tandem: realtime", "load 25 %", "MISSED",
                           "reached", "1.02 [1.02 1.02]", "4,000 requests/s", "not compared"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST(Report, SaysWhenOtherProgramsTookCpuTime) {
  ColocationResult result = MadeUpResult();
  for (ColocationWindow& window : result.windows) {
    window.host.idle = window.mode == "alone_warm" ? 0 : 0.97;  // what keeps the CPUs awake is no other program
  }
  EXPECT_THAT(ColocationText(result, kPlain), Not(HasSubstr("notice")));
  for (ColocationWindow& window : result.windows) window.host.idle = 0.8;
  EXPECT_THAT(ColocationText(result, kPlain), HasSubstr("up to 20.0% of the CPU time went to other programs"));
}

TEST(Report, JsonHasEveryWindowAndNullForWhatWasNotMeasured) {
  nlohmann::json json = nlohmann::json::parse(ColocationJson(MadeUpResult()));
  EXPECT_EQ(json["windows"].size(), 15u);
  EXPECT_EQ(json["summary"].size(), 5u);
  EXPECT_EQ(json["windows"][0]["mode"], "alone");
  EXPECT_TRUE(json["windows"][0]["conservation"].is_null());
  EXPECT_EQ(json["windows"][2]["conservation"], 0.96);
  EXPECT_EQ(json["modes"]["tandem"]["rung"], "realtime");
  EXPECT_TRUE(json["every_byte_equal"].is_null());
  EXPECT_FALSE(json["goals"].empty());
}

TEST(Report, PictureHasABarForEachFigureAndEscapesNames) {
  ColocationResult result = MadeUpResult();
  std::string svg = ColocationSvg(result);
  EXPECT_TRUE(svg.starts_with("<svg ")) << svg.substr(0, 40);
  EXPECT_TRUE(svg.ends_with("</svg>\n"));
  EXPECT_THAT(svg, HasSubstr("A &lt;fast&gt; CPU"));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  size_t bars = 0;
  for (size_t at = 0; (at = svg.find("<rect", at)) != svg.npos; ++at) ++bars;
  EXPECT_EQ(bars, 1u + 3 + 5 * 3) << "the ground, the legend, three a mode";
  result.windows.clear();
  EXPECT_THAT(ColocationSvg(result), Not(HasSubstr("nan")));
}

TEST(SyntheticImages, AreAReadableDataSetThatIsTheSameEveryTime) {
  TemporaryFolder folder = *TemporaryFolder::Create();
  std::string hash;
  for (const char* name : {"/a", "/b"}) {
    ASSERT_TRUE(WriteSyntheticImages(folder.path() + name, {.train = 60, .val = 20, .test = 10}).ok());
    wire::Dataset wanted;
    wanted.set_path(folder.path() + name);
    absl::StatusOr<wire::Dataset> info = data::Inspect(wanted);
    ASSERT_TRUE(info.ok()) << info.status();
    EXPECT_EQ(info->train(), 60);
    EXPECT_EQ(info->val(), 20);
    EXPECT_EQ(info->test(), 10);
    EXPECT_EQ(info->classes(), 10);
    EXPECT_TRUE(hash.empty() || hash == info->sha256());
    hash = info->sha256();
  }
}

TEST(WarmCpus, StartAndEnd) {
  auto warm = WarmCpus::Start();
  EXPECT_TRUE(warm.ok()) << warm.status();
}

}  // namespace
}  // namespace tandem::cli
