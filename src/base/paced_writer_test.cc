#include "base/paced_writer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <thread>

#include "base/status.h"

namespace tandem {
namespace {

namespace fs = std::filesystem;

class PacedWriterTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "tandem-paced-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  AtomicFile Open(const std::string& name) { return AtomicFile::Create(folder_ / name).value(); }

  std::filesystem::path folder_;
};

TEST_F(PacedWriterTest, HoldsTheRateWithinFivePerCentWhateverThePiecesAre) {
  for (size_t piece : {size_t{1000}, size_t{100'000}, size_t{3'000'000}}) {
    FakeClock clock;
    PacedWriter writer(10e6, &clock, [&](int64_t nanos) { clock.AdvanceMillis((nanos + 999'999) / 1'000'000); });
    AtomicFile file = Open("file");
    const int64_t begin = clock.MonotonicNanos();
    size_t written = 0;
    while (written < 6'000'000) {
      ASSERT_TRUE(writer.Write(std::string(piece, 'x'), &file).ok());
      written += piece;
    }
    double seconds = static_cast<double>(clock.MonotonicNanos() - begin) * 1e-9;
    if (piece > 10'000) {  // the false clock's milliseconds are too coarse for smaller ones
      EXPECT_NEAR(static_cast<double>(written) / seconds, 10e6, 0.05 * 10e6) << piece;
    }
    EXPECT_LE(static_cast<double>(written) / seconds, 10.5e6) << piece;
    ASSERT_TRUE(file.Commit().ok());
    EXPECT_EQ(std::filesystem::file_size(folder_ / "file"), written);
  }
}

TEST_F(PacedWriterTest, IsNeverFasterThanItsRateOnTheRealClockWithTwoThatShareIt) {
  PacedWriter writer(20e6);
  const int64_t begin = Clock::Real()->MonotonicNanos();
  auto write = [&](const std::string& name) {
    AtomicFile file = Open(name);
    EXPECT_TRUE(writer.Write(std::string(3'000'000, 'x'), &file).ok());
  };
  std::thread other([&] { write("a"); });
  write("b");
  other.join();
  double seconds = static_cast<double>(Clock::Real()->MonotonicNanos() - begin) * 1e-9;
  EXPECT_GE(seconds, 6.0 / 20 * 0.93);  // 20 ms may be caught up
}

TEST_F(PacedWriterTest, TimeThatWasNotUsedIsNotSavedUp) {
  FakeClock clock;
  int64_t slept = 0;
  PacedWriter writer(1e6, &clock, [&](int64_t nanos) {
    slept += nanos;
    clock.AdvanceMillis((nanos + 999'999) / 1'000'000);
  });
  AtomicFile file = Open("file");
  clock.AdvanceMillis(60'000);
  ASSERT_TRUE(writer.Write(std::string(500'000, 'x'), &file).ok());
  EXPECT_NEAR(static_cast<double>(slept), 0.5e9, 0.025e9);
}

TEST_F(PacedWriterTest, KeepsToAnotherRateFromTheNextPieceOn) {
  FakeClock clock;
  int64_t slept = 0;
  PacedWriter* rated = nullptr;
  PacedWriter writer(1e6, &clock, [&](int64_t nanos) {
    slept += nanos;
    clock.AdvanceMillis((nanos + 999'999) / 1'000'000);
    if (slept > 400'000'000) rated->SetRate(0);
  });
  rated = &writer;
  AtomicFile file = Open("file");
  ASSERT_TRUE(writer.Write(std::string(10'000'000, 'x'), &file).ok());
  EXPECT_NEAR(static_cast<double>(slept), 0.5e9, 0.1e9) << "of the 10 s that the first rate would have taken";
  EXPECT_EQ(writer.bytes_per_s(), 0);
  slept = 0;
  writer.SetRate(2e6);
  ASSERT_TRUE(writer.Write(std::string(600'000, 'x'), &file).ok());
  EXPECT_NEAR(static_cast<double>(slept), 0.3e9, 0.025e9);
}

TEST_F(PacedWriterTest, WhoWaitsUnderARateGoesOnWhenItIsTakenAway) {
  PacedWriter writer(1);  // 16 KB take hours
  std::thread other([&] {
    AtomicFile file = Open("file");
    EXPECT_TRUE(writer.Write(std::string(100'000, 'x'), &file).ok());
    EXPECT_TRUE(file.Commit().ok());
  });
  writer.SetRate(0);  // before it waits, or while
  other.join();
  EXPECT_EQ(std::filesystem::file_size(folder_ / "file"), 100'000u);
}

TEST_F(PacedWriterTest, PacesPlainDescriptorsAndCopiesToo) {
  FakeClock clock;
  int64_t slept = 0;
  PacedWriter writer(1e6, &clock, [&](int64_t nanos) {
    slept += nanos;
    clock.AdvanceMillis((nanos + 999'999) / 1'000'000);
  });
  ASSERT_TRUE(WriteFileAtomically(folder_ / "one", std::string(1'000'000, 'x'), &writer).ok());
  ASSERT_TRUE(CopyFileAtomically(folder_ / "one", folder_ / "two", &writer).ok());
  EXPECT_EQ(*ReadFile(folder_ / "two"), std::string(1'000'000, 'x'));
  UniqueFd fd(open((folder_ / "three").c_str(), O_WRONLY | O_CREAT, 0600));
  ASSERT_TRUE(writer.Write(std::string(1'000'000, 'x'), fd.get()).ok());
  EXPECT_EQ(std::filesystem::file_size(folder_ / "three"), 1'000'000u);
  EXPECT_NEAR(static_cast<double>(slept), 3e9, 0.15e9);
  EXPECT_EQ(CopyFileAtomically(folder_ / "none", folder_ / "four", &writer).code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "four"));
}

TEST_F(PacedWriterTest, CopiesAFolderOrAFileAtTheRate) {
  FakeClock clock;
  int64_t slept = 0;
  PacedWriter writer(1e6, &clock, [&](int64_t nanos) {
    slept += nanos;
    clock.AdvanceMillis((nanos + 999'999) / 1'000'000);
  });
  const fs::path from = folder_ / "from";
  fs::create_directories(from / "train/empty");
  const std::string large(700'000, 'x');
  ASSERT_TRUE(WriteFileAtomically(from / "train/one", large).ok());
  ASSERT_TRUE(WriteFileAtomically(folder_ / "elsewhere", std::string(300'000, 'y')).ok());
  fs::create_symlink(folder_ / "elsewhere", from / "two");
  fs::create_directory_symlink(from / "train", from / "val");
  const absl::Status copied = CopyTree(from, folder_ / "to", &writer);
  ASSERT_TRUE(copied.ok()) << copied;
  EXPECT_NEAR(static_cast<double>(slept), 1.7e9, 0.085e9);
  EXPECT_EQ(*ReadFile(folder_ / "to/train/one"), large);
  EXPECT_EQ(*ReadFile(folder_ / "to/val/one"), large) << "a folder under another name is no loop";
  EXPECT_FALSE(fs::is_symlink(folder_ / "to/two"));
  EXPECT_EQ(*ReadFile(folder_ / "to/two"), std::string(300'000, 'y'));
  EXPECT_TRUE(fs::is_directory(folder_ / "to/train/empty"));
  ASSERT_TRUE(CopyTree(folder_ / "elsewhere", folder_ / "file", &writer).ok());
  EXPECT_EQ(fs::file_size(folder_ / "file"), 300'000u);
  EXPECT_EQ(CopyTree(folder_ / "elsewhere", folder_ / "file", &writer).code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(PacedWriterTest, ACopyEndsAtWhatCannotBeCopied) {
  PacedWriter writer(0);
  const fs::path from = folder_ / "from";
  const auto refused = [&](const std::string& into, const std::string& what) {
    const absl::Status status = CopyTree(from, folder_ / into, &writer);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_NE(MessageOf(status).find(what), std::string_view::npos) << status;
  };
  fs::create_directories(from / "inner");
  fs::create_directory_symlink(from, from / "inner/loop");
  refused("a", "inner/loop' leads back");
  fs::remove(from / "inner/loop");
  refused("from/inner/copy", "inner/copy' leads back");
  fs::remove_all(from / "inner/copy");
  ASSERT_EQ(mkfifo((from / "inner/pipe").c_str(), 0600), 0);
  refused("b", "inner/pipe' is neither a file nor a folder");
  fs::remove(from / "inner/pipe");
  fs::create_symlink(folder_ / "none", from / "inner/gone");
  EXPECT_EQ(CopyTree(from, folder_ / "c", &writer).code(), absl::StatusCode::kNotFound);
}

TEST_F(PacedWriterTest, WithoutARateItNeverSleeps) {
  PacedWriter writer(0, Clock::Real(), [](int64_t) { FAIL(); });
  AtomicFile file = Open("file");
  ASSERT_TRUE(writer.Write(std::string(10'000'000, 'x'), &file).ok());
}

}  // namespace
}  // namespace tandem
