#include "daemon/engine_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <future>

#include "base/files.h"
#include "base/status.h"
#include "daemon/engine_choice_recovery.h"
#include "daemon/testing/fake_serving.h"
#include "engine/testing.h"

namespace tandem::daemon {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// --- the whole of it, with engines that fail on command: `gate`, which reads the model file's first word, and `echo`
// ---

// Serves what an engine of `broken_engines` is not asked for. Thread-safe.
class SwitchingServing : public testing::FakeServing {
 public:
  void SetDesired(std::vector<serving::DesiredModel> models) override {
    std::lock_guard lock(mutex_);
    desired = std::move(models);
    changed_.notify_all();
  }
  std::vector<serving::VersionStatus> States() const override {
    std::lock_guard lock(mutex_);
    std::vector<serving::VersionStatus> states;
    for (const serving::DesiredModel& model : desired) {
      for (const serving::DesiredVersion& version : model.versions) {
        serving::VersionStatus& status = states.emplace_back();
        status.model = model.name;
        status.version = version.version;
        status.engine = version.engine;
        status.state = Fails(version) ? serving::VersionState::kFailed : serving::VersionState::kReady;
        if (Fails(version)) status.failed_engine = version.engine;
        if (Fails(version)) status.reason = "its library is gone";
      }
    }
    return states;
  }
  absl::Status WaitUntilReady(std::string_view, int32_t version, double) override {
    std::lock_guard lock(mutex_);
    for (const serving::DesiredModel& model : desired) {
      for (const serving::DesiredVersion& one : model.versions) {
        if (one.version == version && !Fails(one)) return absl::OkStatus();
      }
    }
    return FailedPrecondition("version ", version, " could not be loaded: its engine cannot");
  }
  // Waits until the one version is to be served by this engine.
  void AwaitEngine(const std::string& engine) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] {
      return desired.size() == 1 && desired[0].versions.size() == 1 && desired[0].versions[0].engine == engine;
    });
  }

  std::set<std::string> broken_engines;  // set before the first version

 private:
  bool Fails(const serving::DesiredVersion& version) const { return broken_engines.contains(version.engine); }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
};

class EngineChoiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    engine::testing::UseTestEngines(TANDEM_BIN_DIR);
    folder_ = fs::path(::testing::TempDir()) / StrCat("tandem_choice_", getpid());
    fs::remove_all(folder_);
    std::vector<storage::Migration> migrations = registry::Migrations();
    migrations.insert(migrations.end(), accounting::Migrations().begin(), accounting::Migrations().end());
    store_ = *storage::Store::Open(folder_ / "tandem.db", migrations);
    accounting_ = *accounting::Accounting::Open(store_.get());
    artifacts_ = *storage::ArtifactStore::Open(folder_ / "artifacts");
    registry_ = *registry::Registry::Open(store_.get(), Clock::Real());
  }
  void TearDown() override {
    choice_.reset();
    fs::remove_all(folder_);
  }

  // Version 1 of model "m"; `word` tells the engine `gate` what to do.
  void AddModel(const std::string& word) {
    registry::Version version;
    version.model = "m";
    version.sha256 = artifacts_->PutBytes(word).value().sha256;
    ASSERT_TRUE(registry_->AddVersion(version).ok());
  }
  // A server's life begins: its engine is `auto`, which begins with `default_engine`.
  void Start(const std::string& default_engine, bool choose = true) {
    choice_.reset();
    CatalogSettings settings{.engine = default_engine, .choose = choose};
    catalog_ = std::make_unique<ModelCatalog>(registry_.get(), artifacts_.get(), settings);
    catalog_->AttachServing(&serving_);
    auto spawn = [this](const std::vector<std::string>& argv, double timeout_s) {
      ++children_;
      return stopping_ ? Unavailable("the server is stopping") : engine::testing::Spawn(argv, timeout_s);
    };
    auto engines = [] {
      return std::vector<engine::EngineInfo>{
          {"echo", "1", "", ""}, {"gate", "7", "", ""}, {"torch", "", "", "not here"}};
    };
    choice_ = std::make_unique<EngineChoice>(ChoiceParts{.clock = Clock::Real(),
                                                         .registry = registry_.get(),
                                                         .accounting = accounting_.get(),
                                                         .catalog = catalog_.get(),
                                                         .serving = &serving_,
                                                         .spawn = spawn,
                                                         .engines = engines,
                                                         .run_folder = folder_ / "run",
                                                         .prepare_timeout_s = prepare_timeout_s_});
  }
  // The server ends while `engine` loads version 1, which `former` had served; what the next one says.
  std::vector<std::string> EndWhileLoading(const std::string& engine, const std::string& former, bool choose = true) {
    EXPECT_TRUE(registry_->MarkLoaded("m", 1, former).ok());
    EXPECT_TRUE(registry_->MarkLoading("m", 1, engine).ok());
    choice_.reset();
    catalog_.reset();
    registry_ = *registry::Registry::Open(store_.get(), Clock::Real());
    absl::StatusOr<std::vector<std::string>> notices = SettleCutShortLoads(registry_.get(), choose);
    EXPECT_TRUE(notices.ok()) << notices.status();
    return notices.ok() ? *std::move(notices) : std::vector<std::string>();
  }
  EngineReport Stored() const { return EngineReportFromJson(registry_->GetVersion("m", 1)->engine_report); }
  // Below the folder of what was prepared.
  std::set<std::string> Prepared() const {
    std::set<std::string> names;
    const fs::path derived = artifacts_->DerivedFolder(registry_->GetVersion("m", 1)->sha256);
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(derived, error)) names.insert(entry.path().filename());
    return names;
  }

  fs::path folder_;
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<storage::ArtifactStore> artifacts_;
  std::unique_ptr<accounting::Accounting> accounting_;
  std::unique_ptr<registry::Registry> registry_;
  SwitchingServing serving_;
  std::unique_ptr<ModelCatalog> catalog_;
  std::atomic<int> children_ = 0;
  std::atomic<bool> stopping_ = false;
  double prepare_timeout_s_ = 60;
  std::unique_ptr<EngineChoice> choice_;
};

TEST_F(EngineChoiceTest, WhatTheDefaultEngineCannotLoadIsLoadedByOneThatCan) {
  serving_.broken_engines = {"gate"};
  AddModel("crash");  // gate dies of it
  Start("gate");
  absl::Status loaded = catalog_->LoadCandidate("m", 1);
  ASSERT_TRUE(loaded.ok()) << loaded;
  EXPECT_EQ(serving_.Desired("m")->versions[0].engine, "echo");
  const EngineReport report = Stored();
  EXPECT_EQ(report.chosen, "echo");
  EXPECT_EQ(report.why, "the only one that serves it");
  EXPECT_EQ(report.reference, "echo");
  EXPECT_EQ(report.samples, "made");
  EXPECT_THAT(report.note, HasSubstr("the interpreter does not run it: not here"));
  ASSERT_EQ(report.engines.size(), 3U);
  EXPECT_EQ(report.engines[1].engine, "gate");
  EXPECT_THAT(report.engines[1].error, AllOf(HasSubstr("crashed the engine: signal 6"), Not(HasSubstr("artifacts"))));
  EXPECT_GT(report.engines[2].latency_ms.at(1), 0);
  EXPECT_THAT(Prepared(), ElementsAre("echo-f32")) << "where the load looks for it";
  ASSERT_TRUE(accounting_->Add(0, {}).ok());
  const std::vector<accounting::Row> used = accounting_->Read({}).value();
  ASSERT_EQ(used.size(), 1U);
  EXPECT_EQ(used[0].name, "m/1");
  EXPECT_EQ(used[0].amount.disk_read_bytes, std::string("crash").size()) << "by the engine that could";
  EXPECT_EQ(used[0].amount.disk_written_bytes,
            BytesBelow(artifacts_->DerivedFolder(registry_->GetVersion("m", 1)->sha256)));
}

TEST_F(EngineChoiceTest, WhatWasMeasuredIsNotMeasuredAgainByTheNextServer) {
  serving_.broken_engines = {"gate"};
  AddModel("crash");
  Start("gate");
  ASSERT_TRUE(catalog_->LoadCandidate("m", 1).ok());
  const double when = Stored().when_ms;
  children_ = 0;
  Start("gate");
  ASSERT_TRUE(catalog_->LoadCandidate("m", 1).ok());
  EXPECT_EQ(serving_.Desired("m")->versions[0].engine, "echo") << "at once";
  // An order after which the thread has seen all that was to be done.
  ASSERT_TRUE(choice_->FindOther("m", 1, absl::OkStatus()).ok());
  EXPECT_EQ(children_, 0);
  ASSERT_TRUE(choice_->Measure("m", 1).ok());
  EXPECT_GT(children_, 0) << "asked for";
  EXPECT_GE(Stored().when_ms, when);
}

TEST_F(EngineChoiceTest, WhenTheChosenEngineNoLongerLoadsItTheNextBestDoes) {
  AddModel("fine");
  Start("gate");
  ASSERT_TRUE(catalog_->MoveAlias("m", "champion", 1, "me", "first").ok());
  ASSERT_TRUE(choice_->FindOther("m", 1, absl::OkStatus()).ok());
  ASSERT_EQ(Stored().chosen, "gate");
  EngineReport report = Stored();
  report.engines[2].error = "";  // echo would serve it too
  ASSERT_EQ(report.engines[2].engine, "echo");
  ASSERT_TRUE(registry_->SetEngineReport("m", 1, ToJson(report)).ok());
  choice_.reset();
  serving_.broken_engines = {"gate"};
  children_ = 0;
  Start("gate");
  catalog_->Sync();
  serving_.AwaitEngine("echo");
  EXPECT_THAT(WhyOthersDoNot(Stored(), "torch"), HasSubstr("gate: its library is gone"));
  EXPECT_EQ(children_, 0) << "what was measured still counts";
}

TEST_F(EngineChoiceTest, AnEngineWhoseLoadTheServerDidNotSurviveIsHeldBackAndTheFormerOneServes) {
  AddModel("fine");
  Start("gate");
  ASSERT_TRUE(catalog_->MoveAlias("m", "champion", 1, "me", "first").ok());
  ASSERT_TRUE(choice_->FindOther("m", 1, absl::OkStatus()).ok());
  EngineReport report = Stored();
  ASSERT_EQ(report.chosen, "gate");
  ASSERT_EQ(report.engines[2].engine, "echo");
  report.engines[2].error = "";  // it served before
  ASSERT_TRUE(registry_->SetEngineReport("m", 1, ToJson(report)).ok());
  EXPECT_THAT(
      EndWhileLoading("gate", "echo"),
      ElementsAre(AllOf(HasSubstr("m/1 is served by engine 'echo'; engine 'gate' is held back: the server ended"),
                        HasSubstr("'tandem models measure m/1' tries it again"))));
  EXPECT_FALSE(registry_->GetVersion("m", 1)->quarantined);
  EXPECT_THAT(Stored().why, HasSubstr("it served the version before; gate is held back: the server ended"));
  children_ = 0;
  Start("gate");
  catalog_->Sync();
  serving_.AwaitEngine("echo");
  EXPECT_EQ(children_, 0) << "what was measured still counts";

  // What is measured anew by itself does not bring it back; a person's word does.
  ASSERT_TRUE(registry_->SetConfig("m", "max_batch_size: 4", "me", "").ok());
  catalog_->Sync("m");
  ASSERT_TRUE(choice_->FindOther("m", 1, absl::OkStatus()).ok());
  EXPECT_GT(children_, 0);
  EXPECT_EQ(Stored().batch, 4);
  EXPECT_EQ(Stored().chosen, "echo");
  EXPECT_TRUE(Stored().engines[1].held_back);
  ASSERT_TRUE(choice_->Measure("m", 1).ok());
  EXPECT_EQ(Stored().chosen, "gate");
  EXPECT_FALSE(Stored().engines[1].held_back);
  serving_.AwaitEngine("gate");
}

TEST_F(EngineChoiceTest, AVersionWhoseLoadWasCutShortIsQuarantinedWhereAPersonNamesTheEngine) {
  AddModel("fine");
  EXPECT_THAT(EndWhileLoading("gate", "echo", /*choose=*/false), ElementsAre(HasSubstr("tandem models deploy m/1")));
  EXPECT_TRUE(registry_->GetVersion("m", 1)->quarantined);
  EXPECT_THAT(Stored().engines, IsEmpty());
  ASSERT_TRUE(registry_->SetQuarantine("m", 1, false, "").ok());
  ASSERT_TRUE(registry_->SetConfig("m", "engine: gate", "me", "").ok());
  EXPECT_THAT(EndWhileLoading("gate", "echo"), ElementsAre(HasSubstr("tandem models deploy m/1")));
  EXPECT_TRUE(registry_->GetVersion("m", 1)->quarantined);
  registry_ = *registry::Registry::Open(store_.get(), Clock::Real());
  EXPECT_THAT(registry_->CutShortAtOpen(), IsEmpty()) << "it is settled";
}

TEST_F(EngineChoiceTest, AVersionThatServesIsMeasuredBehindItAndSwapped) {
  AddModel("fine");
  Start("gate");
  ASSERT_TRUE(catalog_->MoveAlias("m", "champion", 1, "me", "first").ok());
  ASSERT_TRUE(choice_->FindOther("m", 1, absl::OkStatus()).ok());
  const EngineReport report = Stored();
  EXPECT_EQ(report.chosen, "gate");
  EXPECT_THAT(report.engines[2].error, HasSubstr("the samples have no input 'INPUT0'"));
  serving_.AwaitEngine("gate");
}

TEST_F(EngineChoiceTest, AnEngineThatHangsCostsNoMoreThanItsTime) {
  prepare_timeout_s_ = 10;  // the other engine, which does not hang, has it too
  serving_.broken_engines = {"gate"};
  AddModel("hang");
  Start("gate");
  absl::Status loaded = catalog_->LoadCandidate("m", 1);
  ASSERT_TRUE(loaded.ok()) << loaded;
  EXPECT_THAT(Stored().engines[1].error, HasSubstr("took longer than 10.0 s"));
}

TEST_F(EngineChoiceTest, WhatNoEngineServesIsRefusedWithTheReasonOfEach) {
  serving_.broken_engines = {"gate", "echo"};
  AddModel("bad");
  Start("gate");
  absl::Status loaded = catalog_->LoadCandidate("m", 1);
  EXPECT_TRUE(absl::IsFailedPrecondition(loaded)) << loaded;
  EXPECT_THAT(std::string(loaded.message()),
              AllOf(HasSubstr("its engine cannot; nor do the others serve it: "), HasSubstr("torch: not here")));
}

TEST_F(EngineChoiceTest, AQuarantineEndsWhenAnotherEngineIsChosen) {
  AddModel("crash-load");
  ASSERT_TRUE(registry_->SetQuarantine("m", 1, true, "it ended the server").ok());
  Start("gate");
  ASSERT_TRUE(catalog_->MoveAlias("m", "champion", 1, "me", "first").ok());
  serving_.AwaitEngine("echo");
  EXPECT_FALSE(registry_->GetVersion("m", 1)->quarantined);
}

TEST_F(EngineChoiceTest, AQuarantineStaysWhereNoOtherEngineIsBetter) {
  AddModel("fine");
  ASSERT_TRUE(registry_->SetQuarantine("m", 1, true, "it ended the server").ok());
  Start("gate");
  ASSERT_TRUE(catalog_->MoveAlias("m", "champion", 1, "me", "first").ok());
  EXPECT_FALSE(choice_->FindOther("m", 1, Internal("as before")).ok());
  EXPECT_EQ(Stored().chosen, "gate");
  EXPECT_TRUE(registry_->GetVersion("m", 1)->quarantined);
}

TEST_F(EngineChoiceTest, NothingIsMeasuredByItselfWhereTheServerOrTheModelNamesAnEngine) {
  serving_.broken_engines = {"gate"};
  AddModel("crash");
  Start("gate", /*choose=*/false);
  EXPECT_FALSE(catalog_->LoadCandidate("m", 1).ok());
  ASSERT_TRUE(registry_->SetConfig("m", "engine: gate", "me", "").ok());
  Start("echo");
  EXPECT_FALSE(catalog_->LoadCandidate("m", 1).ok());
  EXPECT_EQ(children_, 0);
  ASSERT_TRUE(choice_->Measure("m", 1).ok());
  EXPECT_EQ(Stored().chosen, "echo");
  EXPECT_FALSE(catalog_->LoadCandidate("m", 1).ok()) << "the model names its engine";
}

TEST_F(EngineChoiceTest, AVersionThatIsSwappedIsReady) {
  AddModel("fine");
  Start("gate");
  serving::VersionStatus old_one, new_one;
  old_one.model = new_one.model = "m";
  old_one.version = new_one.version = 1;
  old_one.state = serving::VersionState::kUnloading;
  new_one.state = serving::VersionState::kReady;
  const registry::Model model = *registry_->Get("m");
  EXPECT_EQ(catalog_->StateOf(model, model.versions[0], {old_one, new_one}).first, "READY");
  EXPECT_EQ(catalog_->StateOf(model, model.versions[0], {new_one, old_one}).first, "READY");
  EXPECT_EQ(catalog_->StateOf(model, model.versions[0], {old_one}).first, "UNLOADING");
}

TEST_F(EngineChoiceTest, OneFormatOneEngine) {
  registry::Version version;
  version.model = "m";
  version.sha256 = artifacts_->PutBytes("a tflite").value().sha256;
  version.format = "tflite";
  ASSERT_TRUE(registry_->AddVersion(version).ok());
  Start("gate");
  absl::Status measured = choice_->Measure("m", 1);
  EXPECT_TRUE(absl::IsFailedPrecondition(measured));
  EXPECT_THAT(std::string(measured.message()), HasSubstr("tflite"));
  EXPECT_TRUE(absl::IsNotFound(choice_->Measure("n", 1)));
}

TEST_F(EngineChoiceTest, AStopIsNoReport) {
  stopping_ = true;  // children end as Children::Abort has them
  serving_.broken_engines = {"gate"};
  AddModel("fine");
  Start("gate");
  EXPECT_TRUE(absl::IsUnavailable(catalog_->LoadCandidate("m", 1)));
  EXPECT_THAT(registry_->GetVersion("m", 1)->engine_report, IsEmpty());
  choice_->Stop();
  EXPECT_TRUE(absl::IsUnavailable(choice_->Measure("m", 1)));
}

}  // namespace
}  // namespace tandem::daemon
