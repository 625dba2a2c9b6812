#include <gmock/gmock.h>

#include "api/http/body_buffer.h"
#include "api/http/json_writer.h"
#include "api/http/request.h"
#include "api/http/router.h"
#include "api/http/uri.h"

namespace tandem::api::http {
namespace {

TEST(JsonWriter, EscapesTextAndPutsCommas) {
  std::string out;
  JsonWriter json(&out);
  json.BeginObject()
      .Key("a\"")
      .String("\\\n\x01\x7f")
      .Key("b")
      .BeginArray()
      .Number(1)
      .Bool(false)
      .EndArray()
      .EndObject();
  EXPECT_EQ(out, "{\"a\\\"\":\"\\\\\\n\\u0001\\u007f\",\"b\":[1,false]}");
}

TEST(JsonWriter, NeverWritesBytesThatAreNotUtf8) {
  std::string out;
  JsonWriter(&out).BeginArray().String("\xc3\xa9").String("a\xff\xc3").EndArray();
  EXPECT_EQ(out, "[\"\xc3\xa9\",\"a??\"]");
}

TEST(JsonWriter, WritesLongArraysOfNumbersInTheirShortestForm) {
  std::vector<double> values(2000, -1.7976931348623157e308);
  std::string out, expected = "[";
  JsonWriter(&out).Numbers(values.data(), static_cast<int64_t>(values.size()));
  for (size_t i = 0; i < values.size(); ++i)
    expected += i == 0 ? "-1.7976931348623157e+308" : ",-1.7976931348623157e+308";
  EXPECT_EQ(out, expected + "]");
  out.clear();
  float one = 0.1f;
  JsonWriter(&out).Numbers(&one, 1);
  EXPECT_EQ(out, "[0.1]");
}

TEST(Uri, DecodesPercentAndRefusesHalfOnes) {
  std::string out;
  EXPECT_TRUE(PercentDecode("a%20b+%C3%a9", &out));
  EXPECT_EQ(out, "a b+\xc3\xa9");
  for (const char* bad : {"%", "%4", "a%4", "%G0", "%0x"}) EXPECT_FALSE(PercentDecode(bad, &out)) << bad;
}

TEST(Uri, ReadsQueryParameters) {
  EXPECT_EQ(*QueryText("a=1&bb=x+y%26&c", "bb"), "x y&");
  EXPECT_EQ(*QueryText("a=1&bb=2", "b"), "");
  EXPECT_EQ(*QueryText("a=1&c", "c"), "");
  EXPECT_EQ(*QueryInt("n=-5", "n", 3), -5);
  EXPECT_EQ(*QueryInt("", "n", 3), 3);
  EXPECT_FALSE(QueryInt("n=5x", "n", 3).ok());
  EXPECT_FALSE(QueryInt("n=99999999999999999999", "n", 3).ok());
  EXPECT_EQ(*QuerySeconds("s=1.5", "s", 0), 1.5);
  for (const char* bad : {"s=-1", "s=nan", "s=inf", "s=%G"}) EXPECT_FALSE(QuerySeconds(bad, "s", 0).ok()) << bad;
}

TEST(Router, FindsEachOfItsOwnRoutes) {
  Router router;
  for (const Route& route : Routes()) {
    PathParams params;
    Router::Found found = router.Find(route.verb, route.pattern, false, &params);
    ASSERT_EQ(found.route, &route) << route.pattern;
    EXPECT_EQ(found.route->handler == nullptr, route.plane == Plane::kInfer);
  }
}

TEST(Router, LetsOnlyReadersDoWithoutManagingRights) {
  for (const Route& route : Routes()) {
    const bool managed = route.pattern.starts_with("/api/");
    EXPECT_TRUE(!managed || route.need == Need::kManage) << route.pattern;
    const bool open = route.need == Need::kNothing;
    EXPECT_TRUE(!open || route.pattern.starts_with("/v2/health/")) << route.pattern;
  }
}

TEST(Router, LooksNoUserUpForWhatIsAnsweredAtOnce) {
  for (const Route& route : Routes()) {
    if (route.plane != Plane::kAtOnce) continue;
    EXPECT_TRUE(route.need == Need::kNothing || route.need == Need::kUse) << route.pattern;
  }
}

TEST(BodyBuffer, KeepsItsBytesAndItsAlignmentWhenItGrows) {
  BodyBuffer buffer;
  buffer.Start(10, 5);
  std::string all;
  for (int i = 0; i < 1000; ++i) {
    buffer.Append("0123456789");
    all += "0123456789";
  }
  EXPECT_EQ(buffer.view(), all);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.view().data() + 5) % 64, 0);
  buffer.Clear();
  EXPECT_EQ(buffer.size(), 0);
}

TEST(LevelOf, WarnsOfTheServersOwnMistakesOnly) {
  EXPECT_EQ(LevelOf(Verb::kPost, 200), LogLevel::kInfo);
  EXPECT_EQ(LevelOf(Verb::kGet, 200), LogLevel::kDebug);
  EXPECT_EQ(LevelOf(Verb::kPost, 400), LogLevel::kDebug);
  EXPECT_EQ(LevelOf(Verb::kGet, 500), LogLevel::kWarning);
  EXPECT_EQ(LevelOf(Verb::kPost, 503), LogLevel::kWarning);
  EXPECT_EQ(LevelOf(Verb::kPost, 501), LogLevel::kDebug) << "the client asked for what is not built";
}

}  // namespace
}  // namespace tandem::api::http
