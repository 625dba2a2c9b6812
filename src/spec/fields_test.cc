#include "spec/fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"

namespace tandem::spec {
namespace {

using ::testing::HasSubstr;

TEST(Fields, ARateIsNoneOrOneAtWhichFilesAreEverDone) {
  const Type<int64_t> rate = Rate();
  EXPECT_EQ(rate.read(Node::Scalar("0"), "r").value(), 0);
  EXPECT_EQ(rate.read(Node::Scalar("0MB/s"), "r").value(), 0);
  EXPECT_EQ(rate.read(Node::Scalar("1000"), "r").value(), 1'000);
  EXPECT_EQ(rate.read(Node::Scalar("1kB/s"), "r").value(), 1'000);
  EXPECT_EQ(rate.read(Node::Scalar("0.001MB/s"), "r").value(), 1'000);
  for (const char* low : {"5", "999", "0.5", "0.9kB/s", "1/s"}) {
    EXPECT_THAT(MessageOf(rate.read(Node::Scalar(low), "r").status()), HasSubstr("1kB/s or more")) << low;
  }
}

}  // namespace
}  // namespace tandem::spec
