#include "training/out_of_memory.h"

#include <ATen/ops/empty.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <new>

#include "base/status.h"

namespace tandem::training {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

TEST(ExplainOutOfMemory, NamesTheBytesThatLibTorchDidNotGet) {
  absl::Status status = ExplainOutOfMemory(CatchToStatus("training thread", [] {
    at::empty({int64_t{1} << 55}, at::kFloat);
    return absl::OkStatus();
  }));
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_EQ(MessageOf(status), StrCat("out of memory: an allocation of ", int64_t{1} << 57,
                                      " bytes failed; lower batch or micro_batch, or raise resources.memory"));
}

TEST(ExplainOutOfMemory, KnowsItInANodeOfTheGraph) {
  absl::Status status = ExplainOutOfMemory(InvalidArgument(
      "node 'conv1' (Conv): [enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: not enough memory: you tried to "
      "allocate 4096 bytes. Error code 12"));
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(std::string(MessageOf(status)), StartsWith("out of memory: an allocation of 4096 bytes failed"));
}

TEST(ExplainOutOfMemory, KnowsBadAlloc) {
  absl::Status status =
      ExplainOutOfMemory(CatchToStatus("training thread", []() -> absl::Status { throw std::bad_alloc(); }));
  EXPECT_THAT(std::string(MessageOf(status)), StartsWith("out of memory: an allocation failed; lower batch"));
}

TEST(ExplainOutOfMemory, LeavesAllElseAsItIs) {
  EXPECT_TRUE(ExplainOutOfMemory(absl::OkStatus()).ok());
  EXPECT_EQ(ExplainOutOfMemory(Internal("another")), Internal("another"));
  EXPECT_EQ(ExplainOutOfMemory(ResourceExhausted("no space: bad_alloc")), ResourceExhausted("no space: bad_alloc"));
}

}  // namespace
}  // namespace tandem::training
