// Groups against the real kernel.
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmath>

#include "base/status.h"
#include "isolation/cgroup.h"
#include "isolation/group_tree.h"
#include "isolation/kernel_file.h"
#include "isolation/test_host.h"

namespace tandem::isolation {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

using GroupsTest = HostTest;

constexpr char kBurn[] = "while :; do :; done";

// The file of a group in the hierarchy that holds `name`; empty if none does.
fs::path FileOf(const ResourceGroup& group, const std::string& name) {
  for (const auto& [file, text] : group.JoinFiles()) {
    fs::path candidate = fs::path(file).parent_path() / name;
    if (fs::exists(candidate)) return candidate;
  }
  return {};
}

TEST_F(GroupsTest, ACpuCapHoldsWithinTwoPercentOfASecond) {
  auto isolation = Make();
  TANDEM_NEEDS(isolation, cpu_cap);
  constexpr double kCap = 0.5;
  auto group = isolation->CreateGroup("capped", {.cpu_cap = kCap});
  ASSERT_TRUE(group.ok()) << group.status();
  LetRun(**group);  // the cap alone is to hold it back, not what else runs on this machine
  auto first = Shell(kBurn, group->get()), second = Shell(kBurn, group->get());
  ASSERT_TRUE(Eventually([&] { return (*group)->ReadUsage().throttled_periods > 5; }));
  double used = 0;
  for (int attempt = 0; attempt < 10; ++attempt) {
    // The usage is of some moment between the clock's two readings, which may be apart on a busy machine.
    const int64_t before_from = Clock::Real()->MonotonicNanos();
    const Usage before = (*group)->ReadUsage();
    const int64_t before_to = Clock::Real()->MonotonicNanos();
    Pass(1000);
    const int64_t after_from = Clock::Real()->MonotonicNanos();
    const Usage after = (*group)->ReadUsage();
    const int64_t after_to = Clock::Real()->MonotonicNanos();
    const double cpu_nanos = (after.cpu_seconds - before.cpu_seconds) * 1e9;
    EXPECT_LT(cpu_nanos / static_cast<double>(after_to - before_from), kCap * 1.02);
    used = cpu_nanos / static_cast<double>(after_from - before_to);
    // In a window where every period ended at the cap nothing but the cap held the group back.
    if (after.throttled_periods - before.throttled_periods >= 48) {
      RecordProperty("cpus_used", StrCat(used));
      EXPECT_GT(used, kCap * 0.98);
      return;
    }
  }
  GTEST_SKIP() << "the machine is too busy: the group never had its cap's worth, last " << used;
}

TEST_F(GroupsTest, ACapOfTheSideHoldsItsJobsTogetherAndCanBeLoweredAndRaised) {
  auto isolation = Make();
  TANDEM_NEEDS(isolation, cpu_cap);
  auto first = isolation->CreateGroup("a", {.cpu_cap = 1.5}), second = isolation->CreateGroup("b", {.cpu_cap = 0.25});
  ASSERT_TRUE(first.ok() && second.ok());
  for (double side : {0.5, 0.1, 2.0, 0.0}) {
    auto answer = isolation->SetSideLimits({.cpu_cap = side});
    ASSERT_TRUE(answer.ok()) << side << ": " << answer.status();
    auto again = (*first)->SetLimits({.cpu_cap = 1.5});
    EXPECT_TRUE(again.ok()) << side << ": " << again.status();
  }
  ASSERT_TRUE(isolation->SetSideLimits({.cpu_cap = 0.2}).ok());
  LetRun(**first);
  auto one = Shell(kBurn, first->get()), two = Shell(kBurn, second->get());
  ASSERT_TRUE(Eventually([&] { return isolation->ReadSideUsage().throttled_periods > 5; }));
  const int64_t begun = Clock::Real()->MonotonicNanos();
  const double before = isolation->ReadSideUsage().cpu_seconds;
  Pass(1000);
  const double used = isolation->ReadSideUsage().cpu_seconds - before;
  EXPECT_LT(used, 0.2 * 1.03 * static_cast<double>(Clock::Real()->MonotonicNanos() - begun) / 1e9);
}

TEST_F(GroupsTest, AMemoryHogIsKilledAloneAndCounted) {
  auto isolation = Make();
  TANDEM_NEEDS(isolation, memory);
  auto hog = isolation->CreateGroup("hog", {.memory_max_bytes = 48 << 20});
  auto other = isolation->CreateGroup("other", {.memory_max_bytes = 48 << 20});
  ASSERT_TRUE(hog.ok() && other.ok());
  LetRun(**hog);
  auto bystander = Run({"/bin/sleep", "1000"}, other->get());
  auto victim = Run({"/usr/bin/tail", "/dev/zero"}, hog->get());  // keeps all of a line that never ends
  std::optional<int> status = victim->Wait(30'000);
  ASSERT_TRUE(status);
  EXPECT_EQ(DescribeExit(*status), "killed by signal 9 (SIGKILL)");
  Usage usage = (*hog)->ReadUsage();
  EXPECT_EQ(usage.out_of_memory_kills, 1);
  EXPECT_GE(usage.peak_memory_bytes, 40 << 20);
  EXPECT_LE(usage.peak_memory_bytes, 48 << 20);
  EXPECT_EQ((*other)->ReadUsage().out_of_memory_kills, 0);
  EXPECT_FALSE(bystander->Wait(0));
  hog->reset();
  EXPECT_EQ(isolation->ReadSideUsage().out_of_memory_kills, 1) << "also when the group is gone";
}

TEST_F(GroupsTest, AMemoryLimitBelowWhatIsInUseIsRefusedAndKillsNobody) {
  auto isolation = Make();
  TANDEM_NEEDS(isolation, memory);
  auto group = isolation->CreateGroup("user", {.memory_max_bytes = 256 << 20});
  ASSERT_TRUE(group.ok());
  LetRun(**group);
  if (access("/usr/bin/python3", X_OK) != 0) GTEST_SKIP() << "no python3 here";
  auto child = Run({"/usr/bin/python3", "-c",
                    "import signal\nx = bytearray(b'1') * (64 << 20)\nprint('ready', flush=True)\nsignal.pause()"},
                   group->get());
  ASSERT_TRUE(Eventually([&] { return Output().find("ready") != std::string::npos; }));
  ASSERT_TRUE(Eventually([&] { return (*group)->ReadUsage().memory_bytes > 64 << 20; }));
  auto answer = (*group)->SetLimits({.memory_max_bytes = 16 << 20});
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kFailedPrecondition) << answer.status();
  EXPECT_THAT(std::string(MessageOf(answer.status())), HasSubstr("'user' uses and cannot give back"));
  EXPECT_FALSE(child->Wait(0));
  EXPECT_TRUE((*group)->SetLimits({.memory_max_bytes = 128 << 20}).ok());
}

TEST_F(GroupsTest, AForkBombStaysWithinItsProcessesAndIsKilledWhole) {
  auto isolation = Make();
  TANDEM_NEEDS(isolation, processes);
  auto group = isolation->CreateGroup("bomb", {.max_processes = 25});
  ASSERT_TRUE(group.ok());
  LetRun(**group);
  auto child = Shell("b() { b | b & }; b 2> /dev/null; b 2> /dev/null; exec sleep 1000", group->get());
  ASSERT_TRUE(Eventually([&] { return (*group)->ReadUsage().processes >= 20; })) << (*group)->ReadUsage().processes;
  for (int i = 0; i < 100; ++i) {
    EXPECT_LE((*group)->ReadUsage().processes, 25);
    Pass(1);
  }
  ASSERT_TRUE((*group)->Kill().ok());
  EXPECT_TRUE(child->Wait(10'000));
  EXPECT_TRUE(Eventually([&] { return (*group)->ReadUsage().processes == 0; })) << "once all are reaped";
}

using Burn = std::function<std::unique_ptr<ChildProcess>()>;

void ExpectFreezerWorks(ResourceGroup* group, const std::function<void()>& let_run, const Burn& burn) {
  std::unique_ptr<ChildProcess> children[] = {burn(), burn()};
  double slowest_ms = 0;
  for (int round = 0; round < 20; ++round) {
    let_run();
    const double at_start = group->ReadUsage().cpu_seconds;
    ASSERT_TRUE(Eventually([&] { return group->ReadUsage().cpu_seconds > at_start; })) << "runs, again after each thaw";
    const int64_t begun = Clock::Real()->MonotonicNanos();
    absl::Status frozen = group->Freeze();
    slowest_ms = std::max(slowest_ms, static_cast<double>(Clock::Real()->MonotonicNanos() - begun) / 1e6);
    ASSERT_TRUE(frozen.ok()) << frozen;
    const double before = group->ReadUsage().cpu_seconds;
    Pass(10);
    // v1's says "frozen" some microseconds before the last thread leaves its CPU.
    EXPECT_LT(group->ReadUsage().cpu_seconds, before + 0.0005) << "no progress while frozen";
    ASSERT_TRUE(group->Thaw().ok());
  }
  testing::Test::RecordProperty("slowest_freeze_ms", StrCat(slowest_ms));
  ASSERT_TRUE(group->Freeze().ok());
  absl::Status killed = group->Kill();
  EXPECT_TRUE(killed.ok()) << killed;
  for (auto& child : children) {
    std::optional<int> status = child->Wait(10'000);
    ASSERT_TRUE(status);
    EXPECT_EQ(DescribeExit(*status), "killed by signal 9 (SIGKILL)");
  }
}

TEST_F(GroupsTest, AFrozenGroupMakesNoProgressAndCanBeKilled) {
  auto isolation = Make();
  auto group = isolation->CreateGroup("frozen");
  ASSERT_TRUE(group.ok());
  TANDEM_NEEDS(isolation, freeze);
  ExpectFreezerWorks(
      group->get(), [&] { LetRun(**group); }, [&] { return Shell(kBurn, group->get()); });
}

TEST_F(GroupsTest, SoDoesOneInTheFreezerOfVersion1) {
  CgroupPlaces places = FindCgroupPlaces();
  if (places.v1.count("freezer") == 0 || geteuid() != 0) GTEST_SKIP() << "no freezer of v1 that this user may write";
  places.v2.clear();
  auto tree = GroupTree::Create(places, StrCat("tandem-", instance_), FindDisk(folder_));
  ASSERT_TRUE(tree.ok()) << tree.status();
  auto group = (*tree)->CreateGroup("frozen", {}, std::nullopt);
  ASSERT_TRUE(group.ok());
  ExpectFreezerWorks(
      group->get(), [&] { LetRun(**group); }, [&] { return Shell(kBurn, group->get()); });
}

TEST_F(GroupsTest, DiskBytesOfSyncedWritesAreCounted) {
  auto isolation = Make();
  TANDEM_NEEDS(isolation, disk);
  auto group = isolation->CreateGroup("writer");
  ASSERT_TRUE(group.ok());
  LetRun(**group);
  const std::string write = StrCat("dd if=/dev/zero of=", (folder_ / "data").string(), " bs=64k count=64 conv=fsync");
  ASSERT_EQ(Shell(write, group->get())->Wait(60'000), 0) << Output();
  EXPECT_GE((*group)->ReadUsage().disk_written_bytes, 64 * 65536);
  const int64_t written = (*group)->ReadUsage().disk_written_bytes;
  group->reset();
  EXPECT_GE(isolation->ReadSideUsage().disk_written_bytes, written);
}

TEST_F(GroupsTest, AWriteRateHoldsDirectWrites) {
  auto isolation = Make();
  TANDEM_NEEDS(isolation, disk);
  constexpr double kRate = 8e6;
  auto group = isolation->CreateGroup("writer", {.disk_write_bytes_per_s = static_cast<int64_t>(kRate)});
  ASSERT_TRUE(group.ok());
  LetRun(**group);
  const int64_t begun = Clock::Real()->MonotonicNanos();
  const std::string write =
      StrCat("dd if=/dev/zero of=", (folder_ / "data").string(), " bs=100k count=160 oflag=direct");
  auto child = Shell(write, group->get());
  ASSERT_EQ(child->Wait(60'000), 0) << Output();
  const double seconds = static_cast<double>(Clock::Real()->MonotonicNanos() - begun) / 1e9;
  RecordProperty("bytes_per_second", StrCat(160 * 102'400 / seconds));
  EXPECT_GE(seconds, 160 * 102'400 / kRate * 0.9);
}

TEST_F(GroupsTest, OnVersion1TheSidesDiskRateIsDividedAmongItsJobs) {
  auto isolation = Make();
  TANDEM_NEEDS(isolation, disk);
  auto first = isolation->CreateGroup("a"), second = isolation->CreateGroup("b", {.disk_write_bytes_per_s = 1'000'000});
  ASSERT_TRUE(first.ok() && second.ok());
  const fs::path file = FileOf(**first, "blkio.throttle.write_bps_device");
  if (file.empty()) GTEST_SKIP() << "blkio is not on v1 here";
  ASSERT_TRUE(isolation->SetSideLimits({.disk_write_bytes_per_s = 10'000'000}).ok());
  EXPECT_THAT(ReadKernelFile(file), HasSubstr(" 5000000\n"));
  EXPECT_THAT(ReadKernelFile(FileOf(**second, "blkio.throttle.write_bps_device")), HasSubstr(" 1000000\n"));
  second->reset();
  EXPECT_THAT(ReadKernelFile(file), HasSubstr(" 10000000\n"));
}

TEST_F(GroupsTest, AGroupWithADiskOfItsOwnHasRatesOfItsOwn) {
  auto isolation = Make();
  TANDEM_NEEDS(isolation, disk);
  auto job = isolation->CreateGroup("job"), helper = isolation->CreateGroup("helper", {}, folder_.string());
  ASSERT_TRUE(job.ok() && helper.ok());
  ASSERT_TRUE(isolation->SetSideLimits({.disk_write_bytes_per_s = 10'000'000}).ok());
  const fs::path file = FileOf(**helper, "blkio.throttle.write_bps_device");
  if (!file.empty()) {
    EXPECT_THAT(ReadKernelFile(FileOf(**job, "blkio.throttle.write_bps_device")), HasSubstr(" 10000000\n"))
        << "alone on its side's disk";
    EXPECT_THAT(ReadKernelFile(file), Not(HasSubstr(" 10000000\n")));
  }
  ASSERT_TRUE((*helper)->SetLimits({.disk_write_bytes_per_s = 3'000'000}).ok());
  const fs::path limit = file.empty() ? FileOf(**helper, "io.max") : file;
  EXPECT_THAT(ReadKernelFile(limit), HasSubstr("3000000"));
  // One of memory has no device: said, and no reason to go a rung lower.
  auto elsewhere = isolation->CreateGroup("elsewhere", {.disk_write_bytes_per_s = 3'000'000}, "/dev/shm");
  ASSERT_TRUE(elsewhere.ok()) << elsewhere.status();
  auto said = (*elsewhere)->SetLimits({.disk_write_bytes_per_s = 3'000'000});
  ASSERT_TRUE(said.ok());
  EXPECT_THAT(*said, ElementsAre(HasSubstr("/dev/shm")));
  EXPECT_TRUE(isolation->capabilities().disk);
}

// The text of the file that has a group's write rate.
std::string WriteRateText(const ResourceGroup& group) {
  const fs::path v1 = FileOf(group, "blkio.throttle.write_bps_device");
  return ReadKernelFile(v1.empty() ? FileOf(group, "io.max") : v1);
}

TEST_F(GroupsTest, GroupsWithTheSameDiskOfTheirOwnShareItsRateEvenly) {
  auto isolation = Make();
  TANDEM_NEEDS(isolation, disk);
  auto first = isolation->CreateGroup("a", {.disk_write_bytes_per_s = 10'000'000}, folder_.string());
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_THAT(WriteRateText(**first), HasSubstr("10000000")) << "alone it has all";
  auto second = isolation->CreateGroup("b", {.disk_write_bytes_per_s = 10'000'000}, folder_.string());
  ASSERT_TRUE(second.ok()) << second.status();
  auto job = isolation->CreateGroup("job"), elsewhere = isolation->CreateGroup("elsewhere", {}, "/dev/shm");
  ASSERT_TRUE(job.ok() && elsewhere.ok()) << "which have no part in it";
  for (const auto& group : {first->get(), second->get()})
    EXPECT_THAT(WriteRateText(*group), AllOf(HasSubstr("5000000"), Not(HasSubstr("10000000"))));
  for (const auto& group : {first->get(), second->get()})
    ASSERT_TRUE(group->SetLimits({.disk_write_bytes_per_s = 6'000'000}).ok());
  for (const auto& group : {first->get(), second->get()}) EXPECT_THAT(WriteRateText(*group), HasSubstr("3000000"));
  second->reset();
  EXPECT_THAT(WriteRateText(**first), HasSubstr("6000000"));
}

TEST_F(GroupsTest, AGroupsNameIsTakenWhileItLives) {
  auto isolation = Make();
  TANDEM_NEEDS(isolation, cpu_cap);
  auto group = isolation->CreateGroup("one");
  ASSERT_TRUE(group.ok());
  EXPECT_EQ(isolation->CreateGroup("one").status().code(), absl::StatusCode::kAlreadyExists);
  group->reset();
  EXPECT_TRUE(isolation->CreateGroup("one").ok());
}

TEST_F(GroupsTest, AMomentWithoutDescriptorsCostsNoRung) {
  auto isolation = Make();
  TANDEM_NEEDS(isolation, cpu_cap);
  const Rung rung = isolation->capabilities().rung;
  rlimit before = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none = {.rlim_cur = 1, .rlim_max = before.rlim_max};  // 0 would fail poll, too
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  auto group = isolation->CreateGroup("one");
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(group.status().code(), absl::StatusCode::kResourceExhausted) << group.status();
  EXPECT_TRUE(isolation->capabilities().rung == rung && isolation->capabilities().cpu_cap);
  EXPECT_TRUE(isolation->CreateGroup("one").ok());
}

// A daemon that dies at once, with a frozen job in a group of its own making below its group.
pid_t DieWithAFrozenJob(const std::string& instance, const fs::path& folder) {
  int channel[2];
  EXPECT_EQ(pipe(channel), 0);
  pid_t daemon = fork();
  if (daemon == 0) {
    auto isolation = Isolation::Create({.instance = instance, .disk_folder = folder.string()});
    auto group = (*isolation)->CreateGroup("job-1");
    for (const auto& [file, text] : (*group)->JoinFiles())
      TryWriteKernelFile(fs::path(file).parent_path().parent_path() / "cpu.shares", "20480");
    auto child = ChildProcess::Spawn({.argv = {"/bin/sleep", "1000"}, .group = group->get()});
    const pid_t pid = (*child)->pid();
    while ((*group)->ReadUsage().processes < 1) poll(nullptr, 0, 1);
    // Once it sleeps, its launcher has done everything.
    while (ReadFile(StrCat("/proc/", pid, "/comm")).value_or("") != "sleep\n") poll(nullptr, 0, 1);
    for (const auto& [file, text] : (*group)->JoinFiles()) {
      const fs::path nested = fs::path(file).parent_path() / "nested";
      mkdir(nested.c_str(), 0755);
      TryWriteKernelFile(nested / "cgroup.procs", StrCat(pid));
      TryWriteKernelFile(nested / "freezer.state", "FROZEN");
    }
    (*group)->Freeze().IgnoreError();
    if (write(channel[1], &pid, sizeof pid) != sizeof pid) _exit(2);
    _exit(0);
  }
  pid_t job = 0;
  close(channel[1]);
  EXPECT_EQ(read(channel[0], &job, sizeof job), static_cast<ssize_t>(sizeof job));
  close(channel[0]);
  EXPECT_EQ(waitpid(daemon, nullptr, 0), daemon);
  return job;
}

bool Runs(pid_t pid) {
  const std::string stat = ReadKernelFile(StrCat("/proc/", pid, "/stat"));
  return !stat.empty() && stat.find(") Z") == std::string::npos;
}

TEST_F(GroupsTest, WhatADeadDaemonLeftIsKilledAndRemovedFrozenAndNested) {
  {
    auto isolation = Make();
    TANDEM_NEEDS(isolation, cpu_cap);
  }
  const pid_t job = DieWithAFrozenJob(instance_, folder_);
  ASSERT_GT(job, 1);
  ASSERT_TRUE(Runs(job));
  auto isolation = Make();
  EXPECT_TRUE(Eventually([&] { return !Runs(job); }));
  auto group = isolation->CreateGroup("job-1");
  ASSERT_TRUE(group.ok()) << group.status();
  for (const auto& [file, text] : (*group)->JoinFiles()) {
    EXPECT_FALSE(fs::exists(fs::path(file).parent_path() / "nested")) << file;
  }
}

TEST_F(GroupsTest, ALivingDaemonsGroupsAreLeftAlone) {
  auto first = Make();
  TANDEM_NEEDS(first, cpu_cap);
  auto group = first->CreateGroup("job-1");
  ASSERT_TRUE(group.ok());
  auto child = Run({"/bin/sleep", "1000"}, group->get());
  auto second = Make();
  EXPECT_THAT(second->capabilities().explanation, HasSubstr("no cgroup can be written ("));
  EXPECT_FALSE(second->capabilities().memory);
  second.reset();
  EXPECT_FALSE(child->Wait(0));
  for (const auto& [file, text] : (*group)->JoinFiles()) EXPECT_TRUE(fs::exists(file)) << file;
}

}  // namespace
}  // namespace tandem::isolation
