// What is read from and written to the kernel's files, on text alone.
#include <gmock/gmock.h>

#include <fstream>

#include "isolation/cgroup.h"
#include "isolation/detect.h"
#include "isolation/group_files.h"
#include "isolation/group_tree.h"
#include "isolation/kernel_file.h"
#include "isolation/ladder.h"
#include "isolation/latency_class.h"
#include "isolation/plain_group.h"
#include "isolation/run_delay.h"
#include "isolation/test_host.h"

namespace tandem::isolation {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(CgroupPlaces, FindsV1ControllersAndAHybridMount) {
  CgroupPlaces places = ParseCgroupPlaces(
      "30 29 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup "
      "rw,cpu,cpuacct\n"
      "32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
      "4:cpu,cpuacct:/user/7\n0::/user\n");
  EXPECT_EQ(places.kind, "hybrid");
  EXPECT_EQ(places.v1["cpu"], "/sys/fs/cgroup/cpu,cpuacct/user/7");
  EXPECT_EQ(places.v2, "/sys/fs/cgroup/unified/user");
}

TEST(CgroupPlaces, FindsPureV2InsideAContainerNamespace) {
  CgroupPlaces places = ParseCgroupPlaces("30 29 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n", "0::/\n");
  EXPECT_EQ(places.kind, "v2");
  EXPECT_EQ(places.v2, "/sys/fs/cgroup");
  EXPECT_THAT(places.mounts, ElementsAre(fs::path("/sys/fs/cgroup")));
}

TEST(CgroupPlaces, FindsAContainersOwnRootBelowTheHosts) {  // docker on v1 without a cgroup namespace
  CgroupPlaces places =
      ParseCgroupPlaces("733 732 0:33 /docker/4f1a /sys/fs/cgroup/memory ro,nosuid - cgroup cgroup rw,memory\n",
                        "9:memory:/docker/4f1a\n");
  EXPECT_EQ(places.kind, "v1");
  EXPECT_EQ(places.v1["memory"], "/sys/fs/cgroup/memory");
}

TEST(CgroupPlaces, FindsTheScopeThatSystemdDelegated) {
  CgroupPlaces places =
      ParseCgroupPlaces("26 24 0:23 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n",
                        "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-7.scope\n");
  EXPECT_EQ(places.v2, "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/run-7.scope");
}

TEST(CgroupPlaces, SaysNoneWithoutAnyMount) { EXPECT_EQ(ParseCgroupPlaces("", "").kind, "none"); }

TEST(Container, IsToldByItsTraces) {
  EXPECT_EQ(ContainerOf({}), "");
  EXPECT_EQ(ContainerOf({.dockerenv = true}), "docker");
  EXPECT_EQ(ContainerOf({.containerenv = true}), "podman");
  EXPECT_EQ(ContainerOf({.dockerenv = true, .kubernetes_host = "10.0.0.1"}), "kubernetes");
  EXPECT_EQ(ContainerOf({.init_cgroup = "4:cpu:/kubepods/burstable/pod1/a\n"}), "kubernetes");
  EXPECT_EQ(ContainerOf({.init_cgroup = "4:cpu:/docker/4f1a\n"}), "docker");
  EXPECT_EQ(ContainerOf({.init_cgroup = "0::/lxc.payload.web\n"}), "lxc");
  EXPECT_EQ(ContainerOf({.container_variable = "systemd-nspawn"}), "container");
}

TEST(DiskOf, ReadsTheActiveScheduler) {
  EXPECT_EQ(ActiveScheduler("none [mq-deadline] kyber bfq \n"), "mq-deadline");
  EXPECT_EQ(ActiveScheduler("none\n"), "none");
  EXPECT_EQ(ActiveScheduler(""), "");
}

TEST(DiskOf, IsOfTheDeepestMountThatHoldsThePath) {
  const char* mounts =
      "1 0 0:50 / / rw - overlay overlay rw,lowerdir=/a\n2 1 254:1 / /data rw - ext4 /dev/vda1 rw\n"
      "3 1 0:60 / /data/fast rw - tmpfs tmpfs rw\n";
  EXPECT_EQ(MountOf(mounts, "/srv").type, "overlay");
  EXPECT_EQ(MountOf(mounts, "/data").source, "/dev/vda1");
  EXPECT_EQ(MountOf(mounts, "/data/fast/x").type, "tmpfs");
  EXPECT_EQ(MountOf(mounts, "/database").type, "overlay");
}

TEST(DiskOf, AFolderInMemoryHasNoneAndSaysSo) {
  if (!fs::exists("/dev/shm")) GTEST_SKIP() << "no /dev/shm here";
  Disk disk = FindDisk("/dev/shm/not/made/yet");
  EXPECT_EQ(disk.device, "");
  EXPECT_THAT(disk.why, HasSubstr("'/dev/shm' is on tmpfs, which shows no disk"));
}

TEST(Realtime, SaysWhyItIsRefused) {
  EXPECT_THAT(RealtimeRefusal(EPERM, "CapEff:\t0000000000000000\n", ""), HasSubstr("CAP_SYS_NICE"));
  EXPECT_THAT(RealtimeRefusal(EPERM, "CapEff:\t000001ffffffffff\n", "/sys/fs/cgroup/cpu/user"),
              HasSubstr("write 950000 to '/sys/fs/cgroup/cpu/user/cpu.rt_runtime_us'"));
}

TEST(KernelText, FindsANumberByItsKey) {
  EXPECT_EQ(NumberAfter("user_usec 1\nusage_usec 123\n", "usage_usec"), 123);
  EXPECT_EQ(NumberAfter("nonvoluntary_ctxt_switches:\t9\nvoluntary_ctxt_switches:\t7\n", "voluntary_ctxt_switches:"),
            7);
  EXPECT_EQ(NumberAfter("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill"), 3);
  EXPECT_EQ(NumberAfter("frozen\n", "frozen"), std::nullopt);
}

bool NoneStacked(std::string_view) { return false; }
bool Dm(std::string_view device) { return device == "253:0"; }

TEST(DiskBytes, AreSummedOverDevicesThatStandOnNoOther) {
  const char* v1 = "8:0 Read 10\n8:0 Write 20\n8:0 Sync 30\n8:0 Total 30\n253:0 Read 10\n253:0 Write 20\nTotal 60\n";
  EXPECT_EQ(ParseServiceBytes(v1, Dm).written, 20);
  EXPECT_EQ(ParseServiceBytes(v1, NoneStacked).read, 20);
  EXPECT_EQ(ParseServiceBytes("Total 0\n", NoneStacked).written, 0);
  EXPECT_EQ(ParseServiceBytes("", NoneStacked).read, -1);
  const char* v2 = "8:0 rbytes=90112 wbytes=5 rios=2 wios=1 dbytes=0 dios=0\n253:0 rbytes=90112 wbytes=5\n";
  EXPECT_EQ(ParseIoStat(v2, Dm).read, 90112);
  EXPECT_EQ(ParseIoStat(v2, Dm).written, 5);
}

TEST(Bandwidth, HasAShortPeriodSaveForTinyCaps) {
  EXPECT_EQ(BandwidthOf(1.5).quota_us, 30'000);
  EXPECT_EQ(BandwidthOf(1.5).period_us, 20'000);
  EXPECT_EQ(BandwidthOf(0.01).quota_us, 5'000);
  EXPECT_EQ(BandwidthOf(0.01).period_us, 500'000);
}

// A folder with the files of a v2 group, empty.
class V2Test : public HostTest {
 protected:
  void Touch(const std::vector<std::string>& names) {
    for (const std::string& name : names) std::ofstream(folder_ / name);
  }
  std::vector<std::string> Texts(const std::optional<GroupLimits>& before, const GroupLimits& after,
                                 const std::string& device = "8:0") {
    std::vector<std::string> texts;
    for (const KernelWrite& write : MakeV2Files(folder_)->Writes(before, after, device))
      texts.push_back(StrCat(write.file.filename().string(), "=", write.text));
    return texts;
  }
};

TEST_F(V2Test, WritesEachLimitToItsFile) {
  Touch({"cpu.weight", "cpu.max", "memory.high", "memory.max", "memory.swap.max", "memory.oom.group", "io.max",
         "pids.max"});
  GroupLimits limits = {.cpu_weight = 300,
                        .cpu_cap = 0.5,
                        .memory_high_bytes = 1000,
                        .memory_max_bytes = 2000,
                        .max_processes = 64,
                        .disk_write_bytes_per_s = 5,
                        .disk_iops = 9};
  EXPECT_THAT(Texts(kFreshLimits, limits), ElementsAre("cpu.weight=300", "cpu.max=10000 20000", "memory.high=1000",
                                                       "memory.swap.max=0", "memory.oom.group=1", "memory.max=2000",
                                                       "pids.max=64", "io.max=8:0 rbps=max wbps=5 riops=9 wiops=9"));
  EXPECT_THAT(Texts(limits, limits), IsEmpty());
  EXPECT_THAT(Texts(limits, {.cpu_weight = 300}),
              ElementsAre("cpu.max=max 20000", "memory.high=max", "memory.swap.max=max", "memory.oom.group=0",
                          "memory.max=max", "pids.max=max", "io.max=8:0 rbps=max wbps=max riops=max wiops=max"));
  EXPECT_THAT(Texts(kFreshLimits, {.cpu_weight = 7, .disk_iops = 3}, ""), ElementsAre("cpu.weight=7"));
}

TEST_F(V2Test, LeavesOutWhatIsNotHandedDownAndSaysSo) {
  Touch({"cpu.weight", "cpu.max", "pids.max"});
  EXPECT_THAT(Texts(kFreshLimits, {.memory_max_bytes = 5, .disk_iops = 3}), ElementsAre("cpu.weight=1000"));
  GroupAbilities abilities = MakeV2Files(folder_)->Abilities();
  EXPECT_FALSE(abilities.memory);
  std::vector<std::string> sentences = NotEnforced({.memory_max_bytes = 5, .disk_iops = 3}, abilities);
  ASSERT_EQ(sentences.size(), 2u);
  EXPECT_THAT(sentences[1], HasSubstr("Delegate=yes"));
}

TEST_F(V2Test, ReadsUsage) {
  std::ofstream(folder_ / "cpu.stat") << "usage_usec 1500000\nnr_periods 5\nnr_throttled 2\n";
  std::ofstream(folder_ / "memory.current") << "4096\n";
  std::ofstream(folder_ / "memory.peak") << "8192\n";
  std::ofstream(folder_ / "memory.events") << "low 0\nhigh 3\nmax 1\noom 1\noom_kill 1\noom_group_kill 1\n";
  std::ofstream(folder_ / "pids.current") << "12\n";
  std::ofstream(folder_ / "io.stat") << "8:0 rbytes=1 wbytes=2 rios=1 wios=1\n";
  Usage usage = MakeV2Files(folder_)->ReadUsage();
  EXPECT_EQ(usage.cpu_seconds, 1.5);
  EXPECT_EQ(usage.throttled_periods, 2);
  EXPECT_EQ(usage.memory_bytes, 4096);
  EXPECT_EQ(usage.peak_memory_bytes, 8192);
  EXPECT_EQ(usage.out_of_memory_kills, 1);
  EXPECT_EQ(usage.processes, 12);
  EXPECT_EQ(usage.disk_read_bytes, 1);
  EXPECT_EQ(usage.disk_written_bytes, 2);
}

TEST_F(V2Test, APlaceWithoutTheCpuControlIsNoPlace) {
  Touch({"cgroup.subtree_control"});
  std::ofstream(folder_ / "cgroup.controllers") << "memory pids\n";
  EXPECT_THAT(std::string(MessageOf(HandDownControllers(folder_, "leaf").status())), HasSubstr("Delegate=yes"));
}

TEST(V1Files, SaysThatHighIsSoftAndBufferedWritesEscape) {
  GroupAbilities v1 = {.cpu_cap = true, .memory = true, .disk = true, .processes = true, .freeze = true};
  std::vector<std::string> sentences = NotEnforced(
      {.cpu_cap = 1, .memory_high_bytes = 1, .memory_max_bytes = 1, .max_processes = 1, .disk_write_bytes_per_s = 1},
      v1);
  ASSERT_EQ(sentences.size(), 2u);
  EXPECT_THAT(sentences[0], HasSubstr("soft limit"));
  EXPECT_THAT(sentences[1], HasSubstr("buffered writes of foreign programs"));
}

TEST(Ladder, ClimbsAsFarAsTheHostAndTheSettingsAllow) {
  const Found all = {.realtime = true, .cgroup = true, .cgroup_kind = "v2", .autogroup = true};
  EXPECT_EQ(Climb(all, Rung::kRealtime).rung, Rung::kRealtime);
  EXPECT_EQ(Climb(all, Rung::kCgroupWeight).rung, Rung::kCgroupWeight);
  EXPECT_THAT(Climb(all, Rung::kCgroupWeight).explanation, HasSubstr("settings ask for no more than cgroup-weight"));
  EXPECT_EQ(Climb(all, Rung::kAutogroup).rung, Rung::kAutogroup);
  EXPECT_FALSE(Climb(all, Rung::kAutogroup).cgroup);
  EXPECT_EQ(Climb(all, Rung::kNice).rung, Rung::kNice);
  EXPECT_FALSE(Climb(all, Rung::kNice).autogroup);
  EXPECT_EQ(Climb(all, Rung::kOff).rung, Rung::kOff);
}

TEST(Ladder, SaysWhatKeepsItFromTheNextRung) {
  Found found = {.why_not_realtime = "no right", .cgroup = true, .cgroup_kind = "v1", .autogroup = true};
  EXPECT_EQ(Climb(found, Rung::kRealtime).rung, Rung::kCgroupWeight);
  EXPECT_THAT(Climb(found, Rung::kRealtime).explanation, HasSubstr("not real-time: no right"));
  found.cgroup = false;
  found.why_not_cgroup = "read-only";
  EXPECT_EQ(Climb(found, Rung::kRealtime).rung, Rung::kAutogroup);
  EXPECT_THAT(Climb(found, Rung::kRealtime).explanation, HasSubstr("no cgroup can be written (read-only)"));
  found.autogroup = false;
  EXPECT_EQ(Climb(found, Rung::kRealtime).rung, Rung::kNice);
  found.realtime = true;
  EXPECT_EQ(Climb(found, Rung::kRealtime).rung, Rung::kRealtime);
  EXPECT_THAT(Climb(found, Rung::kRealtime).explanation, HasSubstr("nice 19 only"));
}

TEST(Ladder, RefusesARungThatItDoesNotKnow) {
  EXPECT_EQ(*ParseWanted("auto"), Rung::kRealtime);
  EXPECT_EQ(*ParseWanted("off"), Rung::kOff);
  EXPECT_THAT(std::string(MessageOf(ParseWanted("autogrup").status())), HasSubstr("did you mean 'autogroup'?"));
}

TEST(ProcessStatText, SurvivesANameWithParentheses) {
  auto process = ParseProcessStat(
      "42 (a) b (c)) S 1 42 41 0 -1 4194560 100 0 0 0 150 50 20 10 20 0 3 0 9999 1000000 25 18446744073709551615 1 1 0",
      100, 4096);
  ASSERT_TRUE(process);
  EXPECT_EQ(process->pid, 42);
  EXPECT_EQ(process->state, 'S');
  EXPECT_EQ(process->session, 41);
  EXPECT_DOUBLE_EQ(process->cpu_seconds, 2.3);
  EXPECT_EQ(process->threads, 3);
  EXPECT_EQ(process->start_ticks, 9999);
  EXPECT_EQ(process->memory_bytes, 25 * 4096);
  EXPECT_FALSE(ParseProcessStat("42 (a", 100, 4096));
}

TEST(RunDelaySummary, TakesTheSmallestValueNotBelowTheShare) {
  std::vector<int64_t> delays;
  for (int64_t i = 100; i >= 1; --i) delays.push_back(i * 1000);
  RunDelay summary = Summarize(delays, 2);
  EXPECT_EQ(summary.p50_us, 50);
  EXPECT_EQ(summary.p99_us, 99);
  EXPECT_EQ(summary.max_us, 100);
  EXPECT_EQ(summary.samples, 100);
  EXPECT_EQ(Summarize({}, 2).samples, 0);
}

TEST(OverrunOfAThread, IsCpuTimeSinceItLastWaited) {
  using Verdict = Overrun::Verdict;
  Overrun overrun(/*budget_nanos=*/100, /*cpu_nanos=*/0, /*waits=*/5);
  EXPECT_EQ(overrun.Judge(49, std::nullopt), Verdict::kNone) << "too little to look further";
  EXPECT_EQ(overrun.Judge(60, std::nullopt), Verdict::kReadSwitches);
  EXPECT_EQ(overrun.Judge(60, 6), Verdict::kNone) << "it has waited: its time begins anew";
  EXPECT_EQ(overrun.Judge(120, 6), Verdict::kNone);
  EXPECT_EQ(overrun.Judge(160, 6), Verdict::kDemote);
  EXPECT_EQ(overrun.Judge(300, 6), Verdict::kNone) << "once is enough";
  EXPECT_EQ(overrun.Judge(300, std::nullopt), Verdict::kReadSwitches) << "a demoted thread is always looked at";
  EXPECT_EQ(overrun.Judge(310, 7), Verdict::kRestore);
  EXPECT_FALSE(overrun.demoted());
}

}  // namespace
}  // namespace tandem::isolation
