#include "telemetry/trace.h"

#include <gmock/gmock.h>

#include <set>
#include <string>
#include <thread>
#include <vector>

namespace tandem {
namespace {

using ::testing::ElementsAre;

constexpr std::string_view kGood = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
constexpr std::string_view kUnsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

std::string With(std::string_view version, std::string_view trace, std::string_view parent, std::string_view flags) {
  return std::string(version) + "-" + std::string(trace) + "-" + std::string(parent) + "-" + std::string(flags);
}

TEST(ParseTraceParent, ReadsTheExampleOfTheRecommendation) {
  std::optional<TraceContext> context = ParseTraceParent(kGood);
  ASSERT_TRUE(context.has_value());
  EXPECT_THAT(context->trace_id, ElementsAre(0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d,
                                             0x0e, 0x0e, 0x47, 0x36));
  EXPECT_THAT(context->parent_id, ElementsAre(0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7));
  EXPECT_EQ(context->flags, 1);
}

TEST(ParseTraceParent, TakesWhatTheRecommendationAllows) {
  const std::string trace = "0af7651916cd43dd8448eb211c80319c", parent = "b7ad6b7169203331";
  struct Case {
    std::string text;
    int flags;
  };
  const std::vector<Case> cases = {
      {With("00", trace, parent, "00"), 0},
      {With("00", trace, parent, "03"), 3},
      {With("00", trace, parent, "ff"), 3},           // unknown flags are not kept
      {With("01", trace, parent, "01"), 1},           // a later version of the same length
      {With("cc", trace, parent, "01-what-ever"), 1}  // and a longer one
      ,
      {With("fe", trace, parent, "ff-"), 1},
  };
  for (const Case& one : cases) {
    std::optional<TraceContext> context = ParseTraceParent(one.text);
    ASSERT_TRUE(context.has_value()) << one.text;
    EXPECT_EQ(context->flags, one.flags) << one.text;
  }
}

TEST(ParseTraceParent, RefusesWhatTheRecommendationForbids) {
  const std::string trace = "0af7651916cd43dd8448eb211c80319c", parent = "b7ad6b7169203331";
  const std::vector<std::string> cases = {
      "",
      "00",
      "banana",
      With("ff", trace, parent, "01"),
      With("00", std::string(32, '0'), parent, "01"),
      With("00", trace, std::string(16, '0'), "01"),
      With("00", "0AF7651916CD43DD8448EB211C80319C", parent, "01"),
      With("00", trace, "B7AD6B7169203331", "01"),
      With("0A", trace, parent, "01"),
      With("00", trace, parent, "0G"),
      With("0x", trace, parent, "01"),
      With("00", trace, parent, "1"),
      With("00", trace, parent, "001"),
      With("00", trace, parent, "01-"),
      With("00", trace, parent, "01-more"),
      With("01", trace, parent, "01.more"),
      With("01", trace, parent, "0101"),
      With("00", trace.substr(1), parent, "01"),
      With("00", trace + "0", parent, "01"),
      With("00", trace, parent.substr(1), "01"),
      With("00", trace, parent + "0", "01"),
      " " + std::string(kGood),
      std::string(kGood) + " ",
      std::string(kGood) + "," + std::string(kGood),  // sent twice
      "00_" + std::string(kGood).substr(3),
      "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
      "00-4bf92f3577b34da6a3ce929d0e0e4736.00f067aa0ba902b7-01",
      "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7.01",
      std::string(55, '\0'),
  };
  for (const std::string& text : cases) EXPECT_FALSE(ParseTraceParent(text).has_value()) << "'" << text << "'";
}

TEST(NewSpanId, GivesEachThreadItsOwnRow) {
  constexpr int kThreads = 4, kEach = 1000;
  std::vector<std::vector<SpanId>> made(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&made, t] {
      for (int i = 0; i < kEach; ++i) made[t].push_back(NewSpanId());
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::set<SpanId> all;
  for (const auto& some : made) all.insert(some.begin(), some.end());
  EXPECT_EQ(all.size(), kThreads * kEach);
}

class TracerTest : public ::testing::Test {
 protected:
  std::vector<RequestTrace> DrainAll(Tracer* tracer, size_t most = 1000) {
    std::vector<RequestTrace> all;
    tracer->Drain(most, [&](const RequestTrace& trace) { all.push_back(trace); });
    return all;
  }
  Counter dropped_;
};

TEST_F(TracerTest, HonoursTheCallersDecisionWhateverTheRatio) {
  Tracer never(0, &dropped_), always(1, &dropped_);
  EXPECT_TRUE(never.Begin(kGood, ""));
  EXPECT_FALSE(always.Begin(kUnsampled, ""));
  EXPECT_FALSE(never.Begin("", ""));
  EXPECT_TRUE(always.Begin("", ""));
}

TEST_F(TracerTest, TracesAboutTheRatioOfRequestsWithoutAContext) {
  Tracer tracer(0.25, &dropped_);
  int traced = 0;
  for (int i = 0; i < 4000; ++i) traced += tracer.Begin("", "") ? 1 : 0;
  // Five standard deviations are 137.
  EXPECT_NEAR(traced, 1000, 140);
}

TEST_F(TracerTest, GoesOnWithTheCallersTraceAndBeginsOneOtherwise) {
  Tracer tracer(1, &dropped_);
  tracer.Begin(kGood, "vendor=1,other=2")->model.Set("m");
  tracer.Begin("00-bad", "vendor=1");
  std::vector<RequestTrace> all = DrainAll(&tracer);
  ASSERT_EQ(all.size(), 2);
  EXPECT_EQ(all[0].context.trace_id, ParseTraceParent(kGood)->trace_id);
  EXPECT_EQ(all[0].context.parent_id, ParseTraceParent(kGood)->parent_id);
  EXPECT_EQ(all[0].state.view(), "vendor=1,other=2");
  EXPECT_EQ(all[0].model.view(), "m");
  EXPECT_NE(all[0].span_id, SpanId{});
  EXPECT_NE(all[1].context.trace_id, TraceId{});
  EXPECT_EQ(all[1].context.parent_id, SpanId{});
  EXPECT_EQ(all[1].context.flags, TraceContext::kSampled);
  EXPECT_EQ(all[1].state.view(), "") << "without a valid traceparent nobody's state is known";
}

TEST_F(TracerTest, DropsAStateThatIsTooLongOrNoText) {
  Tracer tracer(0, &dropped_);
  tracer.Begin(kGood, std::string(512, 'a'));
  tracer.Begin(kGood, std::string(513, 'a'));
  tracer.Begin(kGood, "a=\xff");
  std::vector<RequestTrace> all = DrainAll(&tracer);
  ASSERT_EQ(all.size(), 3);
  EXPECT_EQ(all[0].state.view().size(), 512);
  EXPECT_EQ(all[1].state.view(), "");
  EXPECT_EQ(all[2].state.view(), "");
}

TEST_F(TracerTest, AFullRingDropsAndCountsAndGoesOnOnceItIsDrained) {
  Tracer tracer(1, &dropped_, 4);
  for (int round = 1; round <= 3; ++round) {
    for (int i = 0; i < 4; ++i) {
      Tracer::Record record = tracer.Begin("", "");
      ASSERT_TRUE(record);
      record->code = i;
    }
    EXPECT_FALSE(tracer.Begin("", ""));
    EXPECT_EQ(dropped_.Value(), round);
    EXPECT_EQ(DrainAll(&tracer, 3).size(), 3);
    std::vector<RequestTrace> last = DrainAll(&tracer);
    ASSERT_EQ(last.size(), 1);
    EXPECT_EQ(last[0].code, 3);
  }
}

TEST_F(TracerTest, ACellThatIsUsedAgainIsEmptyAtFirst) {
  Tracer tracer(1, &dropped_, 2);
  for (int i = 0; i < 5; ++i) {
    DrainAll(&tracer);
    Tracer::Record record = tracer.Begin("", "");
    ASSERT_TRUE(record);
    EXPECT_EQ(record->model.view(), "");
    EXPECT_EQ(record->queue_ns, 0);
    record->model.Set("before");
    record->queue_ns = 1;
  }
}

TEST_F(TracerTest, ARecordIsNotDrainedBeforeItIsComplete) {
  Tracer tracer(1, &dropped_);
  {
    Tracer::Record first = tracer.Begin("", "");
    tracer.Begin("", "");
    EXPECT_TRUE(DrainAll(&tracer).empty());
  }
  EXPECT_EQ(DrainAll(&tracer).size(), 2);
}

TEST_F(TracerTest, NothingIsLostOrMixedBetweenManyThreads) {
  constexpr int kThreads = 4, kEach = 20'000;
  Tracer tracer(1, &dropped_, 64);
  std::atomic<int> running = kThreads;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        if (Tracer::Record record = tracer.Begin("", "")) {
          record->code = t;
          record->begin_ns = i;
          record->model.Set(std::to_string(t * kEach + i));
        }
      }
      --running;
    });
  }
  std::vector<int64_t> last(kThreads, -1);
  uint64_t drained = 0;
  bool ended = false;
  while (!ended) {
    ended = running == 0;
    drained += tracer.Drain(1000, [&](const RequestTrace& trace) {
      EXPECT_EQ(trace.model.view(), std::to_string(trace.code * kEach + trace.begin_ns));
      EXPECT_GT(trace.begin_ns, last[trace.code]);
      last[trace.code] = trace.begin_ns;
    });
    if (!ended) tracer.Wait(0.001);
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(drained + dropped_.Value(), uint64_t{kThreads} * kEach);
  EXPECT_GE(drained, 64);
}

TEST_F(TracerTest, AWaitEndsWhenMuchIsThereOrSomebodyCalls) {
  Tracer tracer(1, &dropped_);
  std::thread filling([&] {
    for (size_t i = 0; i < Tracer::kRing / 2; ++i) tracer.Begin("", "");
  });
  tracer.Wait(600);
  filling.join();
  EXPECT_FALSE(DrainAll(&tracer).empty());
  tracer.Wake();
  tracer.Wait(600);
}

TEST(ShortText, KeepsTheFirstBytes) {
  ShortText<4> text;
  EXPECT_EQ(text.view(), "");
  text.Set("abcdef");
  EXPECT_EQ(text.view(), "abcd");
  text.Set("ab\xe2\x82\xac");
  EXPECT_EQ(text.view(), "ab");
  text.Set("a\xe2\x82\xac");
  EXPECT_EQ(text.view(), "a\xe2\x82\xac");
  text.Set("x");
  EXPECT_EQ(text.view(), "x");
}

}  // namespace
}  // namespace tandem
