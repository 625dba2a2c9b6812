#include "daemon/host_sampler.h"

#include <gmock/gmock.h>

#include <thread>

#include "daemon/job_events.h"

namespace tandem::daemon {
namespace {

TEST(ParseProcStat, ReadsTheFirstLineInSeconds) {
  CpuTimes times = ParseProcStat("cpu  100 200 300 400 50 6 7 8 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n", 100);
  EXPECT_DOUBLE_EQ(times.user, 1);
  EXPECT_DOUBLE_EQ(times.idle, 4);
  EXPECT_DOUBLE_EQ(times.steal, 0.08);
  EXPECT_DOUBLE_EQ(times.Busy(), 6.13);
  EXPECT_DOUBLE_EQ(times.Total(), 10.71);
}

TEST(ParseProcStat, GivesZeroForWhatItCannotRead) {
  EXPECT_DOUBLE_EQ(ParseProcStat("", 100).Total(), 0);
  EXPECT_DOUBLE_EQ(ParseProcStat("intr 1 2 3", 100).Total(), 0);
}

TEST(HostMetrics, HaveCpuMemoryAndTheServersOwnTime) {
  std::vector<MetricFamily> families;
  HostSampler(Clock::Real(), nullptr, nullptr).AddHostMetrics(&families);
  std::vector<std::string> names;
  for (const MetricFamily& family : families) names.push_back(family.name);
  EXPECT_THAT(names,
              testing::IsSupersetOf({"tandem_host_cpu_seconds_total", "tandem_server_cpu_seconds_total",
                                     "nv_cpu_memory_total_bytes", "nv_cpu_memory_used_bytes", "nv_cpu_utilization"}));
}

TEST(JobEvents, WakeAWatcherOfThatJobOnly) {
  JobEvents events;
  EXPECT_EQ(events.WaitForChange(1, 0, 0), 1);  // who has seen nothing is answered at once
  std::thread other([&] {
    events.Changed(2);
    events.Changed(1);
  });
  EXPECT_EQ(events.WaitForChange(1, 1, 10), 2);
  other.join();
  events.Close();
  EXPECT_EQ(events.WaitForChange(1, 99, 10), 2);  // does not wait any more
}

}  // namespace
}  // namespace tandem::daemon
