#include "daemon/children.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>

#include "base/background_class.h"
#include "base/files.h"
#include "base/status.h"
#include "base/tensor.h"
#include "engine/testing.h"

namespace tandem::daemon {
namespace {

namespace fs = std::filesystem;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

class ServingChildTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/tandem-children-XXXXXX";
    folder_ = mkdtemp(pattern);
    fs::create_directories(folder_ / "run");
    std::ofstream(folder_ / "model") << "fine";
    engine::testing::UseTestEngines(TANDEM_BIN_DIR);
  }
  void TearDown() override { fs::remove_all(folder_); }

  // Makes a daemon's isolation and children; prepares the model.
  void Start(const std::string& rung) {
    auto isolation =
        isolation::Isolation::Create({.instance = folder_.filename(), .disk_folder = folder_, .wanted = rung});
    ASSERT_TRUE(isolation.ok()) << isolation.status();
    isolation_ = *std::move(isolation);
    children_ = std::make_unique<Children>(ChildrenParts{.isolation = isolation_.get(),
                                                         .run_folder = folder_ / "run",
                                                         .models = folder_,
                                                         .serving_pace = &serving_pace_,
                                                         .training_pace = &training_pace_});
    auto prepared =
        engine::PrepareInChild(engine::testing::Spawn, "gate", folder_ / "model", folder_ / "prepared", {}, 60);
    ASSERT_TRUE(prepared.ok()) << prepared.status();
  }
  // Loads it in a child, as the loader does: on a thread of the background class.
  std::unique_ptr<engine::LoadedModel> LoadInBackground() {
    std::unique_ptr<engine::LoadedModel> model;
    std::thread loader([&] {
      EnterBackgroundClass();
      auto loaded = engine::LoadRemote({.what = "m",
                                        .engine = "gate",
                                        .folder = folder_ / "prepared",
                                        .run_timeout_s = 3,
                                        .spawn = [this](const std::vector<std::string>& argv, int socket) {
                                          auto service = children_->Serve(argv, socket);
                                          if (service.ok()) pidfd_ = (*service)->pidfd();
                                          return service;
                                        }});
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      model = *std::move(loaded);
    });
    loader.join();
    return model;
  }
  pid_t ChildPid() const {
    std::ifstream info(StrCat("/proc/self/fdinfo/", pidfd_));
    for (std::string word; info >> word;) {
      if (word == "Pid:" && info >> word) return std::stoi(word);
    }
    return 0;
  }
  std::vector<pid_t> Threads() const {
    std::vector<pid_t> threads;
    for (const auto& entry : fs::directory_iterator(StrCat("/proc/", ChildPid(), "/task"))) {
      threads.push_back(std::stoi(entry.path().filename()));
    }
    return threads;
  }

  std::vector<pid_t> RealtimeThreads() const {
    std::vector<pid_t> realtime;
    for (pid_t thread : Threads()) {
      if (sched_getscheduler(thread) == (SCHED_FIFO | SCHED_RESET_ON_FORK)) realtime.push_back(thread);
    }
    return realtime;
  }

  fs::path folder_;
  std::unique_ptr<isolation::Isolation> isolation_;
  PacedWriter serving_pace_{0}, training_pace_{0};
  std::unique_ptr<Children> children_;
  int pidfd_ = -1;
};

TEST_F(ServingChildTest, StandsWhereTheDaemonStandsAtNiceZeroAlsoWhenTheLoaderStartsIt) {
  Start("nice");
  std::unique_ptr<engine::LoadedModel> model = LoadInBackground();
  ASSERT_NE(model, nullptr);
  auto instance = model->MakeInstance();
  ASSERT_TRUE(instance.ok()) << instance.status();
  std::vector<int> nice, policy;
  for (pid_t thread : Threads()) {
    nice.push_back(getpriority(PRIO_PROCESS, thread));
    policy.push_back(sched_getscheduler(thread));
  }
  ASSERT_GE(nice.size(), 2u);
  EXPECT_THAT(nice, Each(getpriority(PRIO_PROCESS, 0)));
  EXPECT_THAT(policy, Each(SCHED_OTHER));
  EXPECT_EQ(*ReadFile(StrCat("/proc/", ChildPid(), "/cgroup")), *ReadFile("/proc/self/cgroup"));
}

TEST_F(ServingChildTest, AThreadForRequestsIsRealtimeOnTheRungRealtimeAndNormalOnceItComputesForLong) {
  Start("auto");
  if (isolation_->capabilities().rung != isolation::Rung::kRealtime) GTEST_SKIP() << "no real-time class here";
  std::unique_ptr<engine::LoadedModel> model = LoadInBackground();
  ASSERT_NE(model, nullptr);
  auto instance = model->MakeInstance();
  ASSERT_TRUE(instance.ok()) << instance.status();
  EXPECT_THAT(RealtimeThreads(), IsEmpty()) << "warming up and evaluating are no requests";
  (*instance)->StartRequests();
  const std::vector<pid_t> realtime = RealtimeThreads();
  ASSERT_EQ(realtime.size(), 1u);
  // The run computes until its time-out.
  std::thread run([&] {
    const float for_ever = -11;
    const int32_t y[2] = {};
    std::vector<Tensor> outputs;
    absl::Status status = (*instance)->Run(
        {{DType::kFloat32, {1}, &for_ever, sizeof for_ever}, {DType::kInt32, {2}, y, sizeof y}}, &outputs);
    EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
  });
  int policy = SCHED_FIFO | SCHED_RESET_ON_FORK;
  while (policy == (SCHED_FIFO | SCHED_RESET_ON_FORK)) {
    poll(nullptr, 0, 2);
    policy = sched_getscheduler(realtime[0]);
  }
  EXPECT_EQ(policy, SCHED_OTHER | SCHED_RESET_ON_FORK);  // -1: it was killed as it was
  run.join();
}

using HelperTest = ServingChildTest;

TEST_F(HelperTest, SharesServingsRateWithThoseThatComeAndGo) {
  Start("nice");
  EXPECT_THAT(children_->SetServingDisk({.disk_write_bytes_per_s = 12'000'000}), Not(IsEmpty())) << "by no kernel";
  // What it may write, from its socket: alone, beside another one, and alone again.
  const fs::path begun = folder_ / "begun";
  const std::string listen = StrCat(": > ", begun.string(), "; exec od -A n -t f8 -w8 -N 24 <&3 >&2");
  absl::StatusOr<engine::ChildResult> heard;
  std::thread first([&] { heard = children_->Run({"/bin/sh", "-c", listen}, 60); });
  while (!fs::exists(begun)) poll(nullptr, 0, 2);
  const auto second = children_->Run({"/bin/sh", "-c", "echo $TANDEM_DISK_WRITE >&2"}, 60);
  const auto of_training =
      children_->Run({"/bin/sh", "-c", "echo $TANDEM_DISK_WRITE >&2"}, 60, Children::Disk::kTraining);
  first.join();
  ASSERT_TRUE(heard.ok() && second.ok() && of_training.ok()) << heard.status();
  std::istringstream words(heard->stderr_text);
  EXPECT_THAT(std::vector<double>(std::istream_iterator<double>(words), {}), ElementsAre(12e6, 6e6, 12e6));
  EXPECT_EQ(std::strtod(second->stderr_text.c_str(), nullptr), 6e6) << "from its start on";
  EXPECT_EQ(of_training->stderr_text, "0\n");
}

TEST_F(HelperTest, EndsAHelperThatIsToldToStop) {
  Start("nice");
  const fs::path begun = folder_ / "begun";
  const std::string script =
      StrCat("echo $$ > ", begun.string(), ".new && mv ", begun.string(), ".new ", begun.string(), "; exec sleep 600");
  std::atomic<bool> stop = false;
  absl::Status ended;
  std::thread runner([&] {
    ended = children_->RunChecked({"/bin/sh", "-c", script}, 600, Children::Disk::kTraining, &stop);
  });
  while (!fs::exists(begun)) poll(nullptr, 0, 2);
  const pid_t pid = std::stoi(*ReadFile(begun));
  EXPECT_EQ(kill(pid, 0), 0);
  stop = true;
  runner.join();
  EXPECT_EQ(ended.code(), absl::StatusCode::kCancelled) << ended;
  EXPECT_EQ(kill(pid, 0), -1) << "it is gone";
}

TEST_F(HelperTest, RatesAreLiftedForGoodWhenAllEnds) {
  Start("nice");
  children_->SetTrainingRate(5e6);
  EXPECT_EQ(training_pace_.bytes_per_s(), 5e6);
  EXPECT_EQ(serving_pace_.bytes_per_s(), 0);
  children_->SetServingDisk({.disk_write_bytes_per_s = 7'000'000});
  EXPECT_EQ(serving_pace_.bytes_per_s(), 7e6);
  children_->Abort();
  children_->SetTrainingRate(5e6);
  children_->SetServingDisk({.disk_write_bytes_per_s = 7'000'000});
  EXPECT_EQ(training_pace_.bytes_per_s(), 0);
  EXPECT_EQ(serving_pace_.bytes_per_s(), 0);
}

}  // namespace
}  // namespace tandem::daemon
