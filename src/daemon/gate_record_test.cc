#include "daemon/gate_record.h"

#include <gmock/gmock.h>

#include <thread>

namespace tandem::daemon {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;

constexpr int64_t kStart = 1'700'000'000'000;
constexpr std::string_view kMissed = "a target is missed", kCalm = "calm";

void Move(GateRecord* record, int64_t at_ms, int from, int to, std::string_view why, double p99_ms = 0) {
  scheduling::GateSnapshot seen{.allowed = from};
  if (p99_ms > 0) {
    seen.worst_ratio = p99_ms / 5;
    seen.worst_requests = 43;
    seen.worst_model = "fashion";
    seen.worst_slo_ms = 5;
  }
  record->Add(kStart + at_ms, seen, {.allowed = to, .reason = why});
}

TEST(GateRecord, KeepsWhenFromHowManyToHowManyAndWhy) {
  GateRecord record;
  EXPECT_TRUE(record.Changes().empty());
  Move(&record, 0, 2, 1, kMissed, 9);
  Move(&record, 20, 1, 0, kMissed, 12);
  Move(&record, 140, 0, 1, kCalm);
  std::vector<GateChange> changes = record.Changes();
  ASSERT_EQ(changes.size(), 3u);
  EXPECT_EQ(changes[0].step, GateStep::kOpened);
  EXPECT_EQ(changes[1].step, GateStep::kClosed);
  EXPECT_EQ(changes[2].step, GateStep::kNarrowed);
  EXPECT_EQ(changes[2].first_ms, kStart);
  EXPECT_EQ(changes[2].last_ms, kStart);
  EXPECT_EQ(changes[2].times, 1);
  EXPECT_EQ(changes[2].from, 2);
  EXPECT_EQ(changes[2].to, 1);
  EXPECT_EQ(changes[2].reason, "a target is missed (p99 of 'fashion' 9 ms, target 5 ms, over 43 requests)");
  EXPECT_THAT(changes[1].reason, HasSubstr("12 ms"));
  EXPECT_EQ(changes[0].reason, "calm");
}

TEST(GateRecord, CountsMovesOfOneKindWithinAMinuteInOneEntry) {
  GateRecord record;
  for (int64_t at = 0; at < 50'000; at += 1000) {
    Move(&record, at, 2, 0, kMissed, 10 + static_cast<double>(at) / 1000);
    Move(&record, at + 200, 0, 2, kCalm);
  }
  std::vector<GateChange> changes = record.Changes();
  ASSERT_EQ(changes.size(), 2u);
  EXPECT_EQ(changes[0].reason, "calm");
  EXPECT_EQ(changes[1].times, 50);
  EXPECT_EQ(changes[1].first_ms, kStart);
  EXPECT_EQ(changes[1].last_ms, kStart + 49'000);
  EXPECT_EQ(changes[1].from, 2);
  EXPECT_EQ(changes[1].to, 0);
  EXPECT_THAT(changes[1].reason, HasSubstr("p99 of 'fashion' 59 ms"));
  EXPECT_EQ(record.Total(GateStep::kClosed), 50u);
  EXPECT_EQ(record.Total(GateStep::kNarrowed), 0u);
  EXPECT_EQ(record.Total(GateStep::kOpened), 50u);
}

TEST(GateRecord, OneRampIsOneEntryFromItsBeginningToItsEnd) {
  GateRecord record;
  for (int threads = 0; threads < 64; ++threads) Move(&record, threads * 20, threads, threads + 1, kCalm);
  std::vector<GateChange> changes = record.Changes();
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0].from, 0);
  EXPECT_EQ(changes[0].to, 64);
  EXPECT_EQ(changes[0].times, 64);
}

TEST(GateRecord, TellsStepsAndReasonsApart) {
  GateRecord record;
  Move(&record, 0, 2, 0, kMissed);
  Move(&record, 20, 2, 0, "training may not run now");
  Move(&record, 40, 2, 1, kMissed);
  EXPECT_THAT(record.Changes(), Each(Field(&GateChange::times, 1)));
  EXPECT_EQ(record.Changes().size(), 3u);
}

TEST(GateRecord, BeginsANewEntryAfterAMinuteAndWhenTheClockIsSetBack) {
  GateRecord record;
  Move(&record, 0, 2, 0, kMissed);
  Move(&record, 59'999, 2, 0, kMissed);
  Move(&record, 60'000, 2, 0, kMissed);
  Move(&record, -3'600'000, 2, 0, kMissed);
  std::vector<int64_t> times;
  for (const GateChange& change : record.Changes()) times.push_back(change.times);
  EXPECT_THAT(times, ElementsAre(1, 1, 2));
}

TEST(GateRecord, AGateThatFlapsAllTheTimeIsKnownForHalfAnHour) {
  GateRecord record;
  constexpr int64_t kHour = 3'600'000;
  for (int64_t at = 0; at < kHour; at += 200) {
    Move(&record, at, 2, 1, kMissed);
    Move(&record, at + 20, 1, 0, kMissed);
    Move(&record, at + 120, 0, 1, kCalm);
    Move(&record, at + 140, 1, 2, "as granted");
  }
  std::vector<GateChange> changes = record.Changes();
  EXPECT_EQ(changes.size(), GateRecord::kKept);
  EXPECT_LE(changes.back().first_ms, kStart + kHour / 2);
  EXPECT_EQ(record.Total(GateStep::kOpened), 36'000u) << "what was forgotten is counted";
}

TEST(GateRecord, IsReadWhileItIsWritten) {
  GateRecord record;
  std::thread writer([&] {
    for (int i = 0; i < 2000; ++i) Move(&record, i * 20, i % 2 == 0 ? 2 : 0, i % 2 == 0 ? 0 : 2, kMissed);
  });
  uint64_t seen = 0;
  while (seen < 2000) {
    const uint64_t now = record.Total(GateStep::kClosed) + record.Total(GateStep::kOpened);
    EXPECT_GE(now, seen);
    seen = now;
    for (const GateChange& change : record.Changes()) EXPECT_LE(change.first_ms, change.last_ms);
  }
  writer.join();
}

}  // namespace
}  // namespace tandem::daemon
