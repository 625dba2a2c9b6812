#pragma once
// For tests against the real kernel.
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/files.h"
#include "base/strings.h"
#include "isolation/isolation.h"
#include "isolation/kernel_file.h"

namespace tandem::isolation {

// Looks at `state` every few milliseconds until it holds; false after 20 s.
inline bool Eventually(const std::function<bool()>& state) {
  const int64_t end = Clock::Real()->MonotonicNanos() + 20'000'000'000;
  while (!state()) {
    if (Clock::Real()->MonotonicNanos() > end) return false;
    poll(nullptr, 0, 2);
  }
  return true;
}

// Lets `ms` pass, as a window to measure in.
inline void Pass(int ms) { poll(nullptr, 0, ms); }

// A folder, and daemons that are told apart from all others.
class HostTest : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/tandem-isolation-XXXXXX";
    folder_ = mkdtemp(pattern);
    static std::atomic<int> next{0};
    instance_ = StrCat("test-", getpid(), "-", next.fetch_add(1));
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::unique_ptr<Isolation> Make(const std::string& wanted = "auto", double budget_ms = 100) {
    auto isolation = Isolation::Create(
        {.instance = instance_, .disk_folder = folder_.string(), .wanted = wanted, .budget_ms = budget_ms});
    EXPECT_TRUE(isolation.ok()) << isolation.status();
    return isolation.ok() ? *std::move(isolation) : nullptr;
  }
  // The lowest weight is right for jobs, but a test on a busy machine would wait for ever: these run like any program.
  static void LetRun(const ResourceGroup& group) {
    for (const auto& [file, text] : group.JoinFiles()) {
      const std::filesystem::path parent = std::filesystem::path(file).parent_path().parent_path();
      TryWriteKernelFile(parent / "cpu.shares", "20480");
      TryWriteKernelFile(parent / "cpu.weight", "2000");
    }
  }
  std::unique_ptr<ChildProcess> Run(std::vector<std::string> argv, ResourceGroup* group) {
    auto child =
        ChildProcess::Spawn({.argv = std::move(argv), .group = group, .output_file = (folder_ / "out").string()});
    EXPECT_TRUE(child.ok()) << child.status();
    return child.ok() ? *std::move(child) : nullptr;
  }
  std::unique_ptr<ChildProcess> Shell(const std::string& script, ResourceGroup* group) {
    return Run({"/bin/sh", "-c", script}, group);
  }
  std::string Output() { return ReadFile(folder_ / "out").value_or(""); }

  std::filesystem::path folder_;
  std::string instance_;
};

// Why a test is skipped, of what the host cannot do.
#define TANDEM_NEEDS(isolation, ability)    \
  if (!(isolation)->capabilities().ability) \
  GTEST_SKIP() << "this host does not enforce '" #ability "': " << (isolation)->capabilities().explanation

}  // namespace tandem::isolation
