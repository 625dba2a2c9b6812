#include "api/v2/shared_memory.h"

#include <gmock/gmock.h>

#include <thread>

#include "api/v2/testing/shm_object.h"

namespace tandem::api::v2 {
namespace {

using ::testing::HasSubstr;
using testing::ShmObject;

std::string_view Text(const SharedMemory::Lease& lease) {
  return {reinterpret_cast<const char*>(lease.data), lease.byte_size};
}

TEST(SharedMemory, FindsPiecesOfWhatWasRegistered) {
  ShmObject object(10'000);
  memcpy(object.bytes() + 5000, "hello", 5);
  SharedMemory regions;
  ASSERT_TRUE(regions.Register({"r", object.key(), 4999, 5001}).ok());
  auto lease = regions.Find("r", 1, 5);
  ASSERT_TRUE(lease.ok()) << lease.status();
  EXPECT_EQ(Text(*lease), "hello");
  lease->data[0] = std::byte{'j'};
  EXPECT_EQ(object.view(5000, 5), "jello");
  EXPECT_FALSE(lease->lost());
  EXPECT_TRUE(regions.Find("r", 5001, 0).ok());
}

TEST(SharedMemory, KeepsALeasedPieceWhenTheRegionIsUnregistered) {
  ShmObject object(100);
  SharedMemory regions;
  ASSERT_TRUE(regions.Register({"r", object.key(), 0, 100}).ok());
  auto lease = regions.Find("r", 0, 100);
  ASSERT_TRUE(lease.ok());
  EXPECT_TRUE(regions.Unregister("r").ok());
  EXPECT_EQ(regions.Find("r", 0, 1).status().code(), absl::StatusCode::kNotFound);
  object.bytes()[99] = 'x';
  EXPECT_EQ(lease->data[99], std::byte{'x'});
}

TEST(SharedMemory, ListsAndUnregistersByNameOrAll) {
  ShmObject object(100);
  SharedMemory regions;
  ASSERT_TRUE(regions.Register({"a", object.key(), 0, 10}).ok());
  ASSERT_TRUE(regions.Register({"b", object.key(), 10, 90}).ok());
  EXPECT_EQ(regions.Status("")->size(), 2);
  EXPECT_EQ((*regions.Status("b"))[0].offset, 10);
  EXPECT_EQ(regions.Status("c").status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(regions.Unregister("never registered").ok());
  EXPECT_TRUE(regions.Unregister("a").ok());
  EXPECT_EQ(regions.Status("")->size(), 1);
  EXPECT_TRUE(regions.Unregister("").ok());
  EXPECT_TRUE(regions.Status("")->empty());
}

TEST(SharedMemory, RefusesARegisteredName) {
  ShmObject object(100);
  SharedMemory regions;
  ASSERT_TRUE(regions.Register({"r", object.key(), 0, 10}).ok());
  EXPECT_EQ(regions.Register({"r", object.key(), 0, 20}).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ((*regions.Status("r"))[0].byte_size, 10);
}

TEST(SharedMemory, RefusesWhatDoesNotLieInTheRegion) {
  ShmObject object(8192);
  SharedMemory regions;
  ASSERT_TRUE(regions.Register({"r", object.key(), 100, 1000}).ok());
  for (auto [offset, size] : std::vector<std::pair<size_t, size_t>>{
           {0, 1001}, {1000, 1}, {1001, 0}, {SIZE_MAX, 1}, {1, SIZE_MAX}, {SIZE_MAX, SIZE_MAX}}) {
    auto lease = regions.Find("r", offset, size);
    EXPECT_EQ(lease.status().code(), absl::StatusCode::kInvalidArgument) << offset << "+" << size;
    EXPECT_THAT(std::string(lease.status().message()), HasSubstr("region 'r' has 1000 bytes"));
  }
}

TEST(SharedMemory, RefusesKeysThatNameNoSharedMemory) {
  SharedMemory regions;
  for (const std::string& key :
       std::vector<std::string>{"", "x", "/", "//x", "/a/b", "/.", "/..", "/../etc", "/" + std::string(256, 'x')}) {
    EXPECT_EQ(regions.Register({"r", key, 0, 1}).code(), absl::StatusCode::kInvalidArgument) << key;
  }
  EXPECT_FALSE(regions.Register({"r", std::string("/a\0b", 4), 0, 1}).ok());
  absl::Status missing = regions.Register({"r", "/tandem-no-such-object", 0, 1});
  EXPECT_EQ(missing.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(missing.message()), HasSubstr("create it before"));
}

TEST(SharedMemory, RefusesSizesThatTheObjectDoesNotHave) {
  ShmObject object(4096);
  SharedMemory regions;
  absl::Status longer = regions.Register({"r", object.key(), 1, 4096});
  EXPECT_EQ(longer.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(longer.message()), HasSubstr("has 4096 bytes, but offset 1 and byte_size 4096 need 4097"));
  EXPECT_FALSE(regions.Register({"r", object.key(), 0, 0}).ok());
  EXPECT_FALSE(regions.Register({"r", object.key(), SIZE_MAX, 1}).ok());
  EXPECT_FALSE(regions.Register({"r", object.key(), 1, SIZE_MAX}).ok());
  EXPECT_FALSE(regions.Register({"", object.key(), 0, 1}).ok());
  EXPECT_FALSE(regions.Register({std::string(256, 'n'), object.key(), 0, 1}).ok());
}

TEST(SharedMemory, RefusesARegionWhoseObjectBecameShorter) {
  ShmObject object(8192);
  SharedMemory regions;
  ASSERT_TRUE(regions.Register({"r", object.key(), 0, 8192}).ok());
  object.Resize(4096);
  auto lease = regions.Find("r", 0, 10);
  EXPECT_EQ(lease.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(lease.status().message()), HasSubstr("register it anew"));
}

TEST(SharedMemory, SurvivesAnObjectThatBecomesShorterWhileItIsUsed) {
  ShmObject object(8192), other(8192);
  SharedMemory regions;
  ASSERT_TRUE(regions.Register({"r", object.key(), 0, 8192}).ok());
  ASSERT_TRUE(regions.Register({"other", other.key(), 0, 8192}).ok());
  memset(object.bytes(), 'x', 8192);
  auto lease = regions.Find("r", 0, 8192), kept = regions.Find("other", 0, 8192);
  ASSERT_TRUE(lease.ok() && kept.ok());
  object.Resize(0);
  const std::string copy(Text(*lease));
  EXPECT_EQ(copy[5000], '\0');
  lease->data[4096] = std::byte{1};
  EXPECT_TRUE(lease->lost());
  EXPECT_FALSE(kept->lost());
  object.Resize(8192);
  EXPECT_FALSE(regions.Find("r", 0, 1).ok()) << "what was lost stays lost until it is registered anew";
  ASSERT_TRUE(regions.Unregister("r").ok());
  ASSERT_TRUE(regions.Register({"r", object.key(), 0, 8192}).ok());
  EXPECT_TRUE(regions.Find("r", 0, 1).ok());
}

TEST(SharedMemory, LendsAUserObjectsOfHisOwnOnly) {
  ShmObject object(100);
  SharedMemory regions;
  const uid_t mine = geteuid(), other = mine + 1;
  EXPECT_EQ(regions.Register({"r", object.key(), 0, 100}, other).code(), absl::StatusCode::kPermissionDenied);
  ASSERT_TRUE(regions.Register({"r", object.key(), 0, 100}, mine).ok());
  EXPECT_EQ(regions.Unregister("r", other).code(), absl::StatusCode::kPermissionDenied);
  EXPECT_TRUE(regions.Unregister("", other).ok());
  EXPECT_EQ(regions.Status("")->size(), 1) << "all of one user's regions are not all";
  EXPECT_TRUE(regions.Unregister("", mine).ok());
  EXPECT_TRUE(regions.Status("")->empty());
}

TEST(SharedMemory, AsksWhoseRegionsACallerMayName) {
  EXPECT_FALSE(SharedMemory::UserOf({.local = false, .may_manage = true}).ok());
  EXPECT_FALSE(SharedMemory::UserOf({.local = true}).ok()) << "the user is not known";
  EXPECT_EQ(SharedMemory::UserOf({.local = true, .may_manage = true, .user_id = 7})->has_value(), false);
  EXPECT_EQ(SharedMemory::UserOf({.local = true, .user_id = 7})->value(), 7);
}

TEST(SharedMemory, IsFoundByManyThreadsWhileItIsRegisteredAndUnregistered) {
  ShmObject object(4096);
  object.bytes()[0] = 'x';
  SharedMemory regions;
  std::atomic<bool> stop = false;
  std::atomic<int> wrong = 0;
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&] {
      while (!stop) {
        auto lease = regions.Find("r", 0, 4096);
        if (lease.ok() && lease->data[0] != std::byte{'x'}) ++wrong;
      }
    });
  }
  for (int i = 0; i < 300; ++i) {
    EXPECT_TRUE(regions.Register({"r", object.key(), 0, 4096}).ok());
    EXPECT_TRUE(regions.Unregister("r").ok());
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace tandem::api::v2
