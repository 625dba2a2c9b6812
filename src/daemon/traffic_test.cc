// Which versions are served, and which of them requests get: the catalogue, canaries, approvals, configurations.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <future>

#include "base/status.h"
#include "daemon/canary_watch.h"
#include "daemon/deployer.h"
#include "daemon/model_catalog.h"
#include "daemon/models_service.h"
#include "daemon/testing/fake_serving.h"

namespace tandem::daemon {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using Code = absl::StatusCode;

class TrafficTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) / StrCat("tandem_traffic_", getpid());
    fs::remove_all(folder_);
    store_ = *storage::Store::Open(folder_ / "tandem.db", registry::Migrations());
    artifacts_ = *storage::ArtifactStore::Open(folder_ / "artifacts");
    registry_ = *registry::Registry::Open(store_.get(), &clock_);
    catalog_ = std::make_unique<ModelCatalog>(registry_.get(), artifacts_.get(), CatalogSettings{});
    catalog_->AttachServing(&serving_);
    service_ = std::make_unique<ModelsService>(registry_.get(), artifacts_.get(), nullptr, catalog_.get(), &serving_,
                                               nullptr, nullptr, nullptr, Paths{folder_}, /*usable_cpus=*/2);
    sha256_ = artifacts_->PutBytes("a model").value().sha256;
  }
  void TearDown() override { fs::remove_all(folder_); }

  // Versions 1 to `count` of model "m"; champion is `champion`.
  void AddVersions(int count, int32_t champion) {
    registry::Version version;
    version.model = "m";
    version.sha256 = sha256_;
    for (int i = 0; i < count; ++i) ASSERT_TRUE(registry_->AddVersion(version).ok());
    ASSERT_TRUE(catalog_->MoveAlias("m", "champion", champion, "me", "first").ok());
  }
  absl::StatusOr<wire::TrafficSplit> Canary(int32_t version, double percent) {
    wire::SplitRequest request;
    request.set_model("m");
    request.set_version(version);
    request.set_percent(percent);
    return service_->SetCanary(me_, request);
  }
  absl::StatusOr<wire::ModelVersion> Deploy(int32_t version) {
    wire::DeployRequest request;
    request.set_model("m");
    request.set_version(version);
    return service_->Deploy(me_, request);
  }
  absl::StatusOr<wire::ModelVersion> Promote(int32_t version) {
    wire::PromoteRequest request;
    request.set_model("m");
    request.set_version(version);
    return service_->Promote(me_, request);
  }
  absl::StatusOr<wire::ModelVersion> Approve(int32_t version, bool approved) {
    wire::ApproveRequest request;
    request.set_model("m");
    request.set_version(version);
    request.set_comment("seen");
    return service_->Approve(me_, request, approved);
  }
  absl::StatusOr<wire::ServingConfig> Set(const std::vector<std::string>& overrides) {
    wire::ConfigureRequest request;
    request.set_model("m");
    for (const std::string& one : overrides) request.add_overrides(one);
    return service_->Configure(me_, request);
  }
  int32_t Champion() { return registry_->Get("m")->aliases["champion"]; }
  std::string LastEvent() {
    std::vector<wire::ModelEvent> events = registry_->Events("m");
    return events.empty() ? "" : StrCat(events[0].kind(), " ", events[0].version(), ": ", events[0].text());
  }
  // 1,000 requests each; the canary fails this often.
  void Observe(int32_t canary, uint64_t failures) {
    serving::CanaryReport& report = serving_.canaries["m"];
    report.champion = {.version = 1, .requests = 1000, .failures = 0, .p99_us = 1000};
    report.canary = {.version = canary, .requests = 1000, .failures = failures, .p99_us = 1000};
  }

  const api::Caller me_{.name = "me"};
  fs::path folder_;
  FakeClock clock_;
  testing::FakeServing serving_;
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<storage::ArtifactStore> artifacts_;
  std::unique_ptr<registry::Registry> registry_;
  std::unique_ptr<ModelCatalog> catalog_;
  std::unique_ptr<ModelsService> service_;
  std::string sha256_;
};

TEST_F(TrafficTest, TheVersionsKeyPicksWhatIsServedBesideAliases) {
  AddVersions(5, 2);
  EXPECT_THAT(serving_.Served("m"), ElementsAre(2));
  ASSERT_TRUE(Set({"versions=latest:2"}).ok());
  EXPECT_THAT(serving_.Served("m"), ElementsAre(2, 4, 5));
  EXPECT_EQ(serving_.Desired("m")->default_version, 2);
  ASSERT_TRUE(Set({"versions=all"}).ok());
  EXPECT_THAT(serving_.Served("m"), ElementsAre(1, 2, 3, 4, 5));
  ASSERT_TRUE(Set({"versions=[1, 9]"}).ok());
  EXPECT_THAT(serving_.Served("m"), ElementsAre(1, 2));
}

TEST_F(TrafficTest, WithoutAChampionTheNewestVersionOfThePolicyIsTheDefault) {
  AddVersions(3, 1);
  ASSERT_TRUE(catalog_->MoveAlias("m", "champion", 0, "me", "").ok());
  EXPECT_EQ(serving_.Desired("m"), nullptr);
  ASSERT_TRUE(Set({"versions=latest:2"}).ok());
  EXPECT_EQ(serving_.Desired("m")->default_version, 3);
}

TEST_F(TrafficTest, WhatSomebodyElseLoadsStaysLoadedWhenACanaryIsRefusedOrEnds) {
  AddVersions(2, 1);
  ASSERT_TRUE(catalog_->LoadCandidate("m", 2).ok());  // as the deploy rule does
  EXPECT_FALSE(Canary(2, 200).ok());
  EXPECT_THAT(serving_.Served("m"), ElementsAre(1, 2));
  ASSERT_TRUE(Canary(2, 10).ok());
  ASSERT_TRUE(Canary(2, 0).ok());
  EXPECT_THAT(serving_.Served("m"), ElementsAre(1, 2));
  catalog_->DropCandidate("m", 2);
  EXPECT_THAT(serving_.Served("m"), ElementsAre(1));
}

TEST_F(TrafficTest, AConfigurationReachesServingAtOnce) {
  AddVersions(1, 1);
  ASSERT_TRUE(Set({"max_batch_size=8", "slo_ms=5"}).ok());
  EXPECT_EQ(serving_.Desired("m")->config.max_batch_size, 8);
  EXPECT_EQ(catalog_->SloOf("m", 10), 5);
  EXPECT_EQ(catalog_->SloOf("n", 10), 10);
  wire::ServingConfig config = Set({"threads=2"}).value();
  EXPECT_EQ(config.text(), "threads: 2\nmax_batch_size: 8\nslo_ms: 5\n");
  EXPECT_EQ(config.who(), "me");
  EXPECT_EQ(serving_.Desired("m")->config.threads, 2);
  EXPECT_EQ(Set({"max_batch_size="})->text(), "threads: 2\nslo_ms: 5\n");
}

TEST_F(TrafficTest, AWrongConfigurationChangesNothing) {
  AddVersions(1, 1);
  ASSERT_TRUE(Set({"threads=2"}).ok());
  EXPECT_THAT(MessageOf(Set({"thread=4"}).status()), HasSubstr("did you mean 'threads'?"));
  EXPECT_EQ(Set({}).status().code(), Code::kInvalidArgument);
  EXPECT_THAT(MessageOf(Set({"engine=no_such_engine"}).status()), HasSubstr("no_such_engine"));
  EXPECT_EQ(service_->Config("m")->text(), "threads: 2\n");
  wire::ConfigureRequest whole;
  whole.set_model("m");
  whole.set_replace(true);
  EXPECT_EQ(service_->Configure(me_, whole)->text(), "");
  whole.set_model("n");
  EXPECT_EQ(service_->Configure(me_, whole).status().code(), Code::kNotFound);
}

TEST_F(TrafficTest, LabelsAreOfOutputsThatAVersionInServiceHas) {
  AddVersions(1, 1);
  ASSERT_TRUE(Set({"labels.y=[shirt, boot]"}).ok());
  const absl::Status refused = Set({"labels.z=[shirt, boot]"}).status();
  EXPECT_EQ(refused.code(), Code::kInvalidArgument);
  EXPECT_EQ(
      MessageOf(refused),
      "configuration of 'm': labels names the output 'z', which no version in service has (1); there is y; rename "
      "it, or take it out of labels; did you mean 'y'?");
  EXPECT_THAT(serving_.Desired("m")->config.labels, ElementsAre(Pair("y", ElementsAre("shirt", "boot"))));
}

TEST_F(TrafficTest, WhatNoVersionInServiceCouldTellOfIsAccepted) {
  AddVersions(1, 1);
  ASSERT_TRUE(catalog_->MoveAlias("m", "champion", 0, "me", "").ok());
  ASSERT_TRUE(serving_.ReadyVersions("m").empty());
  EXPECT_TRUE(Set({"labels.z=[shirt, boot]"}).ok());
}

TEST_F(TrafficTest, AModelGetsNoMoreThreadsThanTheCpusCouldEverRun) {
  AddVersions(1, 1);
  ASSERT_TRUE(Set({"threads=2", "instances=8"}).ok());  // the two CPUs eight times
  EXPECT_EQ(MessageOf(Set({"instances=9"}).status()),
            "configuration of 'm': instances is 9 of 2 threads each, but there are 2 usable CPUs, for which at most 16 "
            "threads of one model are taken; give 1, or 0 for as many as help");
  EXPECT_THAT(MessageOf(Set({"instances=0", "threads=1", "max_instances=17"}).status()),
              HasSubstr("max_instances is 17 of 1 thread each"));
  EXPECT_EQ(MessageOf(Set({"threads=17"}).status()),
            "configuration of 'm': threads is 17, but there are 2 usable CPUs, for which at most 16 threads of one "
            "model are taken; give 2 or less");
  EXPECT_EQ(service_->Config("m")->text(), "instances: 8\nthreads: 2\n");
}

TEST_F(TrafficTest, TheEngineIsTheConfiguredElseTheMeasuredElseTheServers) {
  AddVersions(1, 1);
  EXPECT_EQ(serving_.Desired("m")->versions[0].engine, "openvino");
  ASSERT_TRUE(registry_->SetEngineReport("m", 1, R"({"chosen": "onnxruntime", "engines": []})").ok());
  catalog_->Sync();
  EXPECT_EQ(serving_.Desired("m")->versions[0].engine, "onnxruntime");
  ASSERT_TRUE(Set({"engine=torch", "isolation=process", "device=GPU"}).ok());
  EXPECT_EQ(serving_.Desired("m")->versions[0].engine, "torch");
  EXPECT_EQ(serving_.Desired("m")->versions[0].options.device, "GPU");
}

TEST_F(TrafficTest, ACanaryIsLoadedBesideTheChampion) {
  AddVersions(3, 1);
  wire::TrafficSplit split = Canary(2, 10).value();
  EXPECT_EQ(split.canary(), 2);
  EXPECT_EQ(split.canary_percent(), 10);
  const serving::DesiredModel& desired = *serving_.Desired("m");
  EXPECT_THAT(serving_.Served("m"), ElementsAre(1, 2));
  EXPECT_EQ(desired.default_version, 1);
  EXPECT_EQ(desired.split.canary, 2);
  EXPECT_EQ(desired.split.canary_percent, 10);
  EXPECT_EQ(Canary(0, 50)->canary_percent(), 50);  // of the one that there is
  EXPECT_EQ(Canary(0, 0)->canary(), 0);
  EXPECT_THAT(serving_.Served("m"), ElementsAre(1));
  EXPECT_EQ(Canary(0, 0).status().code(), Code::kFailedPrecondition);
  EXPECT_THAT(MessageOf(Canary(0, 10).status()), HasSubstr("say which version"));
}

TEST_F(TrafficTest, ACanaryThatCannotStandInIsRefusedAndUnloaded) {
  AddVersions(3, 1);
  serving_.wide = {2};
  EXPECT_EQ(MessageOf(Canary(2, 10).status()),
            "version 2 cannot stand in for champion, version 1: its output 0 is 'y' FP32 [-1,12], champion's is 'y' "
            "FP32 [-1,10]");
  serving_.broken = {3};
  EXPECT_THAT(MessageOf(Canary(3, 10).status()), HasSubstr("does not load"));
  EXPECT_EQ(Canary(2, 101).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(Canary(7, 10).status().code(), Code::kNotFound);
  EXPECT_THAT(serving_.Served("m"), ElementsAre(1));
  EXPECT_THAT(registry_->Events("m"), IsEmpty());
}

TEST_F(TrafficTest, AShadowIsServedAndShown) {
  AddVersions(2, 1);
  wire::SplitRequest request;
  request.set_model("m");
  request.set_version(2);
  request.set_percent(25);
  EXPECT_EQ(service_->SetShadow(me_, request)->shadow(), 2);
  EXPECT_EQ(serving_.Desired("m")->split.shadow, 2);
  EXPECT_EQ(serving_.Desired("m")->split.shadow_percent, 25);
  EXPECT_EQ(service_->Show("m")->split().shadow_percent(), 25);
}

TEST_F(TrafficTest, PromotingTheCanaryMakesItChampionAndEndsTheSplit) {
  AddVersions(2, 1);
  EXPECT_THAT(MessageOf(Promote(0).status()), HasSubstr("has no canary"));
  ASSERT_TRUE(Canary(2, 10).ok());
  EXPECT_EQ(Promote(0)->version(), 2);
  EXPECT_EQ(Champion(), 2);
  EXPECT_EQ(serving_.Desired("m")->split.canary, 0);
  EXPECT_EQ(registry_->History("m")[0].why(), "canary promoted");
  EXPECT_THAT(catalog_->Canaries(), IsEmpty());
  ASSERT_TRUE(service_->RollBack(me_, "m").ok());
  EXPECT_EQ(Champion(), 1);
}

TEST_F(TrafficTest, ARollBackToAVersionThatDoesNotLoadMovesNothing) {
  AddVersions(2, 1);
  ASSERT_TRUE(Deploy(2).ok());
  serving_.broken = {1};
  const size_t moves = registry_->History("m").size();
  EXPECT_THAT(MessageOf(service_->RollBack(me_, "m").status()), HasSubstr("version 1 does not load"));
  EXPECT_EQ(Champion(), 2);
  EXPECT_EQ(serving_.Desired("m")->default_version, 2);
  EXPECT_EQ(registry_->History("m").size(), moves);
  serving_.broken.clear();
  EXPECT_EQ(service_->RollBack(me_, "m")->version(), 1);
  EXPECT_EQ(Champion(), 1);
  EXPECT_EQ(serving_.Desired("m")->default_version, 1);
  EXPECT_EQ(service_->RollBack(me_, "m").status().code(), Code::kFailedPrecondition) << "nothing is before it";
}

TEST_F(TrafficTest, ARollBackLoadsAVersionOfBeforeTheFormer) {
  AddVersions(3, 1);
  ASSERT_TRUE(Deploy(2).ok());
  ASSERT_TRUE(Deploy(3).ok());
  EXPECT_THAT(serving_.Served("m"), ElementsAre(2, 3));
  ASSERT_TRUE(service_->RollBack(me_, "m").ok());
  ASSERT_TRUE(service_->RollBack(me_, "m").ok());
  EXPECT_EQ(Champion(), 1);
  EXPECT_THAT(serving_.Served("m"), ElementsAre(1, 2)) << "with the one before the last move";
}

TEST_F(TrafficTest, ARollBackOfAnUnloadedModelServesIt) {
  AddVersions(2, 1);
  ASSERT_TRUE(Deploy(2).ok());
  ASSERT_TRUE(service_->SetEnabled(me_, "m", false).ok());
  EXPECT_EQ(serving_.Desired("m"), nullptr);
  ASSERT_TRUE(service_->RollBack(me_, "m").ok());
  ASSERT_NE(serving_.Desired("m"), nullptr);
  EXPECT_EQ(serving_.Desired("m")->default_version, 1);
}

TEST_F(TrafficTest, AnUnloadedModelHasNoCanaryInService) {
  AddVersions(2, 1);
  ASSERT_TRUE(Canary(2, 10).ok());
  ASSERT_TRUE(service_->SetEnabled(me_, "m", false).ok());
  EXPECT_EQ(serving_.Desired("m"), nullptr);
  EXPECT_THAT(catalog_->Canaries(), IsEmpty());
}

TEST_F(TrafficTest, ALoadMayBringTheConfigurationWithIt) {
  AddVersions(2, 1);
  ASSERT_TRUE(service_->SetEnabled(me_, "m", false).ok());
  spec::ModelConfig config;
  config.max_batch_size = 8;
  ASSERT_TRUE(service_->LoadWithOverride(me_, "m", config, {}).ok());
  EXPECT_EQ(serving_.Desired("m")->config.max_batch_size, 8);
  EXPECT_EQ(service_->Config("m")->text(), "max_batch_size: 8\n");
  EXPECT_EQ(service_->LoadWithOverride(me_, "n", config, {}).code(), Code::kNotFound);
}

TEST_F(TrafficTest, FilesOfALoadMustLieInTheFolderOfAVersion) {
  auto load = [&](const std::map<std::string, std::string>& files) {
    return service_->LoadWithOverride(me_, "m", {}, files);
  };
  for (const char* path : {"model.onnx", "x/model.onnx", "0/model.onnx", "1/../../m.onnx", "1/", "/etc/model.onnx"}) {
    EXPECT_THAT(MessageOf(load({{path, "bytes"}})), HasSubstr("does not lie in the folder of a version")) << path;
  }
  EXPECT_THAT(MessageOf(load({{"1/weights.bin", "bytes"}})), HasSubstr("none of the files is an ONNX file"));
  EXPECT_THAT(MessageOf(load({{"1/a.onnx", "bytes"}, {"1/b.onnx", "bytes"}})), HasSubstr("one ONNX file a version"));
  EXPECT_FALSE(fs::exists(folder_ / "run")) << "something was written";
}

TEST_F(TrafficTest, ACanaryOutOfItsBoundsIsRolledBackWithTheReason) {
  AddVersions(2, 1);
  ASSERT_TRUE(Set({"canary.max_error_rate=5%"}).ok());
  ASSERT_TRUE(Canary(2, 10).ok());
  CanaryWatch watch(catalog_.get(), &serving_);
  watch.Step();  // no figures yet
  Observe(2, 20);
  watch.Step();
  EXPECT_EQ(serving_.Desired("m")->split.canary, 2);
  Observe(2, 200);
  watch.Step();
  EXPECT_EQ(serving_.Desired("m")->split.canary, 0);
  EXPECT_THAT(serving_.Served("m"), ElementsAre(1));
  EXPECT_EQ(Champion(), 1);
  EXPECT_THAT(LastEvent(), HasSubstr("canary 2: rolled back: "));
  EXPECT_EQ(registry_->Events("m")[0].who(), "tandem");
  size_t events = registry_->Events("m").size();
  watch.Step();
  EXPECT_EQ(registry_->Events("m").size(), events);
}

TEST_F(TrafficTest, FiguresOfTheCanaryBeforeDoNotCount) {
  AddVersions(3, 1);
  ASSERT_TRUE(Canary(3, 10).ok());
  Observe(2, 900);
  CanaryWatch(catalog_.get(), &serving_).Step();
  EXPECT_EQ(serving_.Desired("m")->split.canary, 3);
}

TEST_F(TrafficTest, ChampionDoesNotMoveWithoutTheApprovalThatTheModelAsksFor) {
  AddVersions(3, 1);
  ASSERT_TRUE(Set({"approval=true"}).ok());
  EXPECT_EQ(MessageOf(Deploy(2).status()),
            "model 'm' version 2 needs an operator's approval before it becomes champion: tandem models approve m 2 "
            "--comment '...'");
  EXPECT_EQ(Promote(2).status().code(), Code::kFailedPrecondition);
  EXPECT_EQ(catalog_->MoveAlias("m", "champion", 2, "me", "").code(), Code::kFailedPrecondition);
  EXPECT_TRUE(catalog_->MoveAlias("m", "other", 2, "me", "").ok());
  EXPECT_EQ(Champion(), 1);
  EXPECT_TRUE(Deploy(1).ok());  // serves already
  EXPECT_EQ(Approve(2, true)->approval_comment(), "seen");
  EXPECT_EQ(Champion(), 1);  // nothing waited for it
  EXPECT_TRUE(Deploy(2).ok());
  EXPECT_EQ(Champion(), 2);
  EXPECT_TRUE(service_->RollBack(me_, "m").ok());  // back to what served before
  ASSERT_TRUE(Approve(3, false).ok());
  EXPECT_THAT(MessageOf(Deploy(3).status()), HasSubstr("was rejected by me: seen"));
}

TEST_F(TrafficTest, TheDeployRuleOfAJobLeavesItsVersionToTheOperator) {
  AddVersions(1, 1);
  ASSERT_TRUE(Set({"approval=true"}).ok());
  registry::Version made;
  made.model = "m";
  made.sha256 = sha256_;
  made.job = 3;
  made.deploy = "pending";
  made.promote_json = ToJson(DeployRule{.alias = "champion"});
  ASSERT_TRUE(registry_->AddVersion(made).ok());
  std::promise<int32_t> changed;
  {
    Deployer deployer({.registry = registry_.get(),
                       .catalog = catalog_.get(),
                       .serving = &serving_,
                       .isolation = nullptr,
                       .log_folder = folder_.string(),
                       .on_change = [&](int32_t job) { changed.set_value(job); }});
    EXPECT_EQ(changed.get_future().get(), 3);
  }
  registry::Version left = registry_->GetVersion("m", 2).value();
  EXPECT_EQ(left.deploy, "awaiting_approval");
  EXPECT_THAT(left.deploy_reason, HasSubstr("tandem models approve m 2 --comment"));
  EXPECT_EQ(left.approval, "pending");
  EXPECT_EQ(Champion(), 1);
  EXPECT_EQ(registry_->Get("m")->aliases["challenger"], 2);
  EXPECT_EQ(Approve(2, true)->deploy_reason(), "the job asks for no comparison; approved by me: seen");
  EXPECT_EQ(Champion(), 2);
}

TEST_F(TrafficTest, AnApprovalCompletesADeploymentThatWaitedForIt) {
  AddVersions(2, 1);
  ASSERT_TRUE(Set({"approval=true"}).ok());
  std::string lacking = catalog_->ApprovalLacking("m", 2).value();
  ASSERT_TRUE(registry_->SetApproval("m", 2, "pending", "job 3", "better").ok());
  ASSERT_TRUE(registry_->SetDeploy("m", 2, "awaiting_approval", StrCat("better; ", lacking)).ok());
  wire::ModelVersion version = Approve(2, true).value();
  EXPECT_EQ(Champion(), 2);
  EXPECT_EQ(version.deploy(), "promoted");
  EXPECT_EQ(version.deploy_reason(), "better; approved by me: seen");
  EXPECT_EQ(version.approval(), "approved");
}

TEST_F(TrafficTest, ARejectionKeepsTheOldChampion) {
  AddVersions(2, 1);
  ASSERT_TRUE(Set({"approval=true"}).ok());
  ASSERT_TRUE(registry_->SetDeploy("m", 2, "awaiting_approval", "better").ok());
  wire::ModelVersion version = Approve(2, false).value();
  EXPECT_EQ(Champion(), 1);
  EXPECT_EQ(version.deploy(), "kept");
  EXPECT_EQ(version.deploy_reason(), "better; rejected by me: seen");
}

}  // namespace
}  // namespace tandem::daemon
