#include "serving/version_metrics.h"

#include <gtest/gtest.h>

#include <thread>

namespace tandem::serving {
namespace {

TEST(BatchSums, AddsUpBySizeAcrossThreads) {
  BatchSums sums;
  EXPECT_TRUE(sums.Read().empty());
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&] {
      for (int64_t rows : {0, 1, 15, 16, 4096, 5000}) sums.Add(rows, 1, 10, 100);
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<Statistics::Batch> read = sums.Read();
  ASSERT_EQ(read.size(), 5u);
  const int64_t rows[] = {0, 1, 15, 16, 4096};
  for (size_t i = 0; i < read.size(); ++i) {
    EXPECT_EQ(read[i].rows, rows[i]);
    EXPECT_EQ(read[i].count, i == 4 ? 8u : 4u) << "more rows than can be told apart count as the most";
    EXPECT_EQ(read[i].infer_ns, 10 * read[i].count);
    EXPECT_EQ(read[i].output_ns, 100 * read[i].count);
  }
}

TEST(VersionMetrics, AFailureHasOneReason) {
  VersionMetrics metrics;
  metrics.AddDecision(Decision::kCancelled);
  metrics.AddFailure(10, 0, 0);
  metrics.AddFailure(10, 0, 0);
  metrics.AddFailure(10, 5, 0);
  metrics.AddFailure(10, 5, 5);
  EXPECT_EQ(metrics.cancelled_count.Value(), 1u);
  EXPECT_EQ(metrics.other_fail_count.Value(), 1u);
  EXPECT_EQ(metrics.rejected_count.Value(), 1u);
  EXPECT_EQ(metrics.backend_fail_count.Value(), 1u);
  EXPECT_EQ(metrics.Finished(), 4u);
  EXPECT_EQ(metrics.Read().fail_count, 4u);
}

TEST(MetricsBook, TellsWhyRequestsWereNotRun) {
  MetricsBook book;
  book.Get("m", 1)->AddDecision(Decision::kShed);
  book.Get("m", 1)->AddExecution(4, 1, 2, 3);
  std::vector<MetricFamily> families;
  book.Export(&families);
  double shed = -1, others = 0, executions = -1;
  for (const MetricFamily& family : families) {
    for (const MetricSample& sample : family.samples) {
      if (family.name == "nv_inference_exec_count") executions = sample.value;
      if (family.name != "tandem_requests_not_run_total") continue;
      ASSERT_EQ(sample.labels.back().first, "reason");
      (sample.labels.back().second == "shed" ? shed : others) = sample.value;
    }
  }
  EXPECT_EQ(shed, 1);
  EXPECT_EQ(others, 0);
  EXPECT_EQ(executions, 1);
}

}  // namespace
}  // namespace tandem::serving
