#include "daemon/roots.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "base/status.h"

namespace tandem::daemon {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class RootsTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / StrCat("tandem_roots_", getpid());
    fs::remove_all(folder_);
    for (const char* name : {"data", "one", "two"}) fs::create_directories(folder_ / name);
    Open();
  }
  void TearDown() override {
    locks_.clear();
    fs::remove_all(folder_);
  }

  void Close() {
    locks_.clear();
    jobs_.reset();
    registry_.reset();
    store_.reset();
  }
  void Open() {
    Close();
    std::vector<storage::Migration> all = jobs::Migrations();
    for (const auto& more : {registry::Migrations(), RootMigrations()}) all.insert(all.end(), more.begin(), more.end());
    store_ = *storage::Store::Open(folder_ / "data" / "tandem.db", all);
    registry_ = *registry::Registry::Open(store_.get(), &clock_);
    jobs_ = *jobs::JobStore::Open(store_.get(), &clock_, &notices_);
    notices_.clear();
  }

  Paths PathsOf(const std::string& serving, const std::string& training) const {
    Paths paths(folder_ / "data");
    if (!serving.empty()) paths.serving = folder_ / serving;
    if (!training.empty()) paths.training = folder_ / training;
    return paths;
  }
  // What a new daemon does.
  absl::Status Take(const std::string& serving, const std::string& training = "") {
    Open();
    auto taken =
        TakeRoots(PathsOf(serving, training), {store_.get(), registry_.get(), jobs_.get()}, "pid=7 data=/d", &notices_);
    if (taken.ok()) locks_ = *std::move(taken);
    return taken.status();
  }
  std::string Refusal(const std::string& serving, const std::string& training = "") {
    absl::Status status = Take(serving, training);
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    return std::string(MessageOf(status));
  }

  // A model with one version, whose file lies below `root`.
  void AddModel(const std::string& root) {
    auto artifacts = *storage::ArtifactStore::Open(folder_ / root / "artifacts");
    registry::Version version;
    version.model = "m";
    version.sha256 = artifacts->PutBytes("a model").value().sha256;
    ASSERT_TRUE(registry_->AddVersion(version).ok());
  }
  void Move(const std::string& what, const std::string& from, const std::string& to) {
    fs::rename(folder_ / from / what, folder_ / to / what);
  }

  fs::path folder_;
  FakeClock clock_;
  std::vector<std::string> notices_;
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<registry::Registry> registry_;
  std::unique_ptr<jobs::JobStore> jobs_;
  std::vector<FileLock> locks_;
};

TEST_F(RootsTest, TheDataFolderAloneNeedsNoLockOfItsOwn) {
  ASSERT_TRUE(Take("").ok());
  EXPECT_THAT(locks_, IsEmpty());
  EXPECT_FALSE(fs::exists(folder_ / "data" / "tandem.root"));
  ASSERT_TRUE(Take("data", "data").ok());
  EXPECT_THAT(locks_, IsEmpty());
}

TEST_F(RootsTest, OneFolderForBothSidesIsLockedOnce) {
  fs::create_directory_symlink(folder_ / "one", folder_ / "link");
  ASSERT_TRUE(Take("one", "link").ok());
  EXPECT_EQ(locks_.size(), 1u);
  ASSERT_TRUE(Take("one", "two").ok());
  EXPECT_EQ(locks_.size(), 2u);
}

TEST_F(RootsTest, RefusesPlacesThatCannotWorkWithTheSettingAndTheCure) {
  EXPECT_THAT(Refusal("none"), testing::AllOf(HasSubstr("serving.folder is '"), HasSubstr("mkdir -p '"),
                                              HasSubstr((folder_ / "none").string())));
  ASSERT_TRUE(WriteFileAtomically(folder_ / "file", "x").ok());
  EXPECT_THAT(Refusal("", "file"), testing::AllOf(HasSubstr("training.folder"), HasSubstr("no folder")));
  for (const char* kept : {"data/run", "data/artifacts/x", "one/checkpoints"}) {
    fs::create_directories(folder_ / kept);
    EXPECT_THAT(Refusal(kept, "one"), HasSubstr("tandem keeps for itself")) << kept;
  }
  ASSERT_TRUE(WriteFileAtomically(folder_ / "two" / "tandem.db", "x").ok());
  EXPECT_THAT(Refusal("two"), HasSubstr("data folder of another server"));
  fs::create_directories(folder_ / "data" / "models");  // a disk may be mounted there
  EXPECT_TRUE(Take("data/models").ok());
}

TEST_F(RootsTest, RefusesARootThatAnotherServerUsesAndNamesIt) {
  fs::create_directories(folder_ / "one" / "run");
  FileLock other = *FileLock::Acquire(Paths::LockBelow(folder_ / "one"), "pid=12 url=http://here:1");
  EXPECT_THAT(Refusal("one"), testing::AllOf(HasSubstr("another server"), HasSubstr("pid=12 url=http://here:1")));
}

TEST_F(RootsTest, RefusesTheFilesOfAServerThatDoesNotRun) {
  ASSERT_TRUE(Take("one").ok());
  Close();
  fs::remove(folder_ / "data" / "tandem.db");
  EXPECT_THAT(Refusal("one"), testing::AllOf(HasSubstr("files of another server"),
                                             HasSubstr((folder_ / "data").string()), HasSubstr("tandem.root")));
  fs::remove(folder_ / "one" / "tandem.root");
  EXPECT_TRUE(Take("one").ok());
}

TEST_F(RootsTest, ModelsAreNotLostWhenTheFolderIsAnother) {
  ASSERT_TRUE(Take("").ok());
  AddModel("data");
  const std::string refusal = Refusal("one");
  EXPECT_THAT(refusal, HasSubstr(StrCat("lay in '", (folder_ / "data").string(), "' before")));
  EXPECT_THAT(refusal, HasSubstr("1 of 1 that the records name"));
  EXPECT_THAT(refusal, HasSubstr("take serving.folder out of the settings"));
  EXPECT_FALSE(fs::exists(folder_ / "one" / "artifacts")) << "so that they can be moved there";
  EXPECT_FALSE(fs::exists(folder_ / "one" / "tandem.root"));
  EXPECT_TRUE(Take("").ok()) << "nothing was changed";
  EXPECT_THAT(notices_, IsEmpty());

  Move("artifacts", "data", "one");
  ASSERT_TRUE(Take("one").ok());
  EXPECT_THAT(notices_, ElementsAre(testing::AllOf(HasSubstr((folder_ / "one").string()), HasSubstr("before in"))));
  ASSERT_TRUE(Take("one").ok());
  EXPECT_THAT(notices_, IsEmpty());

  EXPECT_THAT(Refusal(""), HasSubstr(StrCat("set serving.folder back to it")));
  EXPECT_THAT(Refusal("two"), HasSubstr(StrCat("lay in '", (folder_ / "one").string(), "' before")));
  Move("artifacts", "one", "data");
  EXPECT_TRUE(Take("").ok());
}

TEST_F(RootsTest, ADiskThatIsNotMountedIsNotTakenForAnEmptyOne) {
  ASSERT_TRUE(Take("one").ok());
  AddModel("one");
  locks_.clear();
  fs::rename(folder_ / "one", folder_ / "away");
  fs::create_directory(folder_ / "one");
  EXPECT_THAT(Refusal("one"),
              testing::AllOf(HasSubstr("is its disk mounted?"), HasSubstr((folder_ / "one" / "artifacts").string())));
  fs::create_directory(folder_ / "one" / "artifacts");  // they are gone for good
  EXPECT_TRUE(Take("one").ok());
}

TEST_F(RootsTest, CheckpointsAndDataSetsAreNotLostAndDataSetsAreFoundAgain) {
  ASSERT_TRUE(Take("").ok());
  wire::Dataset copied;
  copied.set_name("squares");
  copied.set_copied(true);
  copied.set_path((folder_ / "data" / "datasets" / "squares").string());
  ASSERT_TRUE(registry_->AddDataset(copied).ok());
  wire::Dataset in_place = copied;
  in_place.set_name("outside");
  in_place.set_copied(false);
  in_place.set_path("/elsewhere");
  ASSERT_TRUE(registry_->AddDataset(in_place).ok());
  jobs::JobRecord record;
  record.name = "a";
  record.kind = "train";
  record.spec = "batch: 1\n";
  record.submitted_by = "me";
  const int32_t job = jobs_->Submit(record)->id, fresh = jobs_->Submit(record)->id;
  ASSERT_TRUE(jobs_->Starting(job).ok());
  fs::create_directories(folder_ / "data" / "datasets" / "squares");
  fs::create_directories(PathsOf("", "").JobFolder(job));

  EXPECT_THAT(Refusal("", "two"), testing::AllOf(HasSubstr("2 of 2 that the records name"), HasSubstr("'squares'")));
  Move("datasets", "data", "two");
  EXPECT_THAT(Refusal("", "two"), testing::AllOf(HasSubstr("1 of 2"), HasSubstr(StrCat("job ", job))));
  Move("checkpoints", "data", "two");
  ASSERT_TRUE(Take("", "two").ok()) << "job " << fresh << " has none yet";
  EXPECT_EQ(registry_->GetDataset("squares")->path(), folder_ / "two" / "datasets" / "squares");
  EXPECT_EQ(registry_->GetDataset("outside")->path(), "/elsewhere");
}

}  // namespace
}  // namespace tandem::daemon
