#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status.h"
#include "scheduling/simulator.h"

namespace tandem::scheduling {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

std::string ErrorOf(const std::string& lines) {
  return std::string(MessageOf(ParseLoad(StrCat(LoadHeader(), "\n", lines), "load.csv").status()));
}

TEST(LoadFile, ReadsWhatItWrote) {
  const std::vector<LoadPoint> written = {{1'790'000'000'000, "fashion", 12.5, 0.8},
                                          {1'790'000'001'000, "speech", 0, 0}};
  std::string csv = StrCat("# recorded\n", LoadHeader(), "\r\n\n");
  for (const LoadPoint& point : written) StrAppend(&csv, ToCsv(point), "\n# a comment\n");
  absl::StatusOr<std::vector<LoadPoint>> read = ParseLoad(csv, "load.csv");
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_THAT(*read, SizeIs(2));
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ((*read)[i].unix_ms, written[i].unix_ms);
    EXPECT_EQ((*read)[i].model, written[i].model);
    EXPECT_EQ((*read)[i].requests_per_s, written[i].requests_per_s);
    EXPECT_EQ((*read)[i].service_ms, written[i].service_ms);
  }
}

TEST(LoadFile, ErrorsNameSourceLineAndField) {
  EXPECT_EQ(ErrorOf("1,a,1,1\n1,a,1\n"),
            "load.csv:3: has 3 fields, must have 4: unix_ms,model,requests_per_s,service_ms");
  EXPECT_THAT(ErrorOf("x,a,1,1"), HasSubstr("load.csv:2: unix_ms: 'x'"));
  EXPECT_THAT(ErrorOf("-1,a,1,1"), HasSubstr("unix_ms: '-1'"));
  EXPECT_THAT(ErrorOf("1,,1,1"), HasSubstr("model: is empty"));
  for (const char* bad : {"", "many", "-1", "nan", "inf", "1e10"}) {
    EXPECT_THAT(ErrorOf(StrCat("1,a,", bad, ",1")), HasSubstr(StrCat("requests_per_s: '", bad, "'")));
  }
  for (const char* bad : {"", "0", "-1", "nan", "10001"}) {
    EXPECT_THAT(ErrorOf(StrCat("1,a,1,", bad)), HasSubstr(StrCat("service_ms: '", bad, "'")));
  }
  EXPECT_THAT(ErrorOf("2,a,1,1\n1,a,1,1"), HasSubstr("load.csv:3: unix_ms: 1 is before the former line's 2; sort"));
  EXPECT_THAT(ErrorOf(""), HasSubstr("holds no load"));
  EXPECT_THAT(std::string(MessageOf(ParseLoad("1,a,1,1\n", "load.csv").status())),
              HasSubstr("load.csv:1: the first line must be the header unix_ms"));
}

}  // namespace
}  // namespace tandem::scheduling
