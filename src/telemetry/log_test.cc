#include "telemetry/log.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>

#include "absl/strings/match.h"
#include "base/files.h"
#include "base/strings.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class LogTest : public ::testing::Test {
 protected:
  LogTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "log-test-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
    settings_.file = (folder_ / "tandemd.log").string();
  }
  ~LogTest() override {
    EXPECT_TRUE(ConfigureLog({}).ok());
    std::filesystem::remove_all(folder_);
  }
  std::string Text(const std::string& name = "tandemd.log") { return ReadFile(folder_ / name).value_or(""); }
  // Lines are written by a thread: waits for one that has this.
  bool Await(const std::string& line) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!absl::StrContains(Text(), line)) {
      if (std::chrono::steady_clock::now() > end) return false;
      FlushLog();
      std::this_thread::yield();
    }
    return true;
  }

  std::filesystem::path folder_;
  LogSettings settings_;
};

TEST_F(LogTest, AFullFileIsPutAsideAndTheOldestGoes) {
  settings_.rotate_bytes = 2000;
  settings_.rotate_files = 2;
  ASSERT_TRUE(ConfigureLog(settings_).ok());
  for (int i = 0; i < 200; ++i) Log(LogLevel::kInfo, "a line", {{"number", i}});
  EXPECT_TRUE(Await("number=199"));
  int files = 0;
  for (const auto& file : std::filesystem::directory_iterator(folder_)) {
    EXPECT_LE(file.file_size(), 2000u) << file.path();
    ++files;
  }
  EXPECT_EQ(files, 3) << "the one that is written, and two before";
  EXPECT_THAT(Text() + Text("tandemd.1.log") + Text("tandemd.2.log"), Not(HasSubstr("number=1\n")));
}

TEST_F(LogTest, KeepsWhatIsAsSevereAsItsLevelWhichMayChange) {
  settings_.level = LogLevel::kWarning;
  ASSERT_TRUE(ConfigureLog(settings_).ok());
  Log(LogLevel::kInfo, "quiet");
  Log(LogLevel::kWarning, "loud");
  SetLogLevel(LogLevel::kDebug);
  Log(LogLevel::kDebug, "whispered");
  EXPECT_TRUE(Await("whispered"));
  EXPECT_THAT(Text(), HasSubstr("loud"));
  EXPECT_THAT(Text(), Not(HasSubstr("quiet")));
}

TEST_F(LogTest, AFileThatCannotBeWrittenIsAnErrorThatNamesIt) {
  settings_.file = (folder_ / "absent" / "" / "x").string();
  ASSERT_TRUE(WriteFileAtomically(folder_ / "absent", "a file, no folder").ok());
  absl::Status status = ConfigureLog(settings_);
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("absent"));
}

}  // namespace
}  // namespace tandem
