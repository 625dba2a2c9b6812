// Scheduling classes and rungs against the real kernel.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <grp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include <thread>

#include "base/status.h"
#include "isolation/cgroup.h"
#include "isolation/latency_class.h"
#include "isolation/test_host.h"

namespace tandem::isolation {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

using ClassesTest = HostTest;

#define NEEDS_REALTIME(isolation) \
  if ((isolation)->capabilities().rung != Rung::kRealtime) GTEST_SKIP() << (isolation)->capabilities().explanation

int PolicyOf(pid_t tid) { return sched_getscheduler(tid) & ~SCHED_RESET_ON_FORK; }

// Time that the host gives to its other guests is not in it.
int64_t ThreadCpuNanos() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

TEST_F(ClassesTest, ALatencyThreadIsRealTimeAndItsChildrenAreNot) {
  auto isolation = Make();
  NEEDS_REALTIME(isolation);
  int own = -1, inherited = -1, slack = -1;
  size_t listed = 0;
  std::thread([&] {
    isolation->EnterLatencyClass("request-1");
    own = PolicyOf(0);
    slack = prctl(PR_GET_TIMERSLACK, 0UL, 0UL, 0UL, 0UL);
    std::thread([&] { inherited = PolicyOf(0); }).join();
    listed = isolation->LatencyThreads().size();
  }).join();
  EXPECT_EQ(own, SCHED_FIFO);
  EXPECT_EQ(inherited, SCHED_OTHER);
  EXPECT_LE(slack, 1);  // newer kernels: 0 for every real-time thread
  EXPECT_EQ(listed, 1u);
  EXPECT_TRUE(isolation->LatencyThreads().empty()) << "a thread that has ended is no longer in the class";
}

TEST_F(ClassesTest, AThreadThatSpinsIsDemotedUntilItWaits) {
  auto isolation = Make("auto", /*budget_ms=*/20);
  NEEDS_REALTIME(isolation);
  bool demoted = false, restored = false;
  LatencyThread seen, after;
  std::thread([&] {
    isolation->EnterLatencyClass("spinner");
    const int64_t end = Clock::Real()->MonotonicNanos() + 3'000'000'000;
    while (!demoted && Clock::Real()->MonotonicNanos() < end) demoted = PolicyOf(0) == SCHED_OTHER;
    seen = isolation->LatencyThreads().at(0);
    restored = Eventually([] { return PolicyOf(0) == SCHED_FIFO; });  // it waits in between
    after = isolation->LatencyThreads().at(0);
  }).join();
  EXPECT_TRUE(demoted);
  EXPECT_EQ(seen.demotions, 1);
  EXPECT_GT(seen.cpu_seconds, 0.019);
  EXPECT_TRUE(restored);
  EXPECT_FALSE(after.demoted);
  EXPECT_GT(after.times_run, 0);
}

TEST_F(ClassesTest, AThreadThatWorksInPiecesKeepsItsClass) {
  auto isolation = Make("auto", /*budget_ms=*/20);
  NEEDS_REALTIME(isolation);
  LatencyThread seen;
  double by_clocks = 0;
  std::thread([&] {
    isolation->EnterLatencyClass("worker");
    for (int i = 0; i < 60; ++i) {  // 2 ms of work, a wait, and so on: 120 ms of work, six budgets
      const int64_t end = ThreadCpuNanos() + 2'000'000;
      while (ThreadCpuNanos() < end) {
      }
      Pass(1);
    }
    seen = isolation->LatencyThreads().at(0);
    by_clocks = isolation->LatencyCpuSeconds();
  }).join();
  EXPECT_EQ(seen.demotions, 0);
  EXPECT_GT(seen.cpu_seconds, 0.1);
  EXPECT_NEAR(by_clocks, seen.cpu_seconds, 0.02);
  EXPECT_EQ(isolation->LatencyCpuSeconds(), 0) << "of those that are in the class";
}

TEST_F(ClassesTest, TheWatchdogOfIdleThreadsCostsNextToNothing) {
  auto latency = LatencyClass::Create(true, 100);
  std::atomic<bool> end{false};
  auto idle = [&] {
    latency->Enter("idle").IgnoreError();
    end.wait(false);
  };
  std::thread first(idle), second(idle);
  EXPECT_TRUE(Eventually([&] { return latency->Threads().size() == 2; }));
  const double before = latency->WatchdogSeconds();
  Pass(1000);
  const double used = latency->WatchdogSeconds() - before;
  end = true;
  end.notify_all();
  first.join();
  second.join();
  latency->Stop();
  RecordProperty("cores", StrCat(used));
  EXPECT_LT(used, 0.05) << "cores";
}

TEST_F(ClassesTest, RunDelayIsMeasuredBesideBusyChildren) {
  for (const char* wanted : {"auto", "off"}) {
    auto isolation = Make(wanted);
    auto delay = isolation->MeasureRunDelay(300);
    ASSERT_TRUE(delay.ok()) << delay.status();
    EXPECT_LE(delay->busy_processes, ReadTopology().usable_cpus);
    EXPECT_GT(delay->samples, 10);
    EXPECT_LE(delay->p50_us, delay->p99_us);
    EXPECT_LE(delay->p99_us, delay->max_us);
    RecordProperty(StrCat(wanted, "_us"), StrCat(delay->p50_us, " ", delay->p99_us, " ", delay->max_us));
    if (isolation->capabilities().rung == Rung::kRealtime) {
      EXPECT_LT(delay->p50_us, 1000) << "waits like a normal thread";
    }
    EXPECT_TRUE(isolation->LatencyThreads().empty());
  }
  EXPECT_FALSE(Make("off")->MeasureRunDelay(0).ok());
}

TEST_F(ClassesTest, AJobCannotReniceItselfUpOrAskForRealTime) {
  auto isolation = Make();
  auto group = isolation->CreateGroup("job");
  ASSERT_TRUE(group.ok());
  auto child = Shell(
      "chrt -f 1 true && echo raised; renice -n -5 -p $$ > /dev/null && echo reniced; ulimit -r 5 && echo limited; "
      "echo done",
      group->get());
  ASSERT_TRUE(child->Wait(20'000));
  EXPECT_THAT(Output(), HasSubstr("done"));
  EXPECT_THAT(Output(), Not(HasSubstr("raised")));
  EXPECT_THAT(Output(), Not(HasSubstr("reniced")));
}

TEST_F(ClassesTest, WithIsolationOffChildrenAreOrdinary) {
  auto isolation = Make("off");
  EXPECT_EQ(isolation->capabilities().rung, Rung::kOff);
  auto group = isolation->CreateGroup("job", {.memory_max_bytes = 1 << 20});
  ASSERT_TRUE(group.ok());
  EXPECT_TRUE((*group)->JoinFiles().empty());
  auto child = Shell("nice; cat /proc/self/cgroup | grep -c tandem-; ulimit -d", group->get());
  ASSERT_TRUE(child->Wait(20'000));
  EXPECT_EQ(Output(), StrCat(getpriority(PRIO_PROCESS, 0), "\n0\nunlimited\n"));
  EXPECT_THAT(isolation->capabilities().not_enforced.at(0), HasSubstr("isolation is off"));
}

// Runs `body` in a process of its own; what it returns comes back.
std::string InAnotherProcess(const std::function<std::string()>& body) {
  int channel[2];
  EXPECT_EQ(pipe(channel), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    const std::string text = body();
    _exit(write(channel[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0 : 1);
  }
  close(channel[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t size; (size = read(channel[0], buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<size_t>(size));
  close(channel[0]);
  EXPECT_EQ(waitpid(pid, nullptr, 0), pid);
  return text;
}

std::string Describe(const Isolation& isolation) {
  const Capabilities capabilities = isolation.capabilities();
  std::string text = StrCat(RungName(capabilities.rung), ": ", capabilities.explanation, "\n");
  for (const std::string& sentence : capabilities.not_enforced) StrAppend(&text, sentence, "\n");
  return text;
}

TEST_F(ClassesTest, AnOrdinaryUserGetsTheAutogroupRungAndTheReasons) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can become somebody else";
  const std::string text = InAnotherProcess([&]() -> std::string {
    if (setgroups(0, nullptr) != 0 || setgid(65534) != 0 || setuid(65534) != 0) return "cannot become nobody";
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);  // as after an exec: /proc/self belongs to its user again
    auto isolation = Isolation::Create({.instance = instance_, .disk_folder = "/tmp"});
    if (!isolation.ok()) return std::string(MessageOf(isolation.status()));
    auto group = (*isolation)->CreateGroup("job", {.memory_max_bytes = 1 << 30});
    if (!group.ok()) return std::string(MessageOf(group.status()));
    std::string said = Describe(**isolation);
    for (const auto& [file, written] : (*group)->JoinFiles()) StrAppend(&said, "join ", file, " ", written, "\n");
    for (const std::string& argument : (*group)->LaunchArguments()) StrAppend(&said, argument, "\n");
    (*isolation)->EnterLatencyClass("nobody's");
    StrAppend(&said, "listed ", (*isolation)->LatencyThreads().size(), "\n");
    return said;
  });
  if (ReadFile("/proc/sys/kernel/sched_autogroup_enabled").value_or("0\n") != "1\n") {
    EXPECT_THAT(text, HasSubstr("nice: "));
    GTEST_SKIP() << "autogroup is off here";
  }
  EXPECT_THAT(text, HasSubstr("autogroup: training runs in an autogroup of nice 19; no cgroup can be written ("));
  EXPECT_THAT(text, HasSubstr("not real-time: this user may not use SCHED_FIFO"));
  EXPECT_THAT(text, HasSubstr("join /proc/self/autogroup 19"));
  EXPECT_THAT(text, HasSubstr("--limit-data=1073741824"));
  EXPECT_THAT(text, HasSubstr("process limits are not enforced"));
  EXPECT_THAT(text, HasSubstr("listed 1"));
}

// Makes every cgroup mount read-only for this process alone.
bool MakeCgroupsReadOnly() {
  if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return false;
  for (const Mount& mounted : ParseMounts(ReadFile("/proc/self/mountinfo").value_or(""))) {
    if (mounted.type != "cgroup" && mounted.type != "cgroup2") continue;
    if (mount("none", mounted.point.c_str(), nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr) != 0) return false;
  }
  return true;
}

TEST_F(ClassesTest, AReadOnlyCgroupFileSystemIsSaidAndTheNextBestIsUsed) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can mount";
  const std::string text = InAnotherProcess([&]() -> std::string {
    if (!MakeCgroupsReadOnly()) return "cannot mount";
    auto isolation = Make();
    return Describe(*isolation);
  });
  if (text == "cannot mount") GTEST_SKIP() << "this root may not mount";
  EXPECT_THAT(text, HasSubstr("no cgroup can be written ("));
  EXPECT_THAT(text, HasSubstr("Read-only file system"));
  EXPECT_THAT(text, HasSubstr("CPU caps are not enforced"));
}

TEST_F(ClassesTest, ACgroupFileSystemThatTurnsReadOnlyLowersTheRungAndWorkGoesOn) {
  {
    auto isolation = Make();
    TANDEM_NEEDS(isolation, cpu_cap);
  }
  const std::string text = InAnotherProcess([&]() -> std::string {
    auto isolation = Make();
    auto before = isolation->CreateGroup("before");
    if (!before.ok() || !MakeCgroupsReadOnly()) return "cannot mount";
    std::string said = (*before)->SetLimits({.cpu_cap = 1}).value_or(std::vector<std::string>{"refused"}).back() + "\n";
    auto after = isolation->CreateGroup("after", {.cpu_cap = 1});
    if (!after.ok()) return std::string(MessageOf(after.status()));
    auto child = Shell("echo ran", after->get());
    child->Wait(20'000);
    StrAppend(&said, Output(), Describe(*isolation));
    for (const auto& [file, written] : (*after)->JoinFiles()) StrAppend(&said, "join ", file, "\n");
    return said;
  });
  if (text == "cannot mount") GTEST_SKIP() << "this root may not mount";
  EXPECT_THAT(text, HasSubstr("limits are not enforced any more"));
  EXPECT_THAT(text, HasSubstr("ran\n"));
  EXPECT_THAT(text, HasSubstr("no cgroup can be written ("));
  EXPECT_THAT(text, Not(HasSubstr("cgroup.procs\n")));
  Make();  // removes what that process could not
  for (const fs::path& mounted : FindCgroupPlaces().mounts)
    EXPECT_FALSE(fs::exists(mounted / StrCat("tandem-", instance_))) << mounted;
}

TEST_F(ClassesTest, WithoutCgroupsAGroupIsItsChildrensSessions) {
  auto isolation = Make("nice");
  EXPECT_EQ(isolation->capabilities().rung, Rung::kNice);
#if defined(__SANITIZE_ADDRESS__)
  constexpr int64_t kMemory = 0;  // its shadow memory, terabytes of addresses, would count
  constexpr std::string_view kLimit = "unlimited";
#else
  constexpr int64_t kMemory = 256 << 20;
  constexpr std::string_view kLimit = "262144";
#endif
  auto group = isolation->CreateGroup("job", {.memory_max_bytes = kMemory});
  ASSERT_TRUE(group.ok());
  auto child = Shell("nice; ulimit -d; sleep 1000 & while :; do :; done", group->get());
  ASSERT_TRUE(Eventually([&] { return (*group)->ReadUsage().cpu_seconds > 0.05; }));
  EXPECT_TRUE(Eventually([&] { return Output() == StrCat("19\n", kLimit, "\n"); })) << Output();
  ASSERT_TRUE(Eventually([&] { return (*group)->ReadUsage().processes == 2; })) << "seen within a second";
  ASSERT_TRUE((*group)->Freeze().ok());
  const double before = (*group)->ReadUsage().cpu_seconds;
  Pass(50);
  EXPECT_EQ((*group)->ReadUsage().cpu_seconds, before);
  ASSERT_TRUE((*group)->Thaw().ok());
  EXPECT_TRUE(Eventually([&] { return (*group)->ReadUsage().cpu_seconds > before; }));
  ASSERT_TRUE((*group)->Freeze().ok());
  EXPECT_TRUE((*group)->Kill().ok());
  EXPECT_TRUE(child->Wait(10'000));
  EXPECT_EQ((*group)->ReadUsage().processes, 0);
  const double used = (*group)->ReadUsage().cpu_seconds;
  group->reset();
  EXPECT_GE(isolation->ReadSideUsage().cpu_seconds, used);
}

}  // namespace
}  // namespace tandem::isolation
