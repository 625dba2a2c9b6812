// Splits, lazy versions and changed settings, through Serving with the engines of plugins/testing and plugins/echo.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <thread>

#include "engine/testing.h"
#include "serving/fake_version.h"
#include "serving/serving.h"

namespace tandem::serving {
namespace {

using testing::Client;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Answer = Client::Answer;

constexpr double kWait = 60;

class VersionsTest : public ::testing::Test {
 protected:
  VersionsTest() : gate_(TANDEM_BIN_DIR) { engine::testing::UseTestEngines(TANDEM_BIN_DIR); }

  void Start(int64_t memory_limit = 0) {
    ServingSettings settings;
    settings.memory_limit_bytes = memory_limit;
    serving_ = Serving::Create(settings, engine::testing::Spawn, &metrics_, Clock::Real(), {});
    client_ = std::make_unique<Client>(serving_.get());
  }
  void Stop() {
    client_.reset();
    serving_.reset();
  }
  ~VersionsTest() override {
    gate_.Hold(false);
    Stop();
  }

  // A version of the engine "gate", of 1000 bytes: inputs x FP32 [-1] and y INT32 [2], output x.
  DesiredVersion Gated(int32_t version, std::string_view kind = "good") {
    DesiredVersion spec;
    spec.version = version;
    spec.model_path = folder_.Write(StrCat("gate", version, kind), kind);
    spec.prepared_folder = folder_ / StrCat("prepared", version, kind);
    spec.engine = "gate";
    return spec;
  }
  // Input and output FP32 of this shape.
  DesiredVersion Echo(int32_t version, std::string_view shape = "-1", std::string_view output = "OUTPUT0") {
    DesiredVersion spec;
    spec.version = version;
    spec.model_path = folder_.Write(StrCat("m", version, ".echo"), StrCat("IN FP32 ", shape, " ", output, "\n"));
    spec.prepared_folder = folder_ / StrCat("echo", version);
    spec.engine = "echo";
    return spec;
  }
  static DesiredModel Model(std::string name, std::vector<DesiredVersion> versions, int32_t default_version) {
    return {std::move(name), std::move(versions), {}, default_version, {}, {}};
  }
  static DesiredModel Lazy(std::string name, const DesiredVersion& version) {
    DesiredModel model = Model(std::move(name), {version}, version.version);
    model.config.lazy = true;
    return model;
  }
  void Serve(const std::vector<DesiredModel>& models) {
    serving_->SetDesired(models);
    for (const DesiredModel& model : models) {
      for (const DesiredVersion& version : model.versions) {
        absl::Status status = serving_->WaitUntilReady(model.name, version.version, kWait);
        ASSERT_TRUE(status.ok()) << status;
      }
    }
  }
  // Nothing is loading or waits for it.
  void AwaitSettled() {
    while (!serving_->Settled()) std::this_thread::yield();
  }
  std::vector<Request::Input> GateInputs() const {
    return {{"x", {DType::kFloat32, {4}, x_, 16}}, {"y", {DType::kInt32, {2}, y_, 8}}};
  }
  std::vector<Request::Input> EchoInputs() const { return {{"IN", {DType::kFloat32, {4}, x_, 16}}}; }
  VersionStatus StatusOf(std::string_view model, int32_t version) {
    for (VersionStatus& status : serving_->States()) {
      if (status.model == model && status.version == version && status.state != VersionState::kUnloading) return status;
    }
    return {};
  }
  std::vector<std::string> Loaded() {
    std::vector<std::string> names;
    for (const VersionStatus& status : serving_->States()) {
      if (status.state == VersionState::kReady) names.push_back(status.model);
    }
    return names;
  }

  alignas(64) float x_[4] = {1, 2, 3, 4};
  alignas(64) int32_t y_[2] = {5, 6};
  engine::testing::TempFolder folder_;
  engine::testing::Gate gate_;
  Metrics metrics_;
  std::unique_ptr<Serving> serving_;
  std::unique_ptr<Client> client_;
};

TEST_F(VersionsTest, ASequenceStaysWithTheVersionItBeganOnUntilItEnds) {
  Start();
  DesiredModel model = Model("m", {Echo(1)}, 1);
  model.config.sequence.strategy = "direct";
  model.config.sequence.max_idle_s = 3600;
  Serve({model});
  auto ask = [&](uint64_t id, bool start, bool end, std::string_view version = "") {
    client_->sequence = {id, "", start, end};
    return client_->Ask("m", version, EchoInputs());
  };
  ASSERT_EQ(ask(7, true, false).version, 1);

  model.versions = {Echo(2)};
  model.default_version = 2;
  Serve({model});
  EXPECT_EQ(ask(8, true, false).version, 2) << "begins where it would";
  Answer old = ask(7, false, false);
  ASSERT_TRUE(old.status.ok()) << old.status;
  EXPECT_EQ(old.version, 1) << "although that is not served any more";
  EXPECT_EQ(ask(8, false, true).version, 2);
  EXPECT_EQ(ask(7, false, true).version, 1);
  EXPECT_THAT(std::string(ask(7, false, false).status.message()), HasSubstr("sequence '7' did not start, or ended"));
  while (serving_->States().size() != 1) std::this_thread::yield();
}

TEST_F(VersionsTest, ASequenceGoesOnWhereAVersionIsLoadedAnewAndNowhereElse) {
  Start();
  DesiredModel model = Model("m", {Echo(1), Echo(2)}, 1);
  model.config.sequence.strategy = "direct";
  model.config.sequence.max_idle_s = 3600;
  Serve({model});
  auto ask = [&](bool start, std::string_view version) {
    client_->sequence = {7, "", start, false};
    return client_->Ask("m", version, EchoInputs());
  };
  ASSERT_TRUE(ask(true, "1").status.ok());
  model.versions[0].options.threads = 2;
  Serve({model});
  Answer by_number = ask(false, "1");
  ASSERT_TRUE(by_number.status.ok()) << by_number.status;
  EXPECT_EQ(by_number.version, 1);
  EXPECT_FALSE(ask(false, "2").status.ok()) << "a version that was named is not left";

  model.default_version = 2;
  serving_->SetDesired({model});
  EXPECT_EQ(ask(false, "").version, 1);
  // Nothing holds up the end.
  serving_->SetDesired({});
  while (!serving_->States().empty()) std::this_thread::yield();
}

TEST_F(VersionsTest, ACanaryGetsItsShareOfTheRequestsThatNameNoVersionAndNoOthers) {
  Start();
  DesiredModel model = Model("m", {Echo(1), Echo(2)}, 1);
  model.aliases = {{"champion", 1}, {"next", 2}};
  model.split = {.canary = 2, .canary_percent = 25};
  Serve({model});
  int to_canary = 0;
  for (int i = 0; i < 1000; ++i) {
    const std::string key = StrCat("user-", i);
    Answer answer = client_->Ask("m", "", EchoInputs(), key);
    ASSERT_TRUE(answer.status.ok()) << answer.status;
    EXPECT_EQ(answer.version, BucketOf("m", key) < 2500 ? 2 : 1);
    to_canary += answer.version == 2;
    EXPECT_EQ(client_->Ask("m", "1", EchoInputs(), key).version, 1);
    EXPECT_EQ(client_->Ask("m", "champion", EchoInputs(), key).version, 1);
    EXPECT_EQ(client_->Ask("m", "next", EchoInputs(), key).version, 2);
  }
  EXPECT_NEAR(to_canary, 250, 50);
  CanaryReport report = *serving_->ReadCanary("m");
  EXPECT_EQ(report.canary.requests, static_cast<uint64_t>(to_canary));
  EXPECT_EQ(report.champion.requests, static_cast<uint64_t>(1000 - to_canary));
  EXPECT_EQ(report.canary.failures + report.champion.failures, 0u);
  EXPECT_GT(report.canary.p99_us, 0);
  EXPECT_EQ(serving_->ReadCanary("other").status().code(), absl::StatusCode::kNotFound);
  model.split = {};
  serving_->SetDesired({model});
  EXPECT_EQ(serving_->ReadCanary("m").status().message(), "model 'm' has no canary");
  EXPECT_EQ(serving_->Open("m", "")->router, nullptr);
}

TEST_F(VersionsTest, ASplitToAVersionOfAnotherFormIsRefusedAndSaysWhy) {
  Start();
  DesiredModel model = Model("m", {Echo(1), Echo(2, "-1", "SCORES")}, 1);
  model.split = {.canary = 2, .canary_percent = 100};
  Serve({model});
  EXPECT_EQ(client_->Ask("m", "", EchoInputs()).version, 1);
  EXPECT_EQ(StatusOf("m", 2).reason,
            "gets no canary requests: version 2 has the output 'SCORES' FP32 [-1] instead of 'OUTPUT0' FP32 [-1] as in "
            "version 1");
  EXPECT_EQ(StatusOf("m", 1).reason, "");
  model.split.canary = 7;
  serving_->SetDesired({model});
  EXPECT_EQ(serving_->ReadCanary("m")->problem, "version 7 is not among the versions to be served");
}

TEST_F(VersionsTest, FailuresOfTheEngineAreSeenInTheFiguresOfTheSideThatHadThem) {
  Start();
  DesiredModel model = Model("m", {Gated(1), Gated(2)}, 1);
  model.split = {.canary = 2, .canary_percent = 50};
  Serve({model});
  int failed = 0;
  for (int i = 0; i < 40; ++i) {
    const std::string key = StrCat(i);
    // "gate" fails when the first value is -1.
    x_[0] = BucketOf("m", key) < 5000 && i % 2 == 0 ? -1 : 1;
    failed += x_[0] < 0;
    EXPECT_EQ(client_->Ask("m", "", GateInputs(), key).status.ok(), x_[0] > 0);
  }
  CanaryReport report = *serving_->ReadCanary("m");
  EXPECT_GT(failed, 0);
  EXPECT_EQ(report.canary.failures, static_cast<uint64_t>(failed));
  EXPECT_EQ(report.champion.failures, 0u);
  EXPECT_EQ(report.canary.requests + report.champion.requests, 40u);
}

TEST_F(VersionsTest, VersionsAreSwappedUnderACanaryWithoutOneFailure) {
  Start();
  DesiredModel model = Model("m", {Echo(1), Echo(2)}, 1);
  model.split = {.canary = 2, .canary_percent = 50};
  Serve({model});
  std::atomic<bool> stop{false};
  std::atomic<int> failed{0}, served{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      Client client(serving_.get());
      while (!stop) {
        ++(client.Ask("m", "", EchoInputs()).status.ok() ? served : failed);
        // As a door's thread does: it may be counted on for what waits for the version before.
        serving_->work()->RunOne();
      }
    });
  }
  for (int32_t next = 3; next < 9; ++next) {
    DesiredModel swapped = Model("m", {Echo(next - 1), Echo(next)}, next - 1);
    swapped.split = {.canary = next, .canary_percent = 50};
    Serve({swapped});
    const int before = served;
    while (served < before + 20 && failed == 0) std::this_thread::yield();
    EXPECT_EQ(serving_->ReadCanary("m")->canary.version, next);
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failed, 0);
}

TEST_F(VersionsTest, AShadowSeesTheRequestsAndChangesNoAnswer) {
  Start();
  DesiredModel model = Model("m", {Gated(1), Gated(2)}, 1);
  model.split = {.shadow = 2, .shadow_percent = 100};
  Serve({model});
  for (int i = 0; i < 20; ++i) {
    x_[0] = static_cast<float>(i);
    Answer answer = client_->Ask("m", "", GateInputs());
    EXPECT_EQ(answer.version, 1);
    EXPECT_THAT(answer.values, ElementsAre(i, 2, 3, 4));
  }
  client_->Ask("m", "1", GateInputs());
  while (serving_->ReadShadow("m")->equal < 20) std::this_thread::yield();
  ShadowReport report = *serving_->ReadShadow("m");
  EXPECT_EQ(report.equal, 20u) << "the request that named a version is not copied";
  EXPECT_EQ(report.different + report.failed + report.dropped, 0u);
}

TEST_F(VersionsTest, ServingEndsWhileCopiesWaitForTheShadow) {
  Start();
  DesiredModel model = Model("m", {Gated(1), Gated(2)}, 1);
  model.split = {.shadow = 2, .shadow_percent = 100};
  Serve({model});
  for (int i = 0; i < 30; ++i) client_->Ask("m", "", GateInputs());
  Stop();
  EXPECT_EQ(gate_.Models(), 0);
}

TEST_F(VersionsTest, ALazyModelIsLoadedByItsFirstRequestWhichWaitsForIt) {
  Start();
  Serve({Model("m", {Gated(1)}, 1)});  // makes what is prepared
  Stop();
  Start();
  serving_->SetDesired({Lazy("m", Gated(1))});
  AwaitSettled();
  EXPECT_EQ(StatusOf("m", 1).state, VersionState::kUnloaded);
  EXPECT_EQ(StatusOf("m", 1).reason, "lazy: loaded by its first request");
  EXPECT_EQ(StateName(VersionState::kUnloaded), "UNAVAILABLE");
  EXPECT_THAT(std::string(serving_->Find("m", "").status().message()), HasSubstr("lazy: loaded by its first request"));
  absl::StatusOr<Target> target = serving_->Open("m", "");
  ASSERT_TRUE(target.ok()) << target.status();
  EXPECT_EQ(target->handle->inputs()[1].name, "y");
  EXPECT_EQ(target->handle->outputs()[0].name, "out");
  EXPECT_THAT(serving_->ServedVersions("m"), ElementsAre(1));
  EXPECT_THAT(serving_->ReadyVersions("m"), IsEmpty());
  AwaitSettled();
  EXPECT_EQ(gate_.Models(), 0) << "looking at it does not load it";
  Answer answer = client_->Ask("m", "", GateInputs());
  EXPECT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_THAT(answer.values, ElementsAre(1, 2, 3, 4));
  EXPECT_GT(answer.queue_ns, 1000);
  EXPECT_EQ(gate_.Models(), 1);
  EXPECT_TRUE(serving_->Find("m", "").ok());
}

TEST_F(VersionsTest, ALazyModelThatWasNeverPreparedIsLoadedFromTheFirstRequestOn) {
  Start();
  serving_->SetDesired({Lazy("m", Gated(1))});
  AwaitSettled();
  absl::Status status = serving_->Open("m", "").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(status.message(), "model 'm' version 1 is being loaded for its first request; try again in a moment");
  ASSERT_TRUE(serving_->WaitUntilReady("m", 1, kWait).ok());
  EXPECT_TRUE(client_->Ask("m", "", GateInputs()).status.ok());
}

TEST_F(VersionsTest, ALazyModelThatCannotBeLoadedSaysSo) {
  Start();
  serving_->SetDesired({Lazy("m", Gated(1, "bad"))});
  EXPECT_THAT(std::string(serving_->WaitUntilReady("m", 1, kWait).message()), HasSubstr("Nonsense"));
  EXPECT_THAT(std::string(serving_->Open("m", "").status().message()), HasSubstr("could not be loaded"));
}

TEST_F(VersionsTest, TheLeastRecentlyUsedLazyModelMakesRoom) {
  Start(2500);  // each takes 1000
  std::vector<DesiredModel> models = {Lazy("a", Gated(1)), Lazy("b", Gated(2)), Lazy("c", Gated(3))};
  serving_->SetDesired(models);
  ASSERT_TRUE(serving_->WaitUntilReady("a", 1, kWait).ok());
  ASSERT_TRUE(serving_->WaitUntilReady("b", 2, kWait).ok());
  EXPECT_TRUE(client_->Ask("a", "", GateInputs()).status.ok());
  ASSERT_TRUE(serving_->WaitUntilReady("c", 3, kWait).ok());
  EXPECT_THAT(Loaded(), ElementsAre("a", "c"));
  EXPECT_EQ(gate_.Models(), 2);
  EXPECT_EQ(StatusOf("b", 2).state, VersionState::kUnloaded);
  EXPECT_EQ(StatusOf("b", 2).reason, "lazy: unloaded to make room; loaded by its next request");
  Answer answer = client_->Ask("b", "", GateInputs());
  EXPECT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_THAT(Loaded(), ElementsAre("b", "c"));
}

TEST_F(VersionsTest, ALazyModelInUseIsNotUnloadedAndOneThatCannotFitIsRefused) {
  Start(1500);
  serving_->SetDesired({Lazy("a", Gated(1)), Lazy("b", Gated(2))});
  ASSERT_TRUE(serving_->WaitUntilReady("a", 1, kWait).ok());
  gate_.Hold(true);
  std::thread busy([&] {
    Client client(serving_.get());
    EXPECT_TRUE(client.Ask("a", "", GateInputs()).status.ok());
  });
  gate_.AwaitRunning(1);
  absl::Status status = serving_->WaitUntilReady("b", 2, kWait);
  EXPECT_THAT(std::string(status.message()), HasSubstr("unload one of 'a' version 1 (1.0 kB)"));
  gate_.Hold(false);
  busy.join();
  EXPECT_EQ(StatusOf("b", 2).state, VersionState::kUnloaded) << "the next request tries again";
  absl::Status again = serving_->WaitUntilReady("b", 2, kWait);
  EXPECT_TRUE(again.ok()) << again;
  EXPECT_THAT(Loaded(), ElementsAre("b"));
}

TEST_F(VersionsTest, ALowerLimitUnloadsLazyModelsAndNoOthers) {
  Start();
  serving_->SetDesired({Lazy("a", Gated(1)), Lazy("b", Gated(2)), Model("c", {Gated(3)}, 3)});
  ASSERT_TRUE(serving_->WaitUntilReady("a", 1, kWait).ok());
  ASSERT_TRUE(serving_->WaitUntilReady("b", 2, kWait).ok());
  ASSERT_TRUE(serving_->WaitUntilReady("c", 3, kWait).ok());
  serving_->SetMemoryLimit(1500);
  gate_.AwaitModels(1);
  EXPECT_THAT(Loaded(), ElementsAre("c"));
}

TEST_F(VersionsTest, AModelThatIsNotLazyTakesTheRoomOfOneThatIs) {
  Start(1500);
  DesiredModel lazy = Lazy("a", Gated(1));
  serving_->SetDesired({lazy});
  ASSERT_TRUE(serving_->WaitUntilReady("a", 1, kWait).ok());
  serving_->SetDesired({lazy, Model("b", {Gated(2)}, 2)});
  ASSERT_TRUE(serving_->WaitUntilReady("b", 2, kWait).ok());
  EXPECT_THAT(Loaded(), ElementsAre("b"));
  Answer answer = client_->Ask("a", "", GateInputs());
  EXPECT_EQ(answer.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(answer.status.message()), HasSubstr("unload one of 'b' version 2"));
}

TEST_F(VersionsTest, ALazyModelInUseMovesToItsNewVersionOnceThatIsLoaded) {
  Start();
  serving_->SetDesired({Lazy("m", Gated(1))});
  ASSERT_TRUE(serving_->WaitUntilReady("m", 1, kWait).ok());
  gate_.Hold(true);
  serving_->SetDesired({Lazy("m", Gated(2))});
  EXPECT_EQ((*serving_->Find("m", ""))->version(), 1);
  gate_.Hold(false);
  ASSERT_TRUE(serving_->WaitUntilReady("m", 2, kWait).ok());
  EXPECT_EQ((*serving_->Find("m", ""))->version(), 2);
  gate_.AwaitModels(1);
}

TEST_F(VersionsTest, ACanaryIsLoadedEvenIfItsModelIsLazy) {
  Start();
  DesiredModel model = Lazy("m", Gated(1));
  model.versions.push_back(Gated(2));
  model.split = {.canary = 2, .canary_percent = 100};
  serving_->SetDesired({model});
  AwaitSettled();
  EXPECT_EQ(StatusOf("m", 2).state, VersionState::kReady);
  EXPECT_EQ(serving_->ReadCanary("m")->problem, "the default version is not loaded");
  ASSERT_TRUE(serving_->WaitUntilReady("m", 1, kWait).ok());
  EXPECT_EQ(client_->Ask("m", "", GateInputs()).version, 2);
}

TEST_F(VersionsTest, AModelThatIsLazyNoMoreIsLoaded) {
  Start();
  DesiredModel model = Lazy("m", Gated(1));
  serving_->SetDesired({model});
  AwaitSettled();
  EXPECT_EQ(gate_.Models(), 0);
  model.config.lazy = false;
  serving_->SetDesired({model});
  AwaitSettled();
  EXPECT_EQ(StatusOf("m", 1).state, VersionState::kReady);
}

TEST_F(VersionsTest, ChangedSettingsAreTakenOverWithoutOneFailure) {
  Start();
  DesiredModel model = Model("m", {Echo(1)}, 1);
  Serve({model});
  std::atomic<bool> stop{false};
  std::atomic<int> failed{0}, served{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      Client client(serving_.get());
      while (!stop) {
        ++(client.Ask("m", "", EchoInputs()).status.ok() ? served : failed);
        // As a door's thread does: it may be counted on for what waits for the version before.
        serving_->work()->RunOne();
      }
    });
  }
  for (int limit = 100; limit < 110; ++limit) {
    model.config.queue_limit = limit;
    model.config.instances = 1 + limit % 3;
    serving_->SetDesired({model});
    AwaitSettled();
    EXPECT_EQ((*serving_->Find("m", ""))->config().queue_limit, limit);
    const int before = served;
    while (served < before + 10 && failed == 0) std::this_thread::yield();
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failed, 0);
}

TEST_F(VersionsTest, SettingsThatCameWhileAVersionWasNotWantedAreInForceWhenItIsAgain) {
  Start();
  DesiredModel model = Model("m", {Gated(1)}, 1);
  Serve({model});
  DesiredModel changed = model;
  changed.config.queue_limit = 77;
  gate_.Hold(true);
  serving_->SetDesired({changed});
  // Kept, because requests still go there, but what it is loaded anew for is not wanted.
  serving_->SetDesired({Model("m", {Gated(2)}, 2)});
  serving_->SetDesired({changed});
  gate_.Hold(false);
  AwaitSettled();
  EXPECT_EQ((*serving_->Find("m", ""))->config().queue_limit, 77);
}

TEST_F(VersionsTest, SettingsThatALoadedVersionDoesNotWorkByReloadNothing) {
  Start();
  DesiredModel model = Model("m", {Gated(1)}, 1);
  Serve({model});
  const LoadedVersion* before = serving_->Find("m", "")->get();
  model.config.canary.min_requests = 7;
  model.config.versions = "latest:3";
  model.config.approval = true;
  model.config.lazy = true;
  serving_->SetDesired({model});
  AwaitSettled();
  EXPECT_EQ(serving_->Find("m", "")->get(), before);
}

TEST_F(VersionsTest, MemoryOfAllInstancesIsReserved) {
  Start(3500);
  DesiredModel model = Model("m", {Gated(1)}, 1);
  model.config.instances = 3;
  Serve({model});
  EXPECT_EQ(StatusOf("m", 1).memory_bytes, 3000);
  model.name = "n";
  model.config.instances = 4;
  model.versions = {Gated(2)};
  serving_->SetDesired({model});
  EXPECT_THAT(std::string(serving_->WaitUntilReady("n", 2, kWait).message()), HasSubstr("needs 4.0 kB of memory"));
}

TEST_F(VersionsTest, WhatTakesOverBeginsWithAsManyInstancesWhereMemoryAllows) {
  Start();
  DesiredModel model = Model("m", {Gated(1)}, 1);
  model.config.max_instances = 2;
  Serve({model});
  while (StatusOf("m", 1).memory_bytes != 2000) {  // a request that waited makes it grow
    gate_.Hold(true);
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i) {
      threads.emplace_back([&] {
        Client client(serving_.get());
        EXPECT_TRUE(client.Ask("m", "", GateInputs()).status.ok());
        serving_->work()->RunOne();  // as a door's thread: it may be counted on for the other
      });
    }
    auto under_way = [&] { return serving_->Loads().at(0).busy + serving_->Loads().at(0).waiting; };
    while (under_way() < 2) std::this_thread::yield();
    gate_.Hold(false);
    for (std::thread& thread : threads) thread.join();
  }
  model.versions = {Gated(2)};
  model.default_version = 2;
  Serve({model});
  EXPECT_EQ(StatusOf("m", 2).memory_bytes, 2000);
  serving_->SetMemoryLimit(3500);
  model.versions = {Gated(3)};
  model.default_version = 3;
  Serve({model});
  EXPECT_EQ(StatusOf("m", 3).memory_bytes, 1000);
}

TEST_F(VersionsTest, AThousandLazyModelsCostLittle) {
  Start();
  Serve({Model("m0", {Echo(1)}, 1)});
  const DesiredVersion version = Echo(1);
  std::vector<DesiredModel> models;
  for (int i = 0; i < 1000; ++i) models.push_back(Lazy(StrCat("m", i), version));
  for (int round = 0; round < 3; ++round) serving_->SetDesired(models);
  AwaitSettled();
  EXPECT_EQ(serving_->States().size(), 1000u);
  EXPECT_THAT(Loaded(), ElementsAre("m0"));
  for (int i = 1; i < 1000; i += 100) {
    Answer answer = client_->Ask(StrCat("m", i), "", EchoInputs());
    EXPECT_TRUE(answer.status.ok()) << answer.status;
  }
  EXPECT_EQ(Loaded().size(), 11u);
}

}  // namespace
}  // namespace tandem::serving
