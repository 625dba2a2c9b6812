#include "training/gate_watcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <latch>

#include "base/files.h"
#include "base/status.h"
#include "training/test_data.h"

namespace tandem::training {
namespace {

TEST(GateWatcher, ThePoolFollowsTheWord) {
  TestFolder folder;
  auto word = PressureWord::Create(folder.path() / "word", 0);
  ASSERT_TRUE(word.ok()) << word.status();
  WorkerPool pool(2);
  auto gate = GateWatcher::Open(folder.path() / "word", &pool);
  ASSERT_TRUE(gate.ok()) << gate.status();
  EXPECT_EQ(pool.threads(), 0) << "closed before anything could be begun";
  std::latch both(2);
  WorkerPool::Work work;
  work.items = 20;
  work.body = [&](int64_t i) {
    if (i < 2) both.arrive_and_wait();
    return absl::OkStatus();
  };
  pool.Start(work);
  (*word)->Set(2);
  ASSERT_TRUE(pool.Finish().ok());
  (*word)->Set(4'000'000'000u);  // no number of threads is too large
  work.body = [](int64_t) { return absl::OkStatus(); };
  ASSERT_TRUE(pool.Run(work).ok());
  EXPECT_EQ(pool.threads(), 2);
}

TEST(GateWatcher, AGateThatStaysClosedIsSaidAndItsOpeningToo) {
  TestFolder folder;
  auto word = PressureWord::Create(folder.path() / "word", 0);
  ASSERT_TRUE(word.ok()) << word.status();
  WorkerPool pool(1);
  auto gate = GateWatcher::Open(folder.path() / "word", &pool);
  ASSERT_TRUE(gate.ok()) << gate.status();
  std::vector<bool> said;
  WorkerPool::Work work;
  work.items = 1;
  work.body = [&](int64_t) { return absl::OkStatus(); };
  work.on_wake = [&] {
    said.push_back((*gate)->closed_for_long());
    (*word)->Set(1);
  };
  ASSERT_TRUE(pool.Run(work).ok());
  ASSERT_FALSE(said.empty());
  EXPECT_TRUE(said.front());
}

TEST(GateWatcher, AWordThatCannotBeReadIsAnErrorThatNamesIt) {
  TestFolder folder;
  WorkerPool pool(1);
  auto gate = GateWatcher::Open(folder.path() / "missing", &pool);
  EXPECT_THAT(std::string(MessageOf(gate.status())), testing::HasSubstr("missing"));
  ASSERT_TRUE(WriteFileAtomically(folder.path() / "short", "x").ok());
  EXPECT_FALSE(GateWatcher::Open(folder.path() / "short", &pool).ok());
}

}  // namespace
}  // namespace tandem::training
