#include "training/checkpoint_writer.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <latch>
#include <limits>

#include "base/files.h"
#include "base/status.h"
#include "training/test_data.h"

namespace tandem::training {
namespace {

Checkpoint Example(int64_t step) {
  return {.fingerprint = "abc",
          .precision = "fp32",
          .step = step,
          .steps = 100,
          .tensors = {{"weight/a", at::arange(600'000, at::kFloat)}}};
}

TEST(CheckpointWriter, WritesWhatCheckpointFolderWritesAndSaysWhenItIsThere) {
  TestFolder folder;
  PacedWriter pace(0);
  CheckpointFolder checkpoints(folder.path(), &pace);
  std::latch done(1);
  CheckpointWriter writer(&checkpoints, [&] { done.count_down(); });
  EXPECT_FALSE(writer.Take().has_value());
  writer.Begin(Example(7));
  EXPECT_TRUE(writer.busy());
  done.wait();
  auto result = writer.Take();
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->step, 7);
  ASSERT_TRUE(result->file.ok()) << result->file.status();
  EXPECT_EQ(ReadFile(*result->file).value(), EncodeCheckpoint(Example(7)));
  EXPECT_FALSE(writer.busy());
}

TEST(CheckpointWriter, WaitGivesEachResultOnce) {
  TestFolder folder;
  PacedWriter pace(0);
  CheckpointFolder checkpoints(folder.path(), &pace);
  CheckpointWriter writer(&checkpoints, [] {});
  for (int64_t step : {1, 2, 3}) {
    writer.Begin(Example(step));
    auto result = writer.Wait();
    ASSERT_TRUE(result.has_value() && result->file.ok());
    EXPECT_EQ(result->step, step);
    EXPECT_FALSE(writer.Wait().has_value());
  }
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "checkpoint-1.tckpt"));
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "checkpoint-3.tckpt"));
}

TEST(CheckpointWriter, RefusesANumberThatIsNone) {
  TestFolder folder;
  PacedWriter pace(0);
  CheckpointFolder checkpoints(folder.path(), &pace);
  CheckpointWriter writer(&checkpoints, [] {});
  Checkpoint bad = Example(1);
  bad.tensors.emplace_back("weight/b", at::full({3}, std::numeric_limits<double>::quiet_NaN(), at::kFloat));
  writer.Begin(bad);
  auto result = writer.Wait();
  ASSERT_TRUE(result.has_value());
  EXPECT_TRUE(absl::IsOutOfRange(result->file.status()));
  EXPECT_EQ(MessageOf(result->file.status()), "'weight/b' holds NaN or infinity");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(CheckpointWriter, OneThatIsDroppedInMidFileLeavesNothing) {
  TestFolder folder;
  std::latch begun(1), dropped(1);
  FakeClock clock;
  bool first = true;
  PacedWriter pace(1e6, &clock, [&](int64_t nanos) {
    clock.AdvanceMillis(nanos / 1'000'000 + 1);
    if (!std::exchange(first, false)) return;
    begun.count_down();
    dropped.wait();
  });
  CheckpointFolder checkpoints(folder.path(), &pace);
  Checkpoint big = Example(1);
  big.tensors.push_back({"weight/b", at::arange(2'000'000, at::kFloat)});
  CheckpointWriter writer(&checkpoints, [] {});
  writer.Begin(big);
  begun.wait();
  writer.Drop();
  dropped.count_down();
  auto result = writer.Wait();
  ASSERT_TRUE(result.has_value());
  EXPECT_TRUE(absl::IsCancelled(result->file.status())) << result->file.status();
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace tandem::training
