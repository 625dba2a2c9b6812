#include "telemetry/metrics.h"

#include <gmock/gmock.h>

#include <thread>

namespace tandem {
namespace {

TEST(Counter, AddsUpWhatManyThreadsAdd) {
  Metrics metrics;
  Counter* counter = metrics.AddCounter("c_total", "A counter.");
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) counter->Add(2);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counter->Value(), 16000);
}

TEST(Histogram, GivesQuantilesWithinItsBucketWidth) {
  Histogram histogram(LatencyBoundsMicros());
  for (int i = 1; i <= 10000; ++i) histogram.Observe(i);
  HistogramSnapshot snapshot = histogram.Read();
  EXPECT_EQ(snapshot.count, 10000);
  EXPECT_NEAR(snapshot.Quantile(0.5), 5000, 5000 * 0.12);
  EXPECT_NEAR(snapshot.Quantile(0.99), 9900, 9900 * 0.12);
}

TEST(Histogram, SubtractsAnEarlierReading) {
  Histogram histogram({10, 100});
  histogram.Observe(5);
  HistogramSnapshot before = histogram.Read();
  histogram.Observe(50);
  histogram.Observe(5000);
  HistogramSnapshot window = histogram.Read().Since(before);
  EXPECT_EQ(window.count, 2);
  EXPECT_THAT(window.counts, testing::ElementsAre(0, 1, 1));
}

TEST(Metrics, GivesTheSameMetricForTheSameNameAndLabels) {
  Metrics metrics;
  EXPECT_EQ(metrics.AddGauge("g", "help", {{"a", "1"}}), metrics.AddGauge("g", "help", {{"a", "1"}}));
  EXPECT_NE(metrics.AddGauge("g", "help", {{"a", "1"}}), metrics.AddGauge("g", "help", {{"a", "2"}}));
  ASSERT_EQ(metrics.Read().size(), 1);
  EXPECT_EQ(metrics.Read()[0].samples.size(), 2);
}

}  // namespace
}  // namespace tandem
