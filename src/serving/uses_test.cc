// What versions use is told for the accounts and for serving's share, whatever becomes of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "base/files.h"
#include "engine/testing.h"
#include "serving/fake_version.h"
#include "serving/serving.h"

namespace tandem::serving {
namespace {

using ::testing::SizeIs;

class UsesTest : public ::testing::Test {
 protected:
  UsesTest() {
    engine::testing::UseTestEngines(TANDEM_BIN_DIR);
    ServingSettings settings;
    settings.spawn_service = engine::testing::StartService;
    serving_ = Serving::Create(settings, engine::testing::Spawn, &metrics_, Clock::Real(), {});
    client_ = std::make_unique<testing::Client>(serving_.get());
  }
  ~UsesTest() override {
    client_.reset();
    serving_.reset();
  }

  void Serve(const std::string& isolation) {
    DesiredModel model{.name = "m", .default_version = 1};
    model.config.isolation = isolation;
    model.config.run_timeout_s = 0.5;
    model.versions.push_back({.version = 1,
                              .model_path = folder_.Write("model", "good"),
                              .prepared_folder = folder_ / "prepared",
                              .engine = "gate"});
    serving_->SetDesired({model});
    ASSERT_TRUE(serving_->WaitUntilReady("m", 1, 60).ok());
  }
  absl::Status Ask(float first) {
    alignas(64) const float x[1] = {first};
    alignas(64) const int32_t y[2] = {};
    return client_->Ask("m", "", {{"x", {DType::kFloat32, {1}, x, 4}}, {"y", {DType::kInt32, {2}, y, 8}}}).status;
  }

  engine::testing::TempFolder folder_;
  Metrics metrics_;
  std::unique_ptr<Serving> serving_;
  std::unique_ptr<testing::Client> client_;
};

TEST_F(UsesTest, CpuTimeInAProcessOfItsOwnIsKnownWhileItRunsAfterItDiedAndAfterItWasUnloaded) {
  Serve("process");
  EXPECT_LT(serving_->ChildCpuSeconds(), 0.01) << "loading and warming up are no requests";
  ASSERT_THAT(serving_->Uses(), SizeIs(1));
  const VersionUse loaded = serving_->Uses()[0];
  EXPECT_TRUE(loaded.in_child);
  EXPECT_GT(loaded.child_cpu_ns, 0u);

  absl::Status answered;
  std::thread asking([&] { answered = Ask(-11); });  // computes until it is killed
  while (serving_->ChildCpuSeconds() < 0.02) std::this_thread::yield();
  asking.join();
  EXPECT_EQ(answered.code(), absl::StatusCode::kDeadlineExceeded) << answered;
  const double used = serving_->ChildCpuSeconds();
  EXPECT_GE(used, 0.02);
  EXPECT_GE(serving_->Uses()[0].child_cpu_ns, loaded.child_cpu_ns + 20'000'000);

  serving_->SetDesired({});
  while (!serving_->States().empty()) std::this_thread::yield();
  EXPECT_GE(serving_->ChildCpuSeconds(), used);
  ASSERT_THAT(serving_->Uses(), SizeIs(1)) << "of all that were ever loaded";
  const VersionUse unloaded = serving_->Uses()[0];
  EXPECT_GE(unloaded.child_cpu_ns, loaded.child_cpu_ns + 20'000'000);
  EXPECT_EQ(unloaded.model, "m");
  EXPECT_EQ(unloaded.version, 1);
}

TEST_F(UsesTest, BytesOnTheDiskAreTheSizesOfTheFilesThatLoadingReadAndPreparingWrote) {
  Serve("thread");
  const auto prepared = static_cast<uint64_t>(BytesBelow(folder_ / "prepared"));
  ASSERT_GT(prepared, 0u);
  EXPECT_EQ(serving_->Uses()[0].disk_written_bytes, prepared);
  EXPECT_EQ(serving_->Uses()[0].disk_read_bytes, prepared + std::string("good").size());
  serving_->SetDesired({});
  while (!serving_->States().empty()) std::this_thread::yield();
  Serve("process");
  EXPECT_EQ(serving_->Uses()[0].disk_written_bytes, prepared) << "it was prepared already";
  EXPECT_EQ(serving_->Uses()[0].disk_read_bytes, 2 * prepared + std::string("good").size());
}

TEST_F(UsesTest, AVersionWithinThisProcessHasNoCpuTimeElsewhere) {
  Serve("thread");
  ASSERT_TRUE(Ask(1).ok());
  EXPECT_EQ(serving_->ChildCpuSeconds(), 0);
  ASSERT_THAT(serving_->Uses(), SizeIs(1));
  EXPECT_FALSE(serving_->Uses()[0].in_child);
  EXPECT_EQ(serving_->Uses()[0].child_cpu_ns, 0u);
  EXPECT_GT(serving_->Uses()[0].busy_ns, 0u);
}

}  // namespace
}  // namespace tandem::serving
