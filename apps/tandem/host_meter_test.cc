#include "tandem/host_meter.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <ctime>

namespace tandem::cli {
namespace {

TEST(CpuTicks, AreTheFirstEightFieldsOfTheSum) {
  absl::StatusOr<CpuTicks> ticks = ParseCpuTicks("cpu  100 1 20 3000 5 0 6 7 50 50\ncpu0 1 2 3 4 5 6 7 8\n");
  ASSERT_TRUE(ticks.ok()) << ticks.status();
  EXPECT_EQ(ticks->total, 3139);
  EXPECT_EQ(ticks->idle, 3000);
  EXPECT_EQ(ticks->iowait, 5);
  EXPECT_EQ(ticks->steal, 7);
  EXPECT_FALSE(ParseCpuTicks("cpu 1 2 3\n").ok());
  EXPECT_FALSE(ParseCpuTicks("").ok());
}

TEST(ProcessTicks, AreFoundBehindANameWithBracketsAndBlanks) {
  absl::StatusOr<int64_t> ticks =
      ParseProcessTicks("42 (a b) c) S 1 42 42 0 -1 4194560 1000 0 0 0 700 30 0 0 20 0 5 0 123 1000 200 99 1\n");
  ASSERT_TRUE(ticks.ok()) << ticks.status();
  EXPECT_EQ(*ticks, 730);
  EXPECT_FALSE(ParseProcessTicks("42 (x) S 1 2 3").ok());
  EXPECT_FALSE(ParseProcessTicks("").ok());
}

TEST(Schedstat, GivesTimesAndCounts) {
  absl::StatusOr<ThreadTimes> times = ParseSchedstat("1000 250 7\n");
  ASSERT_TRUE(times.ok()) << times.status();
  EXPECT_EQ(times->run_nanos, 1000);
  EXPECT_EQ(times->delay_nanos, 250);
  EXPECT_EQ(times->times_run, 7);
  EXPECT_FALSE(ParseSchedstat("").ok());
}

TEST(HostWindow, SharesAndConservationAreDifferencesOfTwoReadings) {
  const int64_t per_second = sysconf(_SC_CLK_TCK);
  HostReading before{.nanos = 1'000'000'000, .cpu = {.total = 5000, .idle = 100, .iowait = 10, .steal = 3}};
  before.latency_thread_count = 2;
  HostReading after = before;
  after.nanos += 10'000'000'000;
  after.cpu.total += 20 * per_second;  // 2 CPUs, 10 s
  after.cpu.idle += per_second;
  after.cpu.steal += per_second / 2;
  after.serving_s += 4;
  after.training_s += 14;
  after.latency_threads = {.run_nanos = 0, .delay_nanos = 5'000'000, .times_run = 1000};
  HostWindow window = Between(before, after, true);
  EXPECT_DOUBLE_EQ(window.seconds, 10);
  EXPECT_DOUBLE_EQ(window.steal, 0.025);
  EXPECT_DOUBLE_EQ(window.idle, 0.05);
  EXPECT_DOUBLE_EQ(window.serving, 0.2);
  EXPECT_DOUBLE_EQ(window.training, 0.7);
  EXPECT_DOUBLE_EQ(window.conservation, 14.0 / 15);
  EXPECT_DOUBLE_EQ(window.run_delay_us, 5);
  EXPECT_EQ(Between(before, after, false).conservation, -1);
}

TEST(HostReading, OfThisProcessHasItsCpuTime) {
  int64_t spent = 0;
  for (int i = 0; i < 200'000'000 && spent < 3; ++i) {
    if (i % 10'000'000 == 0) spent = clock() / (CLOCKS_PER_SEC / 100);
  }
  absl::StatusOr<HostReading> reading = ReadHost(getpid(), {getpid()});
  ASSERT_TRUE(reading.ok()) << reading.status();
  EXPECT_GT(reading->serving_s, 0);
  EXPECT_EQ(reading->training_s, reading->serving_s);
  EXPECT_EQ(reading->latency_thread_count, 0);
  EXPECT_GT(reading->cpu.total, 0);
}

}  // namespace
}  // namespace tandem::cli
