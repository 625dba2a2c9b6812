#include "registry/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "base/status.h"
#include "registry/rollback.h"

namespace tandem::registry {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Code = absl::StatusCode;

class RegistryTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / StrCat("tandem_registry_", getpid());
    fs::remove_all(folder_);
    Reopen();
  }
  void TearDown() override {
    Close();
    fs::remove_all(folder_);
  }
  void Close() {
    registry_.reset();
    store_.reset();
  }
  void Reopen() {
    Close();
    store_ = *storage::Store::Open(folder_ / "tandem.db", Migrations());
    registry_ = *Registry::Open(store_.get(), &clock_);
  }

  static Version Make(std::string_view model, std::string_view sha = "aa") {
    Version version;
    version.model = model;
    version.sha256 = sha;
    version.bytes = 12;
    version.source = "import a.onnx";
    version.created_by = "me";
    return version;
  }
  int32_t Add(std::string_view model, std::string_view sha = "aa") {
    return registry_->AddVersion(Make(model, sha)).value().version;
  }
  void AddMany(std::string_view model, int count) {
    for (int i = 0; i < count; ++i) Add(model, StrCat("sha", i + 1));
  }
  absl::Status Champion(int32_t version) { return registry_->SetAlias("m", "champion", version, "me", "because"); }
  int32_t Champion() { return registry_->Resolve("m", "champion", 0).value().version; }

  fs::path folder_;
  FakeClock clock_;
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<Registry> registry_;
};

TEST_F(RegistryTest, NumbersVersionsWithinTheirModel) {
  EXPECT_EQ(Add("m"), 1);
  EXPECT_EQ(Add("m"), 2);
  EXPECT_EQ(Add("模型"), 1);
  std::vector<Model> models = registry_->List();
  ASSERT_EQ(models.size(), 2u);
  EXPECT_EQ(models[0].name, "m");
  EXPECT_EQ(models[0].versions.size(), 2u);
  EXPECT_EQ(models[0].created_ms, clock_.UnixMillis());
  EXPECT_EQ(registry_->AddVersion(Make("a/b")).status().code(), Code::kInvalidArgument);
}

TEST_F(RegistryTest, AVersionMayBringItsNumber) {
  Version version = Make("m");
  version.version = 7;
  EXPECT_EQ(registry_->AddNumberedVersion(version)->version, 7);
  version.version = 3;
  version.source = "repository /models/m/3";
  EXPECT_EQ(registry_->AddNumberedVersion(version)->version, 3);
  EXPECT_EQ(Add("m"), 8);
  std::vector<int32_t> numbers;
  Model model = *registry_->Get("m");
  for (const Version& one : model.versions) numbers.push_back(one.version);
  EXPECT_THAT(numbers, ElementsAre(3, 7, 8));
  absl::Status again = registry_->AddNumberedVersion(version).status();
  EXPECT_EQ(again.code(), Code::kAlreadyExists);
  EXPECT_EQ(MessageOf(again), "model 'm' has a version 3 already (repository /models/m/3)");
  ASSERT_TRUE(registry_->DeleteVersion("m", 3).ok());
  EXPECT_TRUE(registry_->AddNumberedVersion(version).ok());
  version.version = 0;
  EXPECT_EQ(registry_->AddNumberedVersion(version).status().code(), Code::kInvalidArgument);
}

TEST_F(RegistryTest, OtherContentUnderANumberLosesWhatWasSaidOfTheFormer) {
  Add("m", "old");
  ASSERT_TRUE(registry_->SetMetrics("m", 1, R"({"accuracy":0.5})").ok());
  ASSERT_TRUE(registry_->SetApproval("m", 1, "approved", "me", "good").ok());
  ASSERT_TRUE(registry_->SetQuarantine("m", 1, true, "it crashed").ok());
  ASSERT_TRUE(registry_->SetEngineReport("m", 1, R"({"chosen":"openvino"})").ok());
  ASSERT_TRUE(registry_->SetWanted("m", 1, true).ok());
  ASSERT_TRUE(registry_->MarkLoaded("m", 1, "openvino").ok());
  ASSERT_TRUE(Champion(1).ok());
  clock_.AdvanceMillis(5);
  Version version = Make("m", "new");
  version.version = 1;
  ASSERT_TRUE(registry_->ReplaceVersion(version).ok());
  Version read = *registry_->GetVersion("m", 1);
  EXPECT_EQ(read.sha256, "new");
  EXPECT_EQ(read.created_ms, clock_.UnixMillis());
  EXPECT_EQ(read.metrics_json, "{}");
  EXPECT_EQ(read.approval, "");
  EXPECT_EQ(read.engine_report, "");
  EXPECT_EQ(read.served_engine, "");
  EXPECT_FALSE(read.quarantined);
  EXPECT_TRUE(read.wanted);
  EXPECT_EQ(Champion(), 1);
  EXPECT_THAT(registry_->UsedArtifacts(), ElementsAre("new"));
  version.version = 2;
  EXPECT_EQ(registry_->ReplaceVersion(version).status().code(), Code::kNotFound);
}

TEST_F(RegistryTest, KeepsEveryFieldOverARestart) {
  Version version = Make("m", "ff");
  version.job = 3;
  version.attempt = 2;
  version.precision = "bf16";
  version.deploy = "pending";
  version.promote_json = R"({"alias":"champion"})";
  ASSERT_TRUE(registry_->AddVersion(version).ok());
  ASSERT_TRUE(registry_->SetMetrics("m", 1, R"({"accuracy":0.5})").ok());
  ASSERT_TRUE(registry_->SetDeploy("m", 1, "kept", "0.5 is not above 0.6").ok());
  ASSERT_TRUE(registry_->SetWanted("m", 1, true).ok());
  ASSERT_TRUE(registry_->SetQuarantine("m", 1, true, "unknown operator").ok());
  ASSERT_TRUE(registry_->SetEnabled("m", false).ok());
  Reopen();
  EXPECT_FALSE(registry_->Get("m")->enabled);
  Version read = *registry_->GetVersion("m", 1);
  EXPECT_EQ(read.sha256, "ff");
  EXPECT_EQ(read.bytes, 12);
  EXPECT_EQ(read.job, 3);
  EXPECT_EQ(read.attempt, 2);
  EXPECT_EQ(read.source, "import a.onnx");
  EXPECT_EQ(read.precision, "bf16");
  EXPECT_EQ(read.metrics_json, R"({"accuracy":0.5})");
  EXPECT_EQ(read.deploy, "kept");
  EXPECT_EQ(read.deploy_reason, "0.5 is not above 0.6");
  EXPECT_EQ(read.promote_json, R"({"alias":"champion"})");
  EXPECT_TRUE(read.wanted);
  EXPECT_TRUE(read.quarantined);
  EXPECT_EQ(read.load_error, "unknown operator");
}

TEST_F(RegistryTest, AnAttemptOfAJobMakesOneVersion) {
  Version version = Make("m");
  version.job = 3;
  version.attempt = 1;
  ASSERT_TRUE(registry_->AddVersion(version).ok());
  absl::Status again = registry_->AddVersion(version).status();
  EXPECT_EQ(again.code(), Code::kAlreadyExists);
  EXPECT_EQ(MessageOf(again), "attempt 1 of job 3 made version m/1 before");
  version.attempt = 2;
  EXPECT_EQ(registry_->AddVersion(version)->version, 2);
  EXPECT_EQ(registry_->Get("m")->versions.size(), 2u);
}

TEST_F(RegistryTest, AVersionOfARolledBackTransactionDoesNotExist) {
  EXPECT_FALSE(store_
                   ->Write([&](storage::Store::Transaction& t) {
                     EXPECT_TRUE(registry_->AddVersionInTransaction(t, Make("m")).ok());
                     return Aborted("the job could not be finished");
                   })
                   .ok());
  EXPECT_EQ(registry_->Get("m").status().code(), Code::kNotFound);
  EXPECT_EQ(Add("m"), 1);
}

TEST_F(RegistryTest, NamesTheNearestModelAliasAndVersion) {
  Add("fashion");
  EXPECT_EQ(MessageOf(registry_->Get("fashon").status()), "there is no model 'fashon'; did you mean 'fashion'?");
  EXPECT_THAT(MessageOf(registry_->Get("zzz").status()), HasSubstr("'tandem models list' shows all"));
  EXPECT_EQ(MessageOf(registry_->GetVersion("fashion", 7).status()),
            "model 'fashion' has no version 7; its newest are 1");
  EXPECT_THAT(MessageOf(registry_->Resolve("fashion", "best", 0).status()), HasSubstr("it has none"));
  ASSERT_TRUE(registry_->SetAlias("fashion", "champion", 1, "me", "").ok());
  EXPECT_THAT(MessageOf(registry_->Resolve("fashion", "champ1on", 0).status()), HasSubstr("did you mean 'champion'?"));
}

TEST_F(RegistryTest, ResolvesTheChampionElseTheNewest) {
  AddMany("m", 3);
  EXPECT_EQ(registry_->Resolve("m", "", 0)->version, 3);
  ASSERT_TRUE(Champion(2).ok());
  EXPECT_EQ(registry_->Resolve("m", "", 0)->version, 2);
  EXPECT_EQ(registry_->Resolve("m", "", 1)->version, 1);
  EXPECT_EQ(registry_->Resolve("m", "champion", 1).status().code(), Code::kInvalidArgument);
}

TEST_F(RegistryTest, KeepsEachAliasMoveForEver) {
  AddMany("m", 2);
  ASSERT_TRUE(Champion(1).ok());
  clock_.AdvanceMillis(10);
  ASSERT_TRUE(Champion(2).ok());
  ASSERT_TRUE(Champion(2).ok());
  ASSERT_TRUE(registry_->SetAlias("m", "champion", 0, "you", "no longer").ok());
  EXPECT_EQ(registry_->SetAlias("m", "champion", 0, "you", "").code(), Code::kNotFound);
  EXPECT_EQ(registry_->SetAlias("m", "champion", 9, "you", "").code(), Code::kNotFound);
  EXPECT_EQ(registry_->SetAlias("m", "a b", 1, "you", "").code(), Code::kInvalidArgument);
  EXPECT_EQ(registry_->SetAlias("m", "5", 1, "you", "").code(), Code::kInvalidArgument)
      << "requests read it as version 5";
  EXPECT_EQ(registry_->SetAlias("m", "5", 0, "you", "").code(), Code::kNotFound) << "an old one may go";
  ASSERT_TRUE(registry_->DeleteModel("m").ok());
  Reopen();
  std::vector<wire::AliasMove> history = registry_->History("m");
  ASSERT_EQ(history.size(), 3u);
  EXPECT_EQ(history[0].to(), 0);
  EXPECT_EQ(history[0].who(), "you");
  EXPECT_EQ(history[0].why(), "no longer");
  EXPECT_EQ(history[1].from(), 1);
  EXPECT_EQ(history[1].to(), 2);
  EXPECT_EQ(history[1].when_ms(), static_cast<double>(clock_.UnixMillis()));
  EXPECT_EQ(history[2].from(), 0);
  EXPECT_THAT(registry_->History("other"), IsEmpty());
}

TEST_F(RegistryTest, RollsBackStepByStepUntilNothingIsBefore) {
  AddMany("m", 4);
  EXPECT_EQ(registry_->RollBack("m", "champion", "me").status().code(), Code::kNotFound);
  EXPECT_EQ(registry_->FindRollBack("m", "champion").status().code(), Code::kNotFound);
  for (int32_t version : {1, 2, 3}) ASSERT_TRUE(Champion(version).ok());
  EXPECT_EQ(*registry_->FindRollBack("m", "champion"), 2);
  EXPECT_EQ(Champion(), 3) << "nothing moves";
  EXPECT_EQ(*registry_->RollBack("m", "champion", "me"), 2);
  EXPECT_EQ(Champion(), 2);
  Reopen();
  EXPECT_EQ(*registry_->RollBack("m", "", "me"), 1);
  EXPECT_THAT(MessageOf(registry_->RollBack("m", "", "me").status()), HasSubstr("nothing to roll back to"));
  ASSERT_TRUE(Champion(4).ok());
  EXPECT_EQ(*registry_->RollBack("m", "", "me"), 1);
  EXPECT_EQ(registry_->History("m")[0].why(), "rolled back from 4");
  EXPECT_EQ(registry_->RollBack("none", "", "me").status().code(), Code::kNotFound);
}

TEST_F(RegistryTest, RollsBackPastDeletedVersionsAndAfterARemoval) {
  AddMany("m", 3);
  for (int32_t version : {1, 2, 3}) ASSERT_TRUE(Champion(version).ok());
  ASSERT_TRUE(registry_->DeleteVersion("m", 2).ok());
  EXPECT_EQ(*registry_->RollBack("m", "", "me"), 1);
  ASSERT_TRUE(registry_->SetAlias("m", "champion", 0, "me", "").ok());
  EXPECT_EQ(*registry_->RollBack("m", "", "me"), 1);
  EXPECT_EQ(Champion(), 1);
  EXPECT_EQ(registry_->History("m")[0].why(), "rolled back") << "from no version";
}

TEST(RollBackTarget, ReadsTheHistoryLikeAnUndoList) {
  auto all = [](int32_t) { return true; };
  auto target = [&](const std::vector<Move>& moves) { return RollBackTarget(moves, all).value_or(-1); };
  EXPECT_EQ(target({}), -1);
  EXPECT_EQ(target({{1}}), -1);
  EXPECT_EQ(target({{1}, {2}}), 1);
  EXPECT_EQ(target({{1}, {2}, {1, true}}), -1);
  EXPECT_EQ(target({{1}, {2}, {3}, {2, true}}), 1);
  EXPECT_EQ(target({{1}, {2}, {1}}), 2);
  EXPECT_EQ(target({{1}, {2}, {1}, {2, true}}), 1);
  EXPECT_EQ(target({{1}, {2}, {1, true}, {3}}), 1);
  EXPECT_EQ(target({{1}, {0}, {2}}), 1);
  EXPECT_EQ(target({{1}, {2}, {0}}), 2);
  EXPECT_EQ(target({{5, true}}), -1);
  EXPECT_EQ(RollBackTarget({{1}, {2}, {3}}, [](int32_t v) { return v != 2; }), 1);
}

TEST_F(RegistryTest, QuarantinesWhatADeadDaemonWasLoading) {
  AddMany("m", 2);
  ASSERT_TRUE(registry_->MarkLoading("m", 1, "openvino").ok());
  ASSERT_TRUE(registry_->MarkLoading("m", 2, "openvino").ok());
  ASSERT_TRUE(registry_->MarkLoaded("m", 1, "openvino").ok());
  EXPECT_EQ(registry_->MarkLoading("m", 3, "openvino").code(), Code::kNotFound);
  EXPECT_EQ(registry_->MarkLoaded("m", 3, "").code(), Code::kNotFound);
  Reopen();
  EXPECT_THAT(registry_->QuarantinedAtOpen(), ElementsAre("m/2"));
  EXPECT_TRUE(registry_->GetVersion("m", 2)->quarantined);
  EXPECT_THAT(registry_->GetVersion("m", 2)->load_error, HasSubstr("while it was loading"));
  EXPECT_FALSE(registry_->GetVersion("m", 1)->quarantined);
  Reopen();
  EXPECT_THAT(registry_->QuarantinedAtOpen(), IsEmpty());
  EXPECT_TRUE(registry_->GetVersion("m", 2)->quarantined);
}

TEST_F(RegistryTest, WhatTheEngineThatServedItWasLoadingIsQuarantinedToo) {
  Add("m");
  ASSERT_TRUE(registry_->MarkLoaded("m", 1, "openvino").ok());
  ASSERT_TRUE(registry_->MarkLoading("m", 1, "openvino").ok());
  Reopen();
  EXPECT_THAT(registry_->QuarantinedAtOpen(), ElementsAre("m/1"));
  EXPECT_THAT(registry_->CutShortAtOpen(), IsEmpty());
}

TEST_F(RegistryTest, ALoadBesideWhatAnotherEngineServedIsToldAndNotQuarantined) {
  Add("m");
  ASSERT_TRUE(registry_->MarkLoading("m", 1, "openvino").ok());
  ASSERT_TRUE(registry_->MarkLoaded("m", 1, "openvino").ok());
  ASSERT_TRUE(registry_->MarkLoading("m", 1, "torch").ok());
  ASSERT_TRUE(registry_->MarkLoaded("m", 1, "").ok()) << "it failed";
  EXPECT_EQ(registry_->GetVersion("m", 1)->served_engine, "openvino");
  ASSERT_TRUE(registry_->MarkLoading("m", 1, "onnxruntime").ok());
  for (const char* daemon : {"that comes", "that died before it had settled it"}) {
    Reopen();
    EXPECT_THAT(registry_->QuarantinedAtOpen(), IsEmpty()) << daemon;
    ASSERT_EQ(registry_->CutShortAtOpen().size(), 1u) << daemon;
    const CutShortLoad load = registry_->CutShortAtOpen()[0];
    EXPECT_EQ(load.model, "m");
    EXPECT_EQ(load.version, 1);
    EXPECT_EQ(load.engine, "onnxruntime");
    EXPECT_EQ(load.former, "openvino");
    EXPECT_FALSE(registry_->GetVersion("m", 1)->quarantined);
  }
  ASSERT_TRUE(registry_->MarkLoaded("m", 1, "").ok());
  Reopen();
  EXPECT_THAT(registry_->CutShortAtOpen(), IsEmpty());
  EXPECT_EQ(registry_->GetVersion("m", 1)->served_engine, "openvino");
}

TEST_F(RegistryTest, RefusesToDeleteWhatIsInUseSayingByWhom) {
  AddMany("m", 3);
  ASSERT_TRUE(Champion(1).ok());
  ASSERT_TRUE(registry_->SetWanted("m", 2, true).ok());
  EXPECT_EQ(MessageOf(registry_->DeleteVersion("m", 1)),
            "model 'm' version 1 is in use: alias 'champion' points to it; move or remove the alias first");
  EXPECT_THAT(MessageOf(registry_->DeleteVersion("m", 2)), HasSubstr("deployed by hand"));
  EXPECT_EQ(registry_->DeleteModel("m").code(), Code::kFailedPrecondition);
  EXPECT_EQ(registry_->Get("m")->versions.size(), 3u);
  EXPECT_TRUE(registry_->DeleteVersion("m", 3).ok());
  EXPECT_EQ(registry_->DeleteVersion("m", 3).code(), Code::kNotFound);
}

TEST_F(RegistryTest, NeverUsesAVersionNumberAgain) {
  AddMany("m", 3);
  ASSERT_TRUE(registry_->DeleteVersion("m", 3).ok());
  EXPECT_EQ(Add("m"), 4);
  ASSERT_TRUE(registry_->DeleteModel("m").ok());
  EXPECT_EQ(registry_->Get("m").status().code(), Code::kNotFound);
  Reopen();
  EXPECT_EQ(Add("m"), 5);
}

TEST_F(RegistryTest, AModelEndsWithItsLastVersion) {
  Add("m");
  ASSERT_TRUE(registry_->DeleteVersion("m", 1).ok());
  EXPECT_THAT(registry_->List(), IsEmpty());
}

TEST_F(RegistryTest, TellsWhichArtifactsAreUsed) {
  Add("a", "11");
  Add("b", "11");
  Add("b", "22");
  EXPECT_THAT(registry_->UsedArtifacts(), ElementsAre("11", "22"));
  ASSERT_TRUE(registry_->DeleteVersion("b", 2).ok());
  EXPECT_THAT(registry_->UsedArtifacts(), ElementsAre("11"));
}

// An empty answer would unload the models and let their files be removed.
TEST_F(RegistryTest, AnUnreadableStoreDoesNotLookEmpty) {
  Add("m", "11");
  EXPECT_EQ(registry_->List().size(), 1u);
  ASSERT_TRUE(
      store_->Write([](storage::Store::Transaction& t) { return t.Execute("ALTER TABLE models RENAME TO x"); }).ok());
  EXPECT_EQ(registry_->List().size(), 1u);
  EXPECT_THAT(registry_->UsedArtifacts(), ElementsAre("11"));
  EXPECT_FALSE(registry_->Get("m").ok());
}

TEST_F(RegistryTest, KeepsDatasets) {
  wire::Dataset dataset;
  dataset.set_name("fashion");
  dataset.set_path("/data/ünï");
  dataset.set_classes(10);
  dataset.add_class_names("T-shirt");
  dataset.add_shape(1);
  dataset.set_bytes(1e12);
  ASSERT_TRUE(registry_->AddDataset(dataset).ok());
  EXPECT_EQ(registry_->AddDataset(dataset).code(), Code::kAlreadyExists);
  Reopen();
  wire::Dataset read = *registry_->GetDataset("fashion");
  EXPECT_EQ(read.path(), "/data/ünï");
  EXPECT_EQ(read.class_names(0), "T-shirt");
  EXPECT_EQ(read.bytes(), 1e12);
  EXPECT_EQ(read.created_ms(), static_cast<double>(clock_.UnixMillis()));
  EXPECT_THAT(MessageOf(registry_->GetDataset("fasion").status()), HasSubstr("did you mean 'fashion'?"));
  EXPECT_EQ(registry_->ListDatasets().size(), 1u);
  ASSERT_TRUE(registry_->MoveDataset("fashion", "/elsewhere").ok());
  EXPECT_EQ(registry_->MoveDataset("none", "/elsewhere").code(), Code::kNotFound);
  Reopen();
  read.set_path("/elsewhere");
  EXPECT_EQ(registry_->GetDataset("fashion")->SerializeAsString(), read.SerializeAsString());
  EXPECT_TRUE(registry_->DeleteDataset("fashion").ok());
  EXPECT_EQ(registry_->DeleteDataset("fashion").code(), Code::kNotFound);
  dataset.set_name("../x");
  EXPECT_EQ(registry_->AddDataset(dataset).code(), Code::kInvalidArgument);
}

TEST_F(RegistryTest, IsSafeForManyThreads) {
  Add("m");
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 4; ++i) {
        int32_t version = Add("m");
        EXPECT_TRUE(Champion(version).ok());
        EXPECT_TRUE(registry_->Resolve("m", "", 0).ok());
        EXPECT_FALSE(registry_->List().empty());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(registry_->Get("m")->versions.size(), 13u);
  std::vector<wire::AliasMove> history = registry_->History("m");
  ASSERT_EQ(history.size(), 12u);
  for (size_t i = 0; i + 1 < history.size(); ++i) EXPECT_EQ(history[i].from(), history[i + 1].to());
}

// Versions and alias moves that the child was told to be done are there after SIGKILL.
TEST_F(RegistryTest, WhatWasAcknowledgedSurvivesAKill) {
  Close();
  int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    Reopen();
    while (true) {
      int32_t version = Add("m");
      if (!Champion(version).ok() || write(fds[1], &version, sizeof version) != sizeof version) _exit(1);
    }
  }
  close(fds[1]);
  int32_t version = 0, last = 0;
  while (last < 5 && read(fds[0], &version, sizeof version) == sizeof version) last = version;
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  while (read(fds[0], &version, sizeof version) == sizeof version) last = version;
  close(fds[0]);
  Reopen();
  EXPECT_GE(last, 5);
  EXPECT_GE(Champion(), last);
  EXPECT_EQ(static_cast<int32_t>(registry_->History("m").size()), Champion());
}

}  // namespace
}  // namespace tandem::registry
