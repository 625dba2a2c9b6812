#include "isolation/isolation.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "base/files.h"
#include "base/status.h"
#include "isolation/test_host.h"

namespace tandem::isolation {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class ChildTest : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/tandem-isolation-XXXXXX";
    folder_ = mkdtemp(pattern);
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string Output() { return ReadFile(folder_ / "out").value_or(""); }
  SpawnOptions Shell(const std::string& script) {
    return {.argv = {"/bin/sh", "-c", script}, .output_file = (folder_ / "out").string()};
  }
  fs::path folder_;
};

TEST_F(ChildTest, RunsInASessionOfItsOwnWithOnlyItsDescriptors) {
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  SpawnOptions options = Shell("ls /proc/self/fd | wc -l; cut -d' ' -f6 /proc/$$/stat; echo $$; echo hello >&3");
  options.socket = pair[1];
  auto child = ChildProcess::Spawn(options);
  ASSERT_TRUE(child.ok()) << child.status();
  ASSERT_EQ((*child)->Wait(10000), 0);
  int listed = 0, session = 0, pid = 0;
  ASSERT_EQ(sscanf(Output().c_str(), "%d %d %d", &listed, &session, &pid), 3) << Output();
  EXPECT_EQ(listed, 5);  // 0, 1, 2, the socket, and the folder that ls reads
  EXPECT_EQ(session, pid);
  EXPECT_EQ(pid, (*child)->pid());
  char text[6] = {};
  EXPECT_EQ(read(pair[0], text, 5), 5);
  EXPECT_STREQ(text, "hello");
  close(pair[0]);
  close(pair[1]);
}

TEST_F(ChildTest, KillsTheWholeProcessGroupWhenDestroyed) {
  fs::path mark = folder_ / "grandchild";
  auto child = ChildProcess::Spawn(Shell("sleep 1000 & echo $! > " + mark.string() + ".tmp; mv " + mark.string() +
                                         ".tmp " + mark.string() + "; wait"));
  ASSERT_TRUE(child.ok()) << child.status();
  while (!fs::exists(mark)) ASSERT_FALSE((*child)->Wait(5));
  pid_t grandchild = std::stoi(*ReadFile(mark));
  child->reset();
  // A killed grandchild stays a zombie until init reaps it; either way it no longer runs.
  auto stat = [&] { return ReadFile("/proc/" + std::to_string(grandchild) + "/stat").value_or(") Z"); };
  EXPECT_TRUE(Eventually([&] { return stat().find(") S") == std::string::npos; })) << stat();
}

TEST_F(ChildTest, SaysHowAChildEnded) {
  auto exited = ChildProcess::Spawn(Shell("exit 3"));
  ASSERT_TRUE(exited.ok());
  EXPECT_EQ(DescribeExit(*(*exited)->Wait(10000)), "exited with code 3");
  auto killed = ChildProcess::Spawn(Shell("kill -9 $$"));
  ASSERT_TRUE(killed.ok());
  EXPECT_EQ(DescribeExit(*(*killed)->Wait(10000)), "killed by signal 9 (SIGKILL)");
}

TEST_F(ChildTest, SaysThatAProgramCannotBeRun) {
  auto child = ChildProcess::Spawn({.argv = {"/nowhere/program"}, .output_file = (folder_ / "out").string()});
  ASSERT_TRUE(child.ok());
  EXPECT_EQ(DescribeExit(*(*child)->Wait(10000)), "exited with code 127");
  EXPECT_THAT(Output(), HasSubstr("cannot run '/nowhere/program'"));
}

TEST_F(ChildTest, ReplacesVariablesOfTheEnvironment) {
  setenv("TANDEM_TEST_A", "old", 1);
  SpawnOptions options = Shell("echo $TANDEM_TEST_A");
  options.environment = {"TANDEM_TEST_A=new"};
  auto child = ChildProcess::Spawn(options);
  ASSERT_TRUE(child.ok());
  (*child)->Wait(10000);
  EXPECT_EQ(Output(), "new\n");
}

TEST_F(ChildTest, CannotRaiseItselfOutOfTheLowestClass) {
  auto child = ChildProcess::Spawn(Shell("chrt -f 1 true && echo raised; nice -n -5 true; exit 0"));
  ASSERT_TRUE(child.ok());
  (*child)->Wait(10000);
  EXPECT_THAT(Output(), testing::Not(HasSubstr("raised")));
}

TEST_F(ChildTest, StandsInItsGroupAndLeavesNoneBehind) {
  auto isolation = Isolation::Create({.instance = StrCat("test-", getpid()), .disk_folder = folder_.string()});
  ASSERT_TRUE(isolation.ok());
  auto group = (*isolation)->CreateGroup("job-1");
  ASSERT_TRUE(group.ok()) << group.status();
  SpawnOptions options = Shell("cat /proc/self/cgroup; cat /proc/self/autogroup; true");
  options.group = group->get();
  auto child = ChildProcess::Spawn(options);
  ASSERT_TRUE(child.ok());
  ASSERT_EQ((*child)->Wait(10000), 0);
  auto files = (*group)->JoinFiles();
  if (!files.empty() && files[0].first != "/proc/self/autogroup") {
    EXPECT_THAT(Output(), HasSubstr(StrCat("tandem-test-", getpid(), "/job-1")));
    group->reset();
    for (const auto& [file, text] : files) EXPECT_FALSE(fs::exists(fs::path(file).parent_path())) << file;
  } else if (!files.empty()) {
    EXPECT_THAT(Output(), HasSubstr("nice 19"));
  }
  EXPECT_FALSE((*isolation)->capabilities().explanation.empty());
}

TEST(Topology, CountsAtLeastOneCpuAndSomeMemory) {
  Topology topology = ReadTopology();
  EXPECT_GE(topology.usable_cpus, 1);
  EXPECT_LE(topology.usable_cpus, topology.online_cpus);
  EXPECT_GT(topology.memory_bytes, 1 << 20);
}

}  // namespace
}  // namespace tandem::isolation
