// The repository on disk, stepped by hand: real folders, registry and catalogue, a clock that lies, no engine.
#include "daemon/model_repository.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "base/files.h"
#include "base/status.h"
#include "daemon/repository_folder.h"
#include "daemon/testing/fake_serving.h"

namespace tandem::daemon {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;

constexpr int64_t kFarFutureMillis = 4'000'000'000'000;

// READY is what is desired.
class ListedServing : public testing::FakeServing {
 public:
  std::vector<serving::VersionStatus> States() const override {
    std::vector<serving::VersionStatus> states;
    for (const serving::DesiredModel& model : desired) {
      for (const serving::DesiredVersion& version : model.versions) {
        states.push_back({.model = model.name, .version = version.version, .state = serving::VersionState::kReady});
      }
    }
    return states;
  }
};

class ModelRepositoryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) / StrCat("tandem_repository_", getpid());
    fs::remove_all(folder_);
    fs::create_directories(folder_ / "models");
    fs::create_directories(folder_ / "run");
    std::vector<storage::Migration> migrations = registry::Migrations();
    migrations.insert(migrations.end(), accounting::Migrations().begin(), accounting::Migrations().end());
    store_ = *storage::Store::Open(folder_ / "tandem.db", migrations);
    accounting_ = *accounting::Accounting::Open(store_.get());
    artifacts_ = *storage::ArtifactStore::Open(folder_ / "artifacts");
    registry_ = *registry::Registry::Open(store_.get(), &clock_);
    catalog_ = std::make_unique<ModelCatalog>(registry_.get(), artifacts_.get(), CatalogSettings{});
    catalog_->AttachServing(&serving_);
    Restart();
  }
  void TearDown() override { fs::remove_all(folder_); }

  void Restart() {
    RepositoryParts parts{.clock = &clock_,
                          .registry = registry_.get(),
                          .artifacts = artifacts_.get(),
                          .accounting = accounting_.get(),
                          .join = [this](const fs::path& file) { return Join(file); },
                          .remove =
                              [this](const std::string& model, int32_t version) {
                                absl::Status removed = registry_->DeleteVersion(model, version);
                                catalog_->Sync();
                                return removed;
                              },
                          .has_engine = [](std::string_view engine) { return engine == "onnxruntime"; }};
    RepositorySettings settings{.folder = folder_ / "models", .poll = poll_, .memory_file = folder_ / "memory.json"};
    repository_ = *ModelRepository::Create(settings, parts, catalog_.get(), &serving_);
    catalog_->Sync();
  }

  // A file that says "bad" is no model; all others have x FP32 [-1,4] and y FP32 [-1,10].
  absl::StatusOr<JoinedModel> Join(const fs::path& file) {
    ++joins_;
    if (during_join_) during_join_();
    if (!join_fails_.ok()) return join_fails_;
    TANDEM_ASSIGN_OR_RETURN(std::string text, ReadFile(file));
    if (text == "bad") return InvalidArgument("model '", file.string(), "': not an ONNX file");
    JoinedModel joined{.file = folder_ / "run" / StrCat(joins_)};
    TANDEM_RETURN_IF_ERROR(WriteFileAtomically(joined.file, text));
    joined.inputs = {{"x", DType::kFloat32, {-1, 4}}};
    joined.outputs = {{"y", DType::kFloat32, {-1, 10}}};
    return joined;
  }

  void Write(const std::string& path, std::string_view text) {
    const fs::path file = folder_ / "models" / path;
    fs::create_directories(file.parent_path());
    ASSERT_TRUE(WriteFileAtomically(file, text).ok());
  }
  void Remove(const std::string& path) { fs::remove_all(folder_ / "models" / path); }
  void Steps(int count = 2) {
    for (int i = 0; i < count; ++i) repository_->Step();
  }
  std::string Sha(std::string_view model, int32_t version) {
    absl::StatusOr<registry::Version> found = registry_->GetVersion(model, version);
    return found.ok() ? found->sha256 : "";
  }
  std::vector<int32_t> Versions(std::string_view name) {
    std::vector<int32_t> numbers;
    absl::StatusOr<registry::Model> model = registry_->Get(name);
    if (!model.ok()) return numbers;
    for (const registry::Version& version : model->versions) numbers.push_back(version.version);
    return numbers;
  }
  // "m/2: why"
  std::vector<std::string> Index() {
    std::vector<std::string> lines;
    for (const api::RepositoryEntry& entry : repository_->Entries()) {
      EXPECT_EQ(entry.state, "UNAVAILABLE");
      lines.push_back(StrCat(entry.model, "/", entry.version, ": ", entry.reason));
    }
    return lines;
  }

  fs::path folder_;
  FakeClock clock_;
  bool poll_ = true;
  int joins_ = 0;
  absl::Status join_fails_;
  std::function<void()> during_join_;
  ListedServing serving_;
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<storage::ArtifactStore> artifacts_;
  std::unique_ptr<accounting::Accounting> accounting_;
  std::unique_ptr<registry::Registry> registry_;
  std::unique_ptr<ModelCatalog> catalog_;
  std::unique_ptr<ModelRepository> repository_;
};

TEST_F(ModelRepositoryTest, AModelIsServedOnceItsFilesHaveNotChangedForAStep) {
  Write("m/1/model.onnx", "half");
  Steps(1);
  EXPECT_THAT(Versions("m"), IsEmpty());
  EXPECT_THAT(Index(), ElementsAre("m/: new; taken in once its files do not change any more"));
  Write("m/1/model.onnx", "whole");
  Steps(1);
  EXPECT_EQ(joins_, 0);
  Steps(1);
  EXPECT_EQ(Sha("m", 1), Sha256Hex("whole"));
  EXPECT_THAT(serving_.Served("m"), ElementsAre(1));
  EXPECT_EQ(registry_->GetVersion("m", 1)->source, StrCat("repository ", (folder_ / "models/m/1").string()));
  EXPECT_THAT(Index(), IsEmpty());
  Steps(3);
  EXPECT_EQ(joins_, 1);
}

TEST_F(ModelRepositoryTest, WhatIsTakenInIsAccounted) {
  Write("m/1/model.onnx", "whole");
  Write("m/2/model.onnx", "second");
  Steps();
  Write("m/2/model.onnx", "other");
  Steps(4);
  ASSERT_TRUE(accounting_->Add(clock_.UnixMillis(), {}).ok());
  std::map<std::string, double> written;
  const auto rows = accounting_->Read({.kind = "model"});
  ASSERT_TRUE(rows.ok()) << rows.status();
  for (const accounting::Row& row : *rows) {
    written[row.name] = row.amount.disk_written_bytes;
  }
  EXPECT_THAT(written, ElementsAre(Pair("m/1", 5), Pair("m/2", 6 + 5)));
}

TEST_F(ModelRepositoryTest, WhatLiesThereForLongIsServedAtTheFirstStep) {
  clock_.SetUnixMillis(kFarFutureMillis);
  Write("m/7/model.onnx", "a");
  EXPECT_FALSE(repository_->FirstStepDone());
  Steps(1);
  EXPECT_TRUE(repository_->FirstStepDone());
  EXPECT_THAT(serving_.Served("m"), ElementsAre(7));
}

TEST_F(ModelRepositoryTest, VersionsKeepTheirNumbersAndThePolicyPicks) {
  for (int version : {2, 5, 9}) Write(StrCat("m/", version, "/model.onnx"), StrCat("content ", version));
  Steps();
  EXPECT_THAT(Versions("m"), ElementsAre(2, 5, 9));
  EXPECT_THAT(serving_.Served("m"), ElementsAre(9));
  Write("m/config.pbtxt", "version_policy { latest { num_versions: 2 } }");
  Steps();
  EXPECT_THAT(serving_.Served("m"), ElementsAre(5, 9));
  EXPECT_EQ(joins_, 3);
  Write("m/config.pbtxt", "version_policy { specific { versions: [ 2 ] } }");
  Steps();
  EXPECT_THAT(serving_.Served("m"), ElementsAre(2));
  Write("m/config.pbtxt", "version_policy { all { } }");
  Steps();
  EXPECT_THAT(serving_.Served("m"), ElementsAre(2, 5, 9));
  Write("m/config.pbtxt", "version_policy { specific { versions: [ 3 ] } }");
  Steps();
  EXPECT_THAT(serving_.Served("m"), IsEmpty());
  EXPECT_THAT(Index(), ElementsAre("m/: its version policy names none of the versions that are there"));
}

TEST_F(ModelRepositoryTest, VersionsAppearChangeAndDisappear) {
  Write("m/1/model.onnx", "one");
  Steps();
  Write("m/2/model.onnx", "two");
  Steps();
  EXPECT_THAT(serving_.Served("m"), ElementsAre(2));
  Write("m/2/model.onnx", "other");
  Steps();
  EXPECT_EQ(Sha("m", 2), Sha256Hex("other"));
  Remove("m/2");
  Steps();
  EXPECT_THAT(Versions("m"), ElementsAre(1));
  EXPECT_THAT(serving_.Served("m"), ElementsAre(1));
  Remove("m");
  Steps();
  EXPECT_THAT(Versions("m"), IsEmpty());
  EXPECT_EQ(serving_.Desired("m"), nullptr);
  EXPECT_THAT(Index(), IsEmpty());
  Write("m/1/model.onnx", "again");
  Steps();
  EXPECT_EQ(Sha("m", 1), Sha256Hex("again"));
  EXPECT_THAT(serving_.Served("m"), ElementsAre(1));
}

TEST_F(ModelRepositoryTest, AVersionThatAnAliasPointsToStays) {
  Write("m/1/model.onnx", "one");
  Write("m/2/model.onnx", "two");
  Steps();
  ASSERT_TRUE(catalog_->MoveAlias("m", "champion", 1, "me", "").ok());
  Remove("m/1");
  Steps();
  EXPECT_THAT(Versions("m"), ElementsAre(1, 2));
  EXPECT_THAT(serving_.Served("m"), ElementsAre(1, 2));
  EXPECT_THAT(Index(), ElementsAre(HasSubstr("alias 'champion' points to it")));
  ASSERT_TRUE(catalog_->MoveAlias("m", "champion", 2, "me", "").ok());
  clock_.AdvanceMillis(10'000);
  Steps(1);
  EXPECT_THAT(Versions("m"), ElementsAre(2));
  EXPECT_THAT(Index(), IsEmpty());
}

TEST_F(ModelRepositoryTest, TheConfigurationComesFromThePbtxtWithItsLabels) {
  Write("m/1/model.onnx", "one");
  Write("m/config.pbtxt", R"(name: "m" backend: "onnxruntime" max_batch_size: 8
    input { name: "x" data_type: TYPE_FP32 dims: 4 }
    output { name: "y" data_type: TYPE_FP32 dims: 10 label_filename: "labels.txt" }
    dynamic_batching { max_queue_delay_microseconds: 500 } optimization { priority: PRIORITY_MAX })");
  Write("m/labels.txt", "cat\r\ndog\n\n");
  Steps();
  const serving::DesiredModel& desired = *serving_.Desired("m");
  EXPECT_EQ(desired.config.max_batch_size, 8);
  EXPECT_EQ(desired.config.max_queue_delay_ms, 0.5);
  EXPECT_EQ(desired.config.versions, "latest:1");
  EXPECT_EQ(desired.config.engine, "onnxruntime");
  EXPECT_THAT(desired.config.labels.at("y"), ElementsAre("cat", "dog"));
  Write("m/labels.txt", "cat\ncow\n");
  Steps();
  EXPECT_THAT(serving_.Desired("m")->config.labels.at("y"), ElementsAre("cat", "cow"));
  EXPECT_EQ(joins_, 1);
}

TEST_F(ModelRepositoryTest, AChangeByHandStaysUntilTheFolderSaysSomethingNew) {
  Write("m/1/model.onnx", "one");
  Write("m/config.pbtxt", "max_batch_size: 8");
  Steps();
  ASSERT_TRUE(registry_->SetConfig("m", "max_batch_size: 4\nversions: latest:1\n", "me", "").ok());
  Write("m/2/model.onnx", "two");
  Steps();
  EXPECT_EQ(serving_.Desired("m")->config.max_batch_size, 4);
  Restart();
  Steps();
  EXPECT_EQ(serving_.Desired("m")->config.max_batch_size, 4);
  Write("m/config.pbtxt", "max_batch_size: 16");
  Steps();
  EXPECT_EQ(serving_.Desired("m")->config.max_batch_size, 16);
}

TEST_F(ModelRepositoryTest, WithoutAVersionPolicyTheLatestIsServed) {
  Write("m/1/model.onnx", "one");
  Write("m/2/model.onnx", "two");
  Steps();
  ASSERT_TRUE(registry_->SetConfig("m", "max_batch_size: 4\n", "me", "").ok());
  EXPECT_TRUE(*repository_->Load("m"));
  EXPECT_THAT(serving_.Served("m"), ElementsAre(2));
}

TEST_F(ModelRepositoryTest, AWrongPbtxtIsNamedWithItsLineAndChangesNothing) {
  Write("m/1/model.onnx", "one");
  Write("n/1/model.onnx", "two");
  Steps();
  Write("m/config.pbtxt", "max_batch_size: 8\ninput [ {");
  Write("m/2/model.onnx", "three");
  Steps();
  EXPECT_THAT(Index(), ElementsAre(HasSubstr("m/: m/config.pbtxt:2:10: the file ends inside of a message")));
  EXPECT_THAT(serving_.Served("m"), ElementsAre(1));
  EXPECT_THAT(serving_.Served("n"), ElementsAre(1));
  wire::DoctorReport report;
  repository_->Check(&report);
  EXPECT_EQ(report.checks(0).state(), "warning");
  EXPECT_THAT(report.checks(0).detail(), HasSubstr("config.pbtxt:2:10"));
  Write("m/config.pbtxt", "");
  Steps();
  EXPECT_THAT(serving_.Served("m"), ElementsAre(2));
  EXPECT_THAT(Index(), IsEmpty());
}

TEST_F(ModelRepositoryTest, WhatCannotBeServedIsSaid) {
  for (auto [text, why] : {std::pair("backend: 'python'", "config.pbtxt: backend is 'python', which is not supported"),
                           {"platform: 'tensorrt_plan'", "platform is 'tensorrt_plan'"},
                           {"platform: 'ensemble' ensemble_scheduling { step { model_name: 'a' } }", "ensembles"},
                           {"name: 'other'", "name is 'other', but the folder is 'm'"},
                           {"max_batch_size: 4 input { name: 'x' dims: [ 5 ] }",
                            "input.dims of 'x' is [5], with the batch [-1,5], but the model's shape is [-1,4]"},
                           {"output { name: 'y' label_filename: '../../secret' }", "without a folder"},
                           {"output { name: 'y' label_filename: 'none.txt' }", "No such file"},
                           {"default_model_filename: '../1/model.onnx'", "must be the name of a file"},
                           {"default_model_filename: 'net.onnx'", "has no net.onnx; it holds model.onnx"}}) {
    Write("m/1/model.onnx", "one");
    Write("m/config.pbtxt", text);
    Steps();
    EXPECT_THAT(Index(), ElementsAre(HasSubstr(why))) << text;
    EXPECT_THAT(Versions("m"), IsEmpty()) << text;
  }
}

TEST_F(ModelRepositoryTest, FilesOfTensorFlowAreModelsToo) {
  Write("m/1/model.tflite", std::string("\x1c\0\0\0TFL3", 8));
  Steps();
  EXPECT_THAT(Index(), IsEmpty());
  EXPECT_EQ(registry_->GetVersion("m", 1)->format, "tflite");
  ASSERT_EQ(serving_.desired.size(), 1u);
  EXPECT_EQ(serving_.desired[0].versions[0].engine, "openvino");
  Write("net/1/saved_model.pb", "graph");
  Write("net/2/model.savedmodel/saved_model.pb", "graph");
  for (const auto& [version, model] : {std::pair("net/1", "net/1"), {"net/2", "net/2/model.savedmodel"}}) {
    absl::StatusOr<fs::path> found = FindModelFile({.path = folder_ / "models" / version}, "");
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(*found, folder_ / "models" / model);
  }
}

TEST_F(ModelRepositoryTest, ABadVersionLeavesTheOthersAlone) {
  Write("m/1/model.onnx", "one");
  Steps();
  Write("m/2/model.onnx", "bad");
  Write("m/3/readme.txt", "nothing");
  Steps();
  EXPECT_THAT(Index(), ElementsAre(HasSubstr("m/2: model '"), HasSubstr("saved_model.pb; it holds readme.txt")));
  EXPECT_THAT(serving_.Served("m"), ElementsAre(1));
  Write("m/1/model.onnx", "bad");
  Steps();
  EXPECT_EQ(Sha("m", 1), Sha256Hex("one"));
  EXPECT_THAT(serving_.Served("m"), ElementsAre(1));
  EXPECT_THAT(Index()[0], HasSubstr("m/: version 1: model '"));
  EXPECT_TRUE(fs::is_empty(folder_ / "run"));
}

TEST_F(ModelRepositoryTest, AModelThatWasImportedByHandIsNotTouched) {
  registry::Version version{.model = "m", .sha256 = artifacts_->PutBytes("mine")->sha256, .source = "import a.onnx"};
  ASSERT_TRUE(registry_->AddVersion(version).ok());
  Write("m/1/model.onnx", "one");
  Steps();
  EXPECT_EQ(Sha("m", 1), Sha256Hex("mine"));
  EXPECT_THAT(Index(), ElementsAre(HasSubstr("already, which is not from the repository (import a.onnx)")));
  EXPECT_FALSE(*repository_->Load("m"));
  ASSERT_TRUE(registry_->DeleteModel("m").ok());
  clock_.AdvanceMillis(60'000);
  Steps(1);
  EXPECT_EQ(Sha("m", 1), Sha256Hex("one"));
}

TEST_F(ModelRepositoryTest, ANumberThatAJobTookIsNotReplaced) {
  Write("m/1/model.onnx", "one");
  Steps();
  registry::Version trained{.model = "m", .sha256 = artifacts_->PutBytes("made")->sha256, .source = "job 3"};
  ASSERT_EQ(registry_->AddVersion(trained)->version, 2);
  Write("m/2/model.onnx", "two");
  Steps();
  EXPECT_EQ(Sha("m", 2), Sha256Hex("made"));
  EXPECT_THAT(Index(), ElementsAre(HasSubstr("has a version 2 already (job 3)")));
  Remove("m/2");
  Steps();
  EXPECT_THAT(Versions("m"), ElementsAre(1, 2));
}

TEST_F(ModelRepositoryTest, FilesThatChangeWhileTheyAreReadAreNotTakenIn) {
  Write("m/1/model.onnx", "one");
  during_join_ = [&] { Write("m/1/weights.bin", "late"); };
  Steps();
  EXPECT_THAT(Versions("m"), IsEmpty());
  EXPECT_THAT(Index(), ElementsAre(HasSubstr("changed while it was read")));
  EXPECT_TRUE(fs::is_empty(folder_ / "run"));
  during_join_ = nullptr;
  Steps();
  EXPECT_THAT(serving_.Served("m"), ElementsAre(1));
}

TEST_F(ModelRepositoryTest, WhatMayPassIsTriedAgainEverMoreRarely) {
  Write("m/1/model.onnx", "one");
  join_fails_ = DeadlineExceeded("checking took more than 300 s and was stopped");
  Steps(5);
  EXPECT_EQ(joins_, 1);
  clock_.AdvanceMillis(5'000);
  Steps(2);
  EXPECT_EQ(joins_, 2);
  clock_.AdvanceMillis(5'000);
  Steps(2);
  EXPECT_EQ(joins_, 2);
  clock_.AdvanceMillis(5'000);
  join_fails_ = absl::OkStatus();
  Steps(1);
  EXPECT_THAT(serving_.Served("m"), ElementsAre(1));
}

TEST_F(ModelRepositoryTest, ARestartReadsNoFileAgainAndForgetsWhatWentMeanwhile) {
  Write("m/1/model.onnx", "one");
  Write("n/1/model.onnx", "two");
  Steps();
  EXPECT_EQ(joins_, 2);
  Remove("n");
  Restart();
  EXPECT_THAT(serving_.Served("n"), ElementsAre(1));
  Steps();
  EXPECT_EQ(joins_, 2);
  EXPECT_THAT(serving_.Served("m"), ElementsAre(1));
  EXPECT_THAT(Versions("n"), IsEmpty());
  ASSERT_TRUE(WriteFileAtomically(folder_ / "memory.json", "{\"format\": 1, \"models\": 3}").ok());
  Restart();
  Steps();
  EXPECT_EQ(joins_, 3);
  EXPECT_THAT(serving_.Served("m"), ElementsAre(1));
}

TEST_F(ModelRepositoryTest, ARepositoryThatCannotBeReadSaysNothingAboutItsModels) {
  Write("m/1/model.onnx", "one");
  Steps();
  fs::rename(folder_ / "models", folder_ / "away");
  Steps(4);
  EXPECT_THAT(serving_.Served("m"), ElementsAre(1));
  wire::DoctorReport report;
  repository_->Check(&report);
  EXPECT_THAT(report.checks(0).detail(), HasSubstr("No such file"));
  RepositorySettings settings{.folder = folder_ / "models"};
  EXPECT_THAT(MessageOf(ModelRepository::Create(settings, {}, nullptr, nullptr).status()),
              HasSubstr("--model-repository"));
}

TEST_F(ModelRepositoryTest, OnlyFoldersWithNumbersAreVersions) {
  Write(".git/1/model.onnx", "hidden");
  Write("readme.md", "a file");
  Write("m/1/model.onnx", "one");
  Write("m/02/model.onnx", "no number");
  Write("m/0/model.onnx", "no number");
  Write("m/x1/model.onnx", "no number");
  Write("empty/notes.txt", "no version");
  Write("-odd name/1/model.onnx", "one");
  Write("large/20240101123456/model.onnx", "one");
  Steps();
  EXPECT_THAT(Versions("m"), ElementsAre(1));
  EXPECT_EQ(joins_, 1);
  EXPECT_THAT(Index(), ElementsAre(HasSubstr("-odd name/: model name"), HasSubstr("has no folder of a version"),
                                   HasSubstr("numbers of versions go up to 2147483647")));
}

TEST_F(ModelRepositoryTest, LinksMayNotLeaveTheRepository) {
  ASSERT_TRUE(WriteFileAtomically(folder_ / "secret", "secret").ok());
  const fs::path models = folder_ / "models";
  Write("out/1/weights.bin", "w");
  fs::create_symlink(folder_ / "secret", models / "out/1/model.onnx");
  Write("labels/1/model.onnx", "one");
  Write("labels/config.pbtxt", "output { name: 'y' label_filename: 'labels.txt' }");
  fs::create_symlink("../../secret", models / "labels/labels.txt");
  fs::create_symlink(folder_, models / "whole");
  fs::create_symlink("nowhere", models / "dangling");
  Write("loop/1/model.onnx", "one");
  fs::create_symlink(".", models / "loop/1/self");
  Write("pipe/1/model.onnx", "one");
  ASSERT_EQ(mkfifo((models / "pipe/1/data.bin").c_str(), 0600), 0);
  Steps();
  EXPECT_THAT(Index(), ElementsAre(HasSubstr("leads nowhere"), HasSubstr("labels.txt' is a link out of the repository"),
                                   HasSubstr("folders deep"), HasSubstr("out/1/model.onnx' is a link out"),
                                   HasSubstr("neither a file nor a folder"), HasSubstr("whole' is a link out")));
  EXPECT_EQ(joins_, 0);
}

TEST_F(ModelRepositoryTest, LinksInsideOfTheRepositoryAreFollowed) {
  Write("..data_1/m/1/model.onnx", "one");
  fs::create_symlink("..data_1", folder_ / "models/..data");
  fs::create_symlink("..data/m", folder_ / "models/m");
  Steps();
  EXPECT_THAT(serving_.Served("m"), ElementsAre(1));
  Write("..data_2/m/2/model.onnx", "two");
  fs::remove(folder_ / "models/..data");
  fs::create_symlink("..data_2", folder_ / "models/..data");
  Steps();
  EXPECT_THAT(Versions("m"), ElementsAre(2));
}

TEST_F(ModelRepositoryTest, ExplicitModelsAreReadWhenTheyAreLoaded) {
  poll_ = false;
  Restart();
  Write("m/1/model.onnx", "one");
  Write("n/1/model.onnx", "two");
  Steps(3);
  EXPECT_EQ(joins_, 0);
  EXPECT_THAT(Index(), ElementsAre("m/: not loaded; load it by its name", "n/: not loaded; load it by its name"));
  EXPECT_TRUE(*repository_->Load("m"));
  EXPECT_THAT(serving_.Served("m"), ElementsAre(1));
  EXPECT_THAT(Index(), ElementsAre("n/: not loaded; load it by its name"));
  Write("m/2/model.onnx", "three");
  Steps(3);
  EXPECT_THAT(serving_.Served("m"), ElementsAre(1));
  EXPECT_TRUE(*repository_->Load("m"));
  EXPECT_THAT(serving_.Served("m"), ElementsAre(2));
  ASSERT_TRUE(registry_->SetEnabled("m", false).ok());
  catalog_->Sync();
  EXPECT_THAT(Index(), ElementsAre("n/: not loaded; load it by its name"));
  EXPECT_TRUE(*repository_->Load("m"));
  EXPECT_THAT(serving_.Served("m"), ElementsAre(2));
}

TEST_F(ModelRepositoryTest, ALoadSaysWhyItFails) {
  poll_ = false;
  Restart();
  EXPECT_FALSE(*repository_->Load("nothing"));
  EXPECT_FALSE(*repository_->Load("../run"));
  EXPECT_FALSE(*repository_->Load(""));
  Write("m/1/model.onnx", "bad");
  EXPECT_THAT(MessageOf(repository_->Load("m").status()), HasSubstr("not an ONNX file"));
  Write("m/config.pbtxt", "max_batch_size: x");
  EXPECT_THAT(MessageOf(repository_->Load("m").status()), HasSubstr("m/config.pbtxt:1:17"));
  EXPECT_THAT(Index(), ElementsAre(HasSubstr("m/config.pbtxt:1:17")));
  Remove("m/config.pbtxt");
  Write("m/1/model.onnx", "good");
  serving_.broken = {1};
  EXPECT_THAT(MessageOf(repository_->Load("m").status()), HasSubstr("does not load"));
}

TEST_F(ModelRepositoryTest, AThreadOfItsOwnTakesThemIn) {
  clock_.SetUnixMillis(kFarFutureMillis);
  Write("m/1/model.onnx", "one");
  repository_->Start();
  while (!repository_->FirstStepDone()) std::this_thread::yield();
  EXPECT_THAT(serving_.Served("m"), ElementsAre(1));
  repository_->Stop();
  repository_.reset();
  EXPECT_THAT(Versions("m"), ElementsAre(1));
}

}  // namespace
}  // namespace tandem::daemon
