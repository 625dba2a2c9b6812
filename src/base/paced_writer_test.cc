#include "base/paced_writer.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>
#include <thread>

namespace tandem {
namespace {

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

TEST_F(PacedWriterTest, WithoutARateItNeverSleeps) {
  PacedWriter writer(0, Clock::Real(), [](int64_t) { FAIL(); });
  AtomicFile file = Open("file");
  ASSERT_TRUE(writer.Write(std::string(10'000'000, 'x'), &file).ok());
}

}  // namespace
}  // namespace tandem
