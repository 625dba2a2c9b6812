#include "engine/run_socket.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "base/status.h"
#include "engine/arena.h"
#include "engine/packet.h"

namespace tandem::engine {
namespace {

TEST(Arena, CannotShrinkAndIsNotMappedBeyondItsEnd) {
  absl::StatusOr<Arena> arena = Arena::Create();
  ASSERT_TRUE(arena.ok()) << arena.status();
  ASSERT_TRUE(arena->Reserve(100'000).ok());
  const size_t size = arena->size();
  EXPECT_NE(ftruncate(arena->fd(), 10), 0);
  EXPECT_FALSE(arena->Map(size + 1).ok());
  EXPECT_EQ(arena->Reserve(Arena::kMaxBytes + 1).code(), absl::StatusCode::kResourceExhausted);
  std::memset(arena->data(), 7, size);
  EXPECT_TRUE(arena->Reserve(50 * size).ok());
  EXPECT_EQ(arena->data()[size - 1], std::byte{7});
  UniqueFd plain(memfd_create("plain", MFD_CLOEXEC));
  EXPECT_EQ(Arena::Open(std::move(plain)).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(RunTensor, IsCheckedAgainstItsTypeShapeAndPlace) {
  auto check = [](DType dtype, const Shape& shape, size_t offset, size_t bytes) {
    return CheckRunTensor(MakeRunTensor(dtype, shape, offset, bytes), 4096).ok();
  };
  EXPECT_TRUE(check(DType::kFloat32, {2, 3}, 64, 24));
  EXPECT_TRUE(check(DType::kString, {1}, 0, 4));
  EXPECT_FALSE(check(DType::kFloat32, {2, 3}, 64, 20));
  EXPECT_FALSE(check(DType::kFloat32, {-1}, 0, 4));
  EXPECT_FALSE(check(DType::kUint8, {4096}, 64, 4096)) << "ends outside";
  EXPECT_FALSE(check(DType::kUint8, {1}, SIZE_MAX - 63, 1)) << "begins outside";
  EXPECT_FALSE(check(DType::kUint8, {1}, 1, 1)) << "not aligned";
  RunTensor deep = MakeRunTensor(DType::kUint8, {1}, 0, 1);
  deep.rank = 9;
  EXPECT_FALSE(CheckRunTensor(deep, 4096).ok());
}

class RunSocketTest : public ::testing::Test {
 protected:
  RunSocketTest() : RunSocketTest(*MakePacketPair()) {}
  explicit RunSocketTest(std::pair<UniqueFd, UniqueFd> pair)
      : socket_(std::move(pair.first)), peer_(std::move(pair.second)) {}
  RunSocket::Got Receive() { return socket_.Receive(&arena_bytes_, &tensors_, &status_); }
  RunSocket::Got ReceiveRaw(const void* bytes, size_t size) {
    EXPECT_EQ(send(peer_.get(), bytes, size, 0), static_cast<ssize_t>(size));
    return Receive();
  }

  RunSocket socket_;
  UniqueFd peer_;
  size_t arena_bytes_ = 0;
  std::vector<RunTensor> tensors_;
  absl::Status status_;
};

TEST_F(RunSocketTest, WhatIsSentArrives) {
  RunSocket peer(std::move(peer_));
  std::vector<RunTensor> many(kMaxRunTensors, MakeRunTensor(DType::kInt8, {5}, 64, 5));
  ASSERT_TRUE(peer.Send(4096, many, NotFound(std::string(2 * kMaxRunTextBytes, 'x'))));
  ASSERT_EQ(Receive(), RunSocket::Got::kPacket);
  EXPECT_EQ(arena_bytes_, 4096u);
  EXPECT_EQ(tensors_.size(), kMaxRunTensors);
  EXPECT_EQ(tensors_.back().shape[0], 5);
  EXPECT_EQ(status_.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status_.message().size(), kMaxRunTextBytes);
}

TEST_F(RunSocketTest, PacketsThatLieAreNonsense) {
  EXPECT_EQ(ReceiveRaw("short", 5), RunSocket::Got::kNonsense);
  RunHead head = {.tensors = 1};
  EXPECT_EQ(ReceiveRaw(&head, sizeof head), RunSocket::Got::kNonsense) << "a tensor is missing";
  head = {.tensors = 0xffffffff};
  EXPECT_EQ(ReceiveRaw(&head, sizeof head), RunSocket::Got::kNonsense);
  head = {.text_bytes = 0xffffffff};
  EXPECT_EQ(ReceiveRaw(&head, sizeof head), RunSocket::Got::kNonsense);
  std::vector<char> huge(100'000);
  EXPECT_EQ(ReceiveRaw(huge.data(), huge.size()), RunSocket::Got::kNonsense);
  head = {.code = 4711};
  EXPECT_EQ(ReceiveRaw(&head, sizeof head), RunSocket::Got::kPacket);
  EXPECT_EQ(status_.code(), absl::StatusCode::kInternal) << "a code that nobody knows";
}

TEST_F(RunSocketTest, SilenceIsATimeoutAndAClosedPeerTheEnd) {
  ASSERT_TRUE(socket_.SetTimeout(0.02).ok());
  EXPECT_EQ(Receive(), RunSocket::Got::kTimeout);
  peer_.Reset();
  EXPECT_EQ(Receive(), RunSocket::Got::kEnd);
  EXPECT_FALSE(socket_.Send(0, {}));
}

}  // namespace
}  // namespace tandem::engine
