#include "training/checkpoint.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
          .evaluated_step = 3,
          .smoothed_loss = 0.5,
          .loss = 0.25,
          .accuracy = 0.75,
          .tensors = {{"weight/a", at::arange(6, at::kFloat).view({2, 3}).t()},
                      {"weight/\xc3\xa9", at::arange(2, at::kDouble)},
                      {"weight/none", at::empty({0})}}};
}

TEST(Checkpoint, ComesBackAsItWasWritten) {
  auto read = DecodeCheckpoint(EncodeCheckpoint(Example(7)));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->step, 7);
  EXPECT_EQ(read->steps, 100);
  EXPECT_EQ(read->evaluated_step, 3);
  EXPECT_EQ(read->fingerprint, "abc");
  EXPECT_EQ(read->accuracy, 0.75);
  ASSERT_EQ(read->tensors.size(), 3u);
  EXPECT_EQ(read->tensors[1].first, "weight/\xc3\xa9");
  EXPECT_TRUE(read->tensors[0].second.equal(Example(7).tensors[0].second));
  EXPECT_EQ(EncodeCheckpoint(*read), EncodeCheckpoint(Example(7)));
}

TEST(Checkpoint, RefusesEveryTruncationAndEveryChangedByte) {
  const std::string bytes = EncodeCheckpoint(Example(7));
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(DecodeCheckpoint(std::string_view(bytes).substr(0, size)).ok()) << size;
  }
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string changed = bytes;
    changed[i] ^= 1;
    EXPECT_FALSE(DecodeCheckpoint(changed).ok()) << i;
  }
}

TEST(Checkpoint, IsSafeOnHostileBytesWithARightChecksum) {
  const std::string bytes = EncodeCheckpoint(Example(7));
  std::string body = bytes.substr(0, bytes.size() - 64);
  for (size_t i = 8; i < body.size(); ++i) {
    std::string changed = body;
    changed[i] = static_cast<char>(0xff);
    auto ignored = DecodeCheckpoint(changed + Sha256Hex(changed));  // must not crash or take much memory
    (void)ignored;
  }
}

TEST(CheckpointFolder, KeepsTheLatestTwo) {
  TestFolder folder;
  PacedWriter pace(0);
  CheckpointFolder checkpoints(folder.path(), &pace);
  for (int64_t step : {5, 50, 100}) ASSERT_TRUE(checkpoints.Write(Example(step)).ok());
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "checkpoint-5.tckpt"));
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "checkpoint-50.tckpt"));
  auto latest = checkpoints.ReadLatest();
  ASSERT_TRUE(latest.ok() && latest->has_value());
  EXPECT_EQ((*latest)->step, 100);
}

TEST(CheckpointFolder, FallsBackWhenTheLatestIsBrokenAndKeepsTheGoodOne) {
  TestFolder folder;
  PacedWriter pace(0);
  CheckpointFolder checkpoints(folder.path(), &pace);
  for (int64_t step : {50, 100}) ASSERT_TRUE(checkpoints.Write(Example(step)).ok());
  ASSERT_TRUE(WriteFileAtomically(folder.path() / "checkpoint-100.tckpt", "TANDEMCK half a file").ok());
  auto latest = checkpoints.ReadLatest();
  ASSERT_TRUE(latest.ok() && latest->has_value());
  EXPECT_EQ((*latest)->step, 50);
  ASSERT_TRUE(checkpoints.Write(Example(60)).ok());
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "checkpoint-50.tckpt"));
}

TEST(CheckpointFolder, OneOfAnotherVersionIsRefusedAndStays) {
  TestFolder folder;
  PacedWriter pace(0);
  CheckpointFolder checkpoints(folder.path(), &pace);
  ASSERT_TRUE(checkpoints.Write(Example(50)).ok());
  std::string body = EncodeCheckpoint(Example(100));
  body.resize(body.size() - 64);  // without the checksum
  body[8] = 2;                    // the version
  const auto file = folder.path() / "checkpoint-100.tckpt";
  ASSERT_TRUE(WriteFileAtomically(file, body + Sha256Hex(body)).ok());
  auto latest = checkpoints.ReadLatest();
  EXPECT_TRUE(absl::IsFailedPrecondition(latest.status())) << latest.status();
  EXPECT_THAT(std::string(MessageOf(latest.status())), testing::HasSubstr("it has version 2, this program reads 1"));
  EXPECT_TRUE(std::filesystem::exists(file));
}

TEST(CheckpointFolder, AnEmptyFolderHasNone) {
  TestFolder folder;
  PacedWriter pace(0);
  auto latest = CheckpointFolder(folder.path(), &pace).ReadLatest();
  ASSERT_TRUE(latest.ok());
  EXPECT_FALSE(latest->has_value());
}

TEST(CheckpointFolder, AFailedWriteIsAStatusAndLeavesNoFile) {
  TestFolder folder;
  PacedWriter pace(0);
  auto written = CheckpointFolder(folder.path() / "missing", &pace).Write(Example(1));
  EXPECT_FALSE(written.ok());
}

TEST(CheckpointFolder, BigTensorsComeInPiecesAndGiveTheSameBytes) {
  TestFolder folder;
  PacedWriter pace(0);
  Checkpoint big = Example(3);
  big.tensors.emplace_back("weight/big", at::arange(1'000'003, at::kFloat));
  big.tensors.emplace_back("weight/turned", at::arange(600'000, at::kFloat).view({600, 1000}).t());
  ASSERT_TRUE(CheckpointFolder(folder.path(), &pace).Write(big).ok());
  auto bytes = ReadFile(folder.path() / "checkpoint-3.tckpt");
  ASSERT_TRUE(bytes.ok());
  EXPECT_EQ(*bytes, EncodeCheckpoint(big));
  auto read = DecodeCheckpoint(*bytes);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(read->tensors[3].second.equal(big.tensors[3].second));
  EXPECT_TRUE(read->tensors[4].second.equal(big.tensors[4].second));
}

TEST(CheckpointFolder, AStoppedWriteLeavesNoFile) {
  TestFolder folder;
  PacedWriter pace(0);
  StopSource stop;
  stop.request_stop();
  auto written = CheckpointFolder(folder.path(), &pace).Write(Example(1), stop.get_token());
  EXPECT_TRUE(absl::IsCancelled(written.status()));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(CheckpointFolder, WhatAProcessThatDiedLeftUnfinishedIsRemoved) {
  TestFolder folder;
  PacedWriter pace(0);
  CheckpointFolder checkpoints(folder.path(), &pace);
  ASSERT_TRUE(checkpoints.Write(Example(5)).ok());
  ASSERT_TRUE(WriteFileAtomically(folder.path() / "checkpoint-9.tckpt.tmp-123-4", "half").ok());
  ASSERT_TRUE(WriteFileAtomically(folder.path() / "trainer.log", "kept").ok());
  checkpoints.RemoveUnfinished();
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "checkpoint-9.tckpt.tmp-123-4"));
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "checkpoint-5.tckpt"));
  EXPECT_TRUE(std::filesystem::exists(folder.path() / "trainer.log"));
}

}  // namespace
}  // namespace tandem::training
