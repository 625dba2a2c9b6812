#include "daemon/load_meter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "daemon/testing/fake_serving.h"

namespace tandem::daemon {
namespace {

using ::testing::ElementsAre;

TEST(LoadMeter, RecordedTimesRiseAlsoWhereTheClockWasSetBack) {
  testing::FakeServing serving;
  serving.loads = {{.model = "m", .version = 1}};
  LoadMeter meter(&serving);
  for (int64_t unix_ms : {1'000'000, 1'001'000, 1'002'000, 500'000, 501'000, 502'000}) {
    serving.loads[0].executed += 10;
    serving.loads[0].busy_ns += 20'000'000;
    meter.Record(unix_ms);
  }
  std::vector<int64_t> times;
  for (const scheduling::LoadPoint& point : meter.Recorded(0)) {
    times.push_back(point.unix_ms);
    EXPECT_DOUBLE_EQ(point.requests_per_s, 10);
    EXPECT_DOUBLE_EQ(point.service_ms, 2);
  }
  EXPECT_THAT(times, ElementsAre(501'000, 502'000));
}

TEST(LoadMeter, WhatItForgotDoesNotGoOn) {
  testing::FakeServing serving;
  serving.loads = {{.model = "m", .version = 1, .busy = 1, .waiting = 3}};
  LoadMeter meter(&serving);
  const SloLookup slo = [](const std::string&) { return 10.0; };
  meter.Sample(1);
  ASSERT_EQ(meter.LastSecond(slo).size(), 1u);
  EXPECT_EQ(meter.LastSecond(slo)[0].waiting, 3);
  meter.Forget();
  EXPECT_TRUE(meter.LastSecond(slo).empty());
}

}  // namespace
}  // namespace tandem::daemon
