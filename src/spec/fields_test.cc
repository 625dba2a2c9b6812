#include "spec/fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.h"
#include "base/text.h"

namespace tandem::spec {
namespace {

using ::testing::HasSubstr;

TEST(Fields, SizesAreWrittenAsAPersonWould) {
  const std::pair<int64_t, std::string_view> kTexts[] = {{0, "0"},
                                                         {1, "1"},
                                                         {999, "999"},
                                                         {1'000, "1kB"},
                                                         {1'024, "1KiB"},
                                                         {65'536, "64KiB"},
                                                         {128'000, "128kB"},
                                                         {1'500'000, "1500kB"},
                                                         {256'000'000, "256MB"},
                                                         {int64_t{64} << 20, "64MiB"},
                                                         {int64_t{1000} << 20, "1000MiB"},
                                                         {2'000'000'000, "2GB"},
                                                         {int64_t{2} << 30, "2GiB"},
                                                         {1'234'567, "1234567"},
                                                         {int64_t{1} << 50, "1024TiB"}};
  for (const auto& [bytes, text] : kTexts) EXPECT_EQ(SizeText(bytes), text);
}

TEST(Fields, SizesReadBackAsTheSameNumber) {
  int64_t odd = 1;
  for (int shift = 0; shift <= 50; ++shift, odd = odd * 2 + shift % 3) {
    for (int64_t bytes :
         {int64_t{1} << shift, (int64_t{1} << shift) - 1, odd, odd / 1'000 * 1'000, odd / 1'024 * 1'024}) {
      EXPECT_EQ(ParseBytes(SizeText(bytes)).value(), bytes) << SizeText(bytes);
    }
  }
}

TEST(Fields, ARateIsNoneOrOneAtWhichFilesAreEverDone) {
  const Type<int64_t> rate = Rate();
  EXPECT_EQ(rate.read(Node::Scalar("0"), "r").value(), 0);
  EXPECT_EQ(rate.read(Node::Scalar("0MB/s"), "r").value(), 0);
  EXPECT_EQ(rate.read(Node::Scalar("1000"), "r").value(), 1'000);
  EXPECT_EQ(rate.read(Node::Scalar("1kB/s"), "r").value(), 1'000);
  EXPECT_EQ(rate.read(Node::Scalar("0.001MB/s"), "r").value(), 1'000);
  EXPECT_EQ(rate.write(65'536).text, "64KiB/s");
  for (const char* low : {"5", "999", "0.5", "0.9kB/s", "1/s"}) {
    EXPECT_THAT(MessageOf(rate.read(Node::Scalar(low), "r").status()), HasSubstr("1kB/s or more")) << low;
  }
}

}  // namespace
}  // namespace tandem::spec
