#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "base/files.h"
#include "base/status.h"
#include "storage/store.h"

namespace tandem::storage {
namespace {

namespace fs = std::filesystem;

class ArtifactsTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / StrCat("tandem_artifacts_", getpid());
    fs::remove_all(folder_);
    store_ = *ArtifactStore::Open(folder_ / "a");
  }
  void TearDown() override { fs::remove_all(folder_); }
  void Reopen() { store_ = *ArtifactStore::Open(folder_ / "a"); }
  bool IsHere(const fs::path& path) const {
    struct stat here, there;
    return stat(path.c_str(), &there) != 0 || stat(folder_.c_str(), &here) != 0 || here.st_dev == there.st_dev;
  }

  fs::path folder_;
  std::unique_ptr<ArtifactStore> store_;
};

TEST_F(ArtifactsTest, PutsBytesOnceUnderTheirHash) {
  ArtifactStore::Artifact first = *store_->PutBytes("hello");
  EXPECT_EQ(first.sha256, Sha256Hex("hello"));
  EXPECT_EQ(first.bytes, 5);
  EXPECT_EQ(store_->PutBytes("hello")->sha256, first.sha256);
  EXPECT_EQ(store_->List().size(), 1u);
  fs::path path = *store_->PathOf(first.sha256);
  EXPECT_EQ(*ReadFile(path), "hello");
  struct stat status;
  ASSERT_EQ(stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0444u);
  Reopen();
  EXPECT_TRUE(store_->PathOf(first.sha256).ok());
}

TEST_F(ArtifactsTest, AdoptsAFileByMovingIt) {
  fs::path source = folder_ / "model.onnx";
  for (int round = 0; round < 2; ++round) {
    ASSERT_TRUE(WriteFileAtomically(source, std::string(1'000'000, 'm')).ok());
    ArtifactStore::Artifact artifact = *store_->AdoptFile(source);
    EXPECT_EQ(artifact.bytes, 1'000'000);
    EXPECT_EQ(artifact.sha256, *Sha256HexOfFile(*store_->PathOf(artifact.sha256)));
    EXPECT_FALSE(fs::exists(source));
    EXPECT_EQ(store_->List().size(), 1u);
  }
}

TEST_F(ArtifactsTest, AdoptsAFileFromAnotherFileSystemByCopying) {
  if (IsHere("/dev/shm")) GTEST_SKIP() << "no second file system";
  fs::path other = StrCat("/dev/shm/tandem_artifacts_", getpid());
  ASSERT_TRUE(WriteFileAtomically(other, "from far").ok());
  ArtifactStore::Artifact artifact = *store_->AdoptFile(other);
  EXPECT_EQ(*ReadFile(*store_->PathOf(artifact.sha256)), "from far");
  EXPECT_FALSE(fs::exists(other));
}

TEST_F(ArtifactsTest, BringsAFileNearOnlyFromAnotherFileSystem) {
  fs::path beside = folder_ / "trained.onnx", other = StrCat("/dev/shm/tandem_artifacts_", getpid());
  ASSERT_TRUE(WriteFileAtomically(beside, "beside").ok());
  EXPECT_EQ(*store_->BringNear(beside), beside);
  EXPECT_EQ(store_->BringNear(folder_ / "none").status().code(), absl::StatusCode::kNotFound);
  if (IsHere("/dev/shm")) GTEST_SKIP() << "no second file system";
  ASSERT_TRUE(WriteFileAtomically(other, "from far").ok());
  fs::path near = *store_->BringNear(other);
  EXPECT_TRUE(IsHere(near));
  EXPECT_FALSE(fs::exists(other));
  EXPECT_TRUE(store_->List().empty());
  EXPECT_EQ(*ReadFile(*store_->PathOf(store_->AdoptFile(near)->sha256)), "from far");
  EXPECT_FALSE(fs::exists(near));
  ASSERT_TRUE(WriteFileAtomically(other, "left by a dead process").ok());
  near = *store_->BringNear(other);
  Reopen();
  EXPECT_FALSE(fs::exists(near));
}

TEST_F(ArtifactsTest, SaysWhatAFolderLacksAndMakesNothingInIt) {
  const std::string there = store_->PutBytes("hello")->sha256, gone(64, 'a');
  EXPECT_THAT(ArtifactStore::MissingFrom(folder_ / "a", {there, gone}), testing::ElementsAre(gone));
  EXPECT_THAT(ArtifactStore::MissingFrom(folder_ / "b", {there}), testing::ElementsAre(there));
  EXPECT_FALSE(fs::exists(folder_ / "b"));
}

TEST_F(ArtifactsTest, RefusesWhatIsNoFile) {
  EXPECT_EQ(store_->AdoptFile(folder_ / "none").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(store_->AdoptFile(folder_).status().code(), absl::StatusCode::kInvalidArgument);
  fs::create_symlink("/etc/passwd", folder_ / "link");
  EXPECT_FALSE(store_->AdoptFile(folder_ / "link").ok());
  ASSERT_EQ(mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  EXPECT_FALSE(store_->AdoptFile(folder_ / "pipe").ok());
}

TEST_F(ArtifactsTest, AHashCannotLeadOutOfTheFolder) {
  EXPECT_EQ(store_->PathOf("../../etc/passwd").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(store_->PathOf("").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(store_->PathOf(std::string(64, 'a')).status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(store_->Remove("../..").ok());
}

TEST_F(ArtifactsTest, RemovesAnArtifactWithWhatWasDerivedFromIt) {
  std::string hash = store_->PutBytes("x")->sha256, other = store_->PutBytes("y")->sha256;
  ASSERT_TRUE(MakeFolders(store_->DerivedFolder(hash) / "openvino").ok());
  ASSERT_TRUE(WriteFileAtomically(store_->DerivedFolder(hash) / "openvino" / "blob", "b").ok());
  EXPECT_TRUE(store_->Remove(hash).ok());
  EXPECT_FALSE(fs::exists(store_->DerivedFolder(hash)));
  EXPECT_EQ(store_->PathOf(hash).status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(store_->PathOf(other).ok());
  EXPECT_EQ(store_->Remove(hash).code(), absl::StatusCode::kNotFound);
}

TEST_F(ArtifactsTest, CleansUpAfterADeadProcess) {
  std::string hash = store_->PutBytes("x")->sha256;
  fs::path unfinished = folder_ / "a" / "sha256" / hash.substr(0, 2) / StrCat(hash, ".tmp-1-0");
  ASSERT_TRUE(WriteFileAtomically(unfinished, "half").ok());
  ASSERT_TRUE(MakeFolders(store_->DerivedFolder(hash)).ok());
  ASSERT_TRUE(MakeFolders(store_->DerivedFolder(std::string(64, 'a')) / "openvino").ok());
  Reopen();
  EXPECT_FALSE(fs::exists(unfinished));
  EXPECT_TRUE(fs::exists(store_->DerivedFolder(hash)));
  EXPECT_FALSE(fs::exists(store_->DerivedFolder(std::string(64, 'a'))));
  EXPECT_EQ(store_->List().size(), 1u);
}

TEST_F(ArtifactsTest, TakesTheSameBytesFromManyThreads) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5; ++i) {
        EXPECT_TRUE(store_->PutBytes(StrCat("same ", i)).ok());
        fs::path file = folder_ / StrCat("f", t);
        EXPECT_TRUE(WriteFileAtomically(file, StrCat("same ", i)).ok());
        EXPECT_TRUE(store_->AdoptFile(file).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(store_->List().size(), 5u);
}

}  // namespace
}  // namespace tandem::storage
