#include "base/pressure_word.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/fd.h"
#include "base/status.h"

namespace tandem {
namespace {

using ::testing::HasSubstr;

// The same in a forked child.
const std::filesystem::path& TestFile() {
  static const auto& file =
      *new std::filesystem::path(std::filesystem::path(testing::TempDir()) / StrCat("pressure_word_test.", getpid()));
  return file;
}

std::unique_ptr<PressureWord> MustCreate(uint32_t allowed) {
  absl::StatusOr<std::unique_ptr<PressureWord>> word = PressureWord::Create(TestFile(), allowed);
  EXPECT_TRUE(word.ok()) << word.status();
  return *std::move(word);
}

std::unique_ptr<PressureWord> MustOpen() {
  absl::StatusOr<std::unique_ptr<PressureWord>> word = PressureWord::Open(TestFile());
  EXPECT_TRUE(word.ok()) << word.status();
  return *std::move(word);
}

TEST(PressureWordTest, ShowsTheTrainerWhatTheDaemonSets) {
  std::unique_ptr<PressureWord> daemon = MustCreate(2);
  std::unique_ptr<PressureWord> trainer = MustOpen();
  EXPECT_EQ(trainer->Read(), 2u);
  daemon->Set(0);
  EXPECT_EQ(trainer->Read(), 0u);
  EXPECT_EQ(trainer->WaitForChange(2, 60'000), 0u);  // it changed already
  EXPECT_EQ(trainer->WaitForChange(0, 1), 0u);       // it does not change: the time ends the wait
}

TEST(PressureWordTest, TheDaemonsSideRemovesTheFile) {
  std::unique_ptr<PressureWord> daemon = MustCreate(1);
  std::unique_ptr<PressureWord> trainer = MustOpen();
  daemon.reset();
  EXPECT_FALSE(std::filesystem::exists(TestFile()));
  EXPECT_EQ(trainer->Read(), 1u);  // what was mapped stays
  EXPECT_EQ(PressureWord::Open(TestFile()).status().code(), absl::StatusCode::kNotFound);
}

TEST(PressureWordTest, ANewDaemonDoesNotDisturbWhoMapsTheOldFile) {
  std::unique_ptr<PressureWord> first = MustCreate(1);
  std::unique_ptr<PressureWord> left_over = MustOpen();
  std::unique_ptr<PressureWord> second = MustCreate(5);
  EXPECT_EQ(left_over->Read(), 1u);
  EXPECT_EQ(MustOpen()->Read(), 5u);
}

TEST(PressureWordTest, RefusesAFileThatIsNone) {
  std::ofstream(TestFile()) << "too long";
  EXPECT_THAT(std::string(MessageOf(PressureWord::Open(TestFile()).status())), HasSubstr("has 8 bytes, must have 4"));
  std::filesystem::remove(TestFile());
  std::filesystem::create_symlink("/dev/zero", TestFile());
  EXPECT_FALSE(PressureWord::Open(TestFile()).ok());
  std::filesystem::remove(TestFile());
  EXPECT_EQ(PressureWord::Create("/nowhere/word", 1).status().code(), absl::StatusCode::kNotFound);
}

// The state letter of a process: S while it sleeps.
char StateOf(pid_t pid) {
  std::ifstream stat(StrCat("/proc/", pid, "/stat"));
  std::string text((std::istreambuf_iterator<char>(stat)), {});
  const size_t name_end = text.rfind(')');
  return name_end == std::string::npos || name_end + 2 >= text.size() ? '?' : text[name_end + 2];
}

// In the child: follows the word from 1 up to `last`, and notes when it saw each value.
void FollowAndExit(int last, int64_t* seen_nanos) {
  absl::StatusOr<std::unique_ptr<PressureWord>> word = PressureWord::Open(TestFile());
  if (!word.ok()) _exit(2);
  uint32_t value = 0;
  while (value < static_cast<uint32_t>(last)) {
    const uint32_t now = (*word)->WaitForChange(value, 30'000);
    if (now != value + 1) _exit(3);  // timed out, or missed one
    seen_nanos[now] = Clock::Real()->MonotonicNanos();
    value = now;
  }
  _exit(0);
}

TEST(PressureWordTest, WakesASleepingProcess) {
  constexpr int kRounds = 200;
  std::unique_ptr<PressureWord> daemon = MustCreate(0);
  void* shared =
      mmap(nullptr, (kRounds + 1) * sizeof(int64_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(shared, MAP_FAILED);
  auto* seen_nanos = static_cast<int64_t*>(shared);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) FollowAndExit(kRounds, seen_nanos);

  std::vector<double> micros;
  const int64_t give_up = Clock::Real()->MonotonicNanos() + 30'000'000'000;
  for (int round = 1; round <= kRounds; ++round) {
    // Asleep, and having seen the former value: then in the futex.
    auto seen_before = [&] { return round == 1 || __atomic_load_n(&seen_nanos[round - 1], __ATOMIC_ACQUIRE) != 0; };
    while (Clock::Real()->MonotonicNanos() < give_up && !(seen_before() && StateOf(child) == 'S'))
      std::this_thread::yield();
    const int64_t set_nanos = Clock::Real()->MonotonicNanos();
    daemon->Set(round);
    while (Clock::Real()->MonotonicNanos() < give_up && __atomic_load_n(&seen_nanos[round], __ATOMIC_ACQUIRE) == 0) {
      std::this_thread::yield();
    }
    micros.push_back((seen_nanos[round] - set_nanos) / 1e3);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  munmap(shared, (kRounds + 1) * sizeof(int64_t));
  std::sort(micros.begin(), micros.end());
  printf("set -> seen by a sleeping process: p50 %.1f us, p99 %.1f us\n", micros[kRounds / 2],
         micros[kRounds * 99 / 100]);
}

}  // namespace
}  // namespace tandem
