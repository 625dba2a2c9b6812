// What the registry keeps about how a model is served: configuration, split, approvals, and their history.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>

#include "base/status.h"
#include "registry/registry.h"

namespace tandem::registry {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Code = absl::StatusCode;
using enum SplitPart;

class ServingRecordTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / StrCat("tandem_serving_record_", getpid());
    fs::remove_all(folder_);
    Reopen();
  }
  void TearDown() override {
    registry_.reset();
    store_.reset();
    fs::remove_all(folder_);
  }
  void Reopen() {
    registry_.reset();
    store_.reset();
    store_ = *storage::Store::Open(folder_ / "tandem.db", Migrations());
    registry_ = *Registry::Open(store_.get(), &clock_);
  }
  // Versions 1 to `count` of model "m"; champion is 1.
  void AddVersions(int count) {
    Version version;
    version.model = "m";
    version.sha256 = "aa";
    for (int i = 0; i < count; ++i) ASSERT_TRUE(registry_->AddVersion(version).ok());
    ASSERT_TRUE(registry_->SetAlias("m", "champion", 1, "me", "first").ok());
  }
  Split SplitNow() { return registry_->Get("m")->split; }
  // "canary 2: 10% of the requests (me)", newest first.
  std::vector<std::string> Events() {
    std::vector<std::string> texts;
    for (const wire::ModelEvent& event : registry_->Events("m")) {
      texts.push_back(StrCat(event.kind(), " ", event.version(), ": ", event.text(), " (", event.who(), ")"));
    }
    return texts;
  }

  fs::path folder_;
  FakeClock clock_;
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<Registry> registry_;
};

TEST_F(ServingRecordTest, ADatabaseOfTheFormerSchemaIsBroughtUp) {
  registry_.reset();
  store_.reset();
  std::vector<storage::Migration> former;
  for (const storage::Migration& migration : Migrations()) {
    if (migration.id < 210 || migration.id >= 300) former.push_back(migration);
  }
  ASSERT_EQ(former.size(), Migrations().size() - 3);
  fs::path file = folder_ / "old.db";
  auto old = *storage::Store::Open(file, former);
  ASSERT_TRUE(old->Write([](storage::Store::Transaction& t) -> absl::Status {
                   TANDEM_RETURN_IF_ERROR(t.Execute("INSERT INTO models VALUES ('m', 7, 1)"));
                   TANDEM_RETURN_IF_ERROR(t.Execute("INSERT INTO version_numbers VALUES ('m', 1)"));
                   TANDEM_RETURN_IF_ERROR(t.Execute(
                       "INSERT INTO versions VALUES ('m', 1, 'ff', 12, 8, 'import', 'me', 0, 0, 'f32', '{}', '', '', "
                       "'', 1, 0, '', 0)"));
                   return t.Execute("INSERT INTO aliases VALUES ('m', 'champion', 1)");
                 })
                  .ok());
  old.reset();
  store_ = *storage::Store::Open(file, Migrations());
  registry_ = *Registry::Open(store_.get(), &clock_);
  Model model = *registry_->Get("m");
  EXPECT_EQ(model.created_ms, 7);
  EXPECT_EQ(model.config, "");
  EXPECT_EQ(model.split.canary, 0);
  EXPECT_EQ(model.aliases["champion"], 1);
  ASSERT_EQ(model.versions.size(), 1u);
  EXPECT_EQ(model.versions[0].sha256, "ff");
  EXPECT_TRUE(model.versions[0].wanted);
  EXPECT_EQ(model.versions[0].approval, "");
  EXPECT_EQ(model.versions[0].format, "onnx");
  EXPECT_TRUE(registry_->CutShortAtOpen().empty());
  EXPECT_TRUE(registry_->SetConfig("m", "threads: 2\n", "me", "").ok());
  Version next;
  next.model = "m";
  EXPECT_EQ(registry_->AddVersion(next)->version, 2);
}

TEST_F(ServingRecordTest, KeepsTheConfigurationWithItsHistory) {
  AddVersions(1);
  ASSERT_TRUE(registry_->SetConfig("m", "threads: 2\n", "ann", "faster").ok());
  ASSERT_TRUE(registry_->SetConfig("m", "threads: 2\n", "ann", "again").ok());
  ASSERT_TRUE(registry_->SetConfig("m", "", "bob", "").ok());
  Reopen();
  EXPECT_EQ(registry_->Get("m")->config, "");
  std::vector<wire::ModelEvent> events = registry_->Events("m");
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[1].who(), "ann");
  EXPECT_EQ(events[1].text(), "faster");
  EXPECT_EQ(events[1].detail(), "threads: 2\n");
  EXPECT_EQ(events[1].when_ms(), static_cast<double>(clock_.UnixMillis()));
  EXPECT_EQ(registry_->SetConfig("n", "", "me", "").code(), Code::kNotFound);
}

TEST_F(ServingRecordTest, KeepsTheSplitOverARestart) {
  AddVersions(3);
  ASSERT_TRUE(registry_->StartSplit(kCanary, "m", 2, 12.5, "me", "try it").ok());
  ASSERT_TRUE(registry_->StartSplit(kShadow, "m", 3, 100, "me", "").ok());
  Reopen();
  EXPECT_EQ(SplitNow().canary, 2);
  EXPECT_EQ(SplitNow().canary_percent, 12.5);
  EXPECT_EQ(SplitNow().canary_since_ms, clock_.UnixMillis());
  EXPECT_EQ(SplitNow().shadow, 3);
  EXPECT_EQ(SplitNow().shadow_percent, 100);
  EXPECT_THAT(Events(),
              ElementsAre("shadow 3: 100% of the requests (me)", "canary 2: 12.5% of the requests: try it (me)"));
}

TEST_F(ServingRecordTest, AChangeOfThePercentKeepsWhenTheCanaryBegan) {
  AddVersions(3);
  ASSERT_TRUE(registry_->StartSplit(kCanary, "m", 2, 10, "me", "").ok());
  int64_t since = SplitNow().canary_since_ms;
  clock_.AdvanceMillis(60'000);
  ASSERT_TRUE(registry_->StartSplit(kCanary, "m", 2, 50, "me", "").ok());
  EXPECT_EQ(SplitNow().canary_since_ms, since);
  ASSERT_TRUE(registry_->StartSplit(kCanary, "m", 3, 5, "me", "").ok());
  EXPECT_EQ(SplitNow().canary_since_ms, since + 60'000);
  EXPECT_EQ(Events()[1], "canary 2: ended: version 3 is the canary now (me)");
}

TEST_F(ServingRecordTest, ACanaryNeedsAChampionAndAPartOfTheRequests) {
  AddVersions(2);
  EXPECT_EQ(registry_->StartSplit(kCanary, "m", 9, 10, "me", "").code(), Code::kNotFound);
  EXPECT_EQ(registry_->StartSplit(kCanary, "m", 2, 0, "me", "").code(), Code::kInvalidArgument);
  EXPECT_EQ(registry_->StartSplit(kCanary, "m", 2, 101, "me", "").code(), Code::kInvalidArgument);
  EXPECT_EQ(registry_->StartSplit(kCanary, "m", 2, std::nan(""), "me", "").code(), Code::kInvalidArgument);
  EXPECT_THAT(MessageOf(registry_->StartSplit(kCanary, "m", 1, 10, "me", "")), HasSubstr("champion of model 'm'"));
  ASSERT_TRUE(registry_->SetAlias("m", "champion", 0, "me", "").ok());
  EXPECT_EQ(registry_->StartSplit(kShadow, "m", 2, 10, "me", "").code(), Code::kFailedPrecondition);
  EXPECT_THAT(Events(), IsEmpty());
}

TEST_F(ServingRecordTest, AVersionIsCanaryOrShadowNotBoth) {
  AddVersions(2);
  ASSERT_TRUE(registry_->StartSplit(kShadow, "m", 2, 10, "me", "").ok());
  ASSERT_TRUE(registry_->StartSplit(kCanary, "m", 2, 10, "me", "").ok());
  EXPECT_EQ(SplitNow().shadow, 0);
  EXPECT_EQ(SplitNow().canary, 2);
  EXPECT_EQ(Events()[1], "shadow 2: ended: it is the canary now (me)");
}

TEST_F(ServingRecordTest, EndsOnlyTheCanaryThatWasMeant) {
  AddVersions(3);
  EXPECT_EQ(registry_->EndSplit(kCanary, "m", 0, "me", "ended").code(), Code::kFailedPrecondition);
  ASSERT_TRUE(registry_->StartSplit(kCanary, "m", 2, 10, "me", "").ok());
  EXPECT_EQ(registry_->EndSplit(kCanary, "m", 3, "tandem", "rolled back: slow").code(), Code::kFailedPrecondition);
  EXPECT_EQ(SplitNow().canary, 2);
  ASSERT_TRUE(registry_->EndSplit(kCanary, "m", 2, "tandem", "rolled back: slow").ok());
  EXPECT_EQ(SplitNow().canary, 0);
  EXPECT_EQ(Events()[0], "canary 2: rolled back: slow (tandem)");
}

TEST_F(ServingRecordTest, EveryMoveOfChampionEndsTheSplit) {
  AddVersions(3);
  auto start = [&] {
    ASSERT_TRUE(registry_->StartSplit(kCanary, "m", 3, 10, "me", "").ok());
    ASSERT_TRUE(registry_->StartSplit(kShadow, "m", 2, 10, "me", "").ok());
  };
  start();
  ASSERT_TRUE(registry_->SetAlias("m", "other", 2, "me", "").ok());
  EXPECT_EQ(SplitNow().canary, 3);
  ASSERT_TRUE(registry_->SetAlias("m", "champion", 2, "me", "").ok());
  EXPECT_EQ(SplitNow().canary, 0);
  EXPECT_EQ(SplitNow().shadow, 0);
  EXPECT_EQ(Events()[1], "canary 3: ended: version 2 is champion now (me)");
  ASSERT_TRUE(registry_->StartSplit(kCanary, "m", 3, 10, "me", "").ok());
  ASSERT_TRUE(registry_->RollBack("m", "champion", "me").ok());
  EXPECT_EQ(SplitNow().canary, 0);
}

TEST_F(ServingRecordTest, ACanaryIsNotDeleted) {
  AddVersions(2);
  ASSERT_TRUE(registry_->StartSplit(kCanary, "m", 2, 10, "me", "").ok());
  EXPECT_THAT(MessageOf(registry_->DeleteVersion("m", 2)), HasSubstr("tandem models canary m --stop"));
  ASSERT_TRUE(registry_->EndSplit(kCanary, "m", 0, "me", "ended").ok());
  EXPECT_TRUE(registry_->DeleteVersion("m", 2).ok());
}

TEST_F(ServingRecordTest, KeepsApprovalsAndTheEnginesReport) {
  AddVersions(1);
  ASSERT_TRUE(registry_->SetApproval("m", 1, "pending", "tandem", "").ok());
  ASSERT_TRUE(registry_->SetApproval("m", 1, "approved", "ann", "looks right").ok());
  ASSERT_TRUE(registry_->SetEngineReport("m", 1, R"({"chosen":"openvino"})").ok());
  Reopen();
  Version version = *registry_->GetVersion("m", 1);
  EXPECT_EQ(version.approval, "approved");
  EXPECT_EQ(version.approval_who, "ann");
  EXPECT_EQ(version.approval_comment, "looks right");
  EXPECT_EQ(version.approval_ms, clock_.UnixMillis());
  EXPECT_EQ(version.engine_report, R"({"chosen":"openvino"})");
  EXPECT_THAT(Events(), ElementsAre("approval 1: approved: looks right (ann)", "approval 1: pending (tandem)"));
  EXPECT_EQ(registry_->SetApproval("m", 5, "approved", "ann", "").code(), Code::kNotFound);
}

}  // namespace
}  // namespace tandem::registry
