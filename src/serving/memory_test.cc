#include "serving/memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tandem::serving {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

MemoryUser User(std::string model, int64_t bytes, bool evictable, int64_t last_used,
                VersionState state = VersionState::kReady) {
  MemoryUser user;
  user.status.model = std::move(model);
  user.status.version = 1;
  user.status.state = state;
  user.status.memory_bytes = bytes;
  user.evictable = evictable;
  user.last_used_nanos = last_used;
  return user;
}

TEST(Memory, TheLeastRecentlyUsedGoesFirstAndNoMoreThanMust) {
  std::vector<MemoryUser> users = {User("a", 1000, true, 30), User("b", 1000, true, 10), User("c", 1000, true, 20)};
  EXPECT_THAT(ChooseEvictions(1000, 3000, users), ElementsAre(1));
  EXPECT_THAT(ChooseEvictions(1500, 3000, users), ElementsAre(1, 2));
  EXPECT_THAT(ChooseEvictions(1000, 4000, users), IsEmpty()) << "it fits";
  EXPECT_THAT(ChooseEvictions(1000, 0, users), IsEmpty()) << "no limit";
}

TEST(Memory, NobodyGoesWhenItWouldNotHelp) {
  std::vector<MemoryUser> users = {User("fixed", 2000, false, 1), User("b", 1000, true, 10)};
  EXPECT_THAT(ChooseEvictions(1000, 3000, users), ElementsAre(1));
  EXPECT_THAT(ChooseEvictions(1001, 3000, users), IsEmpty());
  EXPECT_THAT(ChooseEvictions(4000, 3000, {}), IsEmpty());
}

TEST(Memory, WhatIsBeingUnloadedIsWaitedForBeforeAnybodyElseGoes) {
  std::vector<MemoryUser> users = {User("old", 1000, false, 1, VersionState::kUnloading), User("b", 1000, true, 10)};
  EXPECT_THAT(ChooseEvictions(1000, 2000, users), IsEmpty());
  EXPECT_FALSE(CheckMemory("m", 3, 1000, 2000, users).ok()) << "it still holds its memory";
}

TEST(Memory, TheRefusalNamesWhoHoldsIt) {
  EXPECT_EQ(CheckMemory("m", 3, 4000, 3000, {}).message(),
            "model 'm' version 3 needs 4.0 kB of memory, and 0 bytes of the limit of 3.0 kB (serving.memory) are "
            "taken; raise the limit");
  absl::Status status = CheckMemory("m", 3, 2000, 3000, {User("a", 1500, false, 1)});
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(),
            "model 'm' version 3 needs 2.0 kB of memory, and 1.5 kB of the limit of 3.0 kB (serving.memory) are taken; "
            "unload one of 'a' "
            "version 1 (1.5 kB), or raise it");
  EXPECT_TRUE(CheckMemory("m", 3, 1500, 3000, {User("a", 1500, false, 1)}).ok());
  EXPECT_TRUE(CheckMemory("m", 3, 1500, 0, {User("a", 1500, false, 1)}).ok());
}

}  // namespace
}  // namespace tandem::serving
