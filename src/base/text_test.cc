#include "base/text.h"

#include <gmock/gmock.h>

namespace tandem {
namespace {

TEST(Nearest, FindsASlipAndIgnoresStrangers) {
  EXPECT_EQ(Nearest("epoch", {"epochs", "batch"}), "epochs");
  EXPECT_EQ(Nearest("zzzzzz", {"epochs", "batch"}), std::nullopt);
  EXPECT_EQ(Nearest("--folow", {"--follow", "--set"}), "--follow");
  EXPECT_EQ(Nearest("--version", {"--json", "--url"}), std::nullopt) << "dashes are no letters";
  EXPECT_EQ(Nearest("--", {"--json"}), std::nullopt);
  EXPECT_EQ(DidYouMean("bacth", {"epochs", "batch"}), "; did you mean 'batch'?");
}

TEST(ParseBytes, TakesDecimalAndBinaryUnits) {
  EXPECT_EQ(*ParseBytes("512"), 512);
  EXPECT_EQ(*ParseBytes("2GB"), 2'000'000'000);
  EXPECT_EQ(*ParseBytes("1.5 GiB"), 1'610'612'736);
  EXPECT_FALSE(ParseBytes("many").ok());
  EXPECT_FALSE(ParseBytes("3 parsec").ok());
}

TEST(ParseSeconds, TakesUnits) {
  EXPECT_DOUBLE_EQ(*ParseSeconds("1500ms"), 1.5);
  EXPECT_DOUBLE_EQ(*ParseSeconds("5 min"), 300);
  EXPECT_DOUBLE_EQ(*ParseSeconds("90"), 90);
  EXPECT_FALSE(ParseSeconds("soon").ok());
}

TEST(HumanText, IsShort) {
  EXPECT_EQ(HumanBytes(7), "7 bytes");
  EXPECT_EQ(HumanBytes(1'234'567), "1.2 MB");
  EXPECT_EQ(HumanSeconds(0.09), "90 ms");
  EXPECT_EQ(HumanSeconds(250), "4 min 10 s");
  EXPECT_EQ(HumanSeconds(240), "4 min");
  EXPECT_EQ(HumanSeconds(5400), "1 h 30 min");
  EXPECT_EQ(HumanSeconds(86400), "24 h");
}

TEST(CheckAlias, RefusesWhatReadsAsAVersion) {
  EXPECT_TRUE(CheckAlias("champion").ok());
  EXPECT_TRUE(CheckAlias("v5").ok());
  for (const char* bad : {"5", "007", "99999999999", "", "a b"}) EXPECT_FALSE(CheckAlias(bad).ok()) << bad;
}

TEST(CheckName, AllowsUnicodeLettersAndRefusesPaths) {
  EXPECT_TRUE(CheckName("model name", "fashion-2.1_a").ok());
  EXPECT_TRUE(CheckName("model name", "模型").ok());
  EXPECT_FALSE(CheckName("model name", "").ok());
  EXPECT_FALSE(CheckName("model name", "../x").ok());
  EXPECT_FALSE(CheckName("model name", "a/b").ok());
  EXPECT_FALSE(CheckName("model name", "a b").ok());
  EXPECT_FALSE(CheckName("model name", "\xff\xfe").ok());
  EXPECT_FALSE(CheckName("model name", std::string(129, 'a')).ok());
}

TEST(IsUtf8, RefusesTruncatedAndOverlongSequences) {
  EXPECT_TRUE(IsUtf8("plain"));
  EXPECT_TRUE(IsUtf8("é模😀"));
  EXPECT_FALSE(IsUtf8("\xe6\xa8"));
  EXPECT_FALSE(IsUtf8("\xc0\x80"));
  EXPECT_FALSE(IsUtf8("\xed\xa0\x80"));
}

TEST(AsUtf8, KeepsUtf8AndReplacesForeignBytes) {
  EXPECT_EQ(AsUtf8("é模😀"), "é模😀");
  EXPECT_EQ(AsUtf8("caf\xe9 \xff!"), "caf? ?!");
  EXPECT_EQ(AsUtf8("\xa8模 \xff é\xe6\xa8"), "?模 ? é??");
  EXPECT_EQ(AsUtf8(""), "");
}

TEST(WholeCharacters, LeavesOutOneThatIsCutShort) {
  const std::string text = "a模😀é";
  const std::vector<size_t> whole = {0, 1, 1, 1, 4, 4, 4, 4, 8, 8, 10};
  for (size_t size = 0; size <= text.size(); ++size) {
    EXPECT_EQ(WholeCharacters(std::string_view(text).substr(0, size)), whole[size]) << size;
  }
  // What is no character anyway does not wait for its rest.
  EXPECT_EQ(WholeCharacters("caf\xff"), 4u);
  EXPECT_EQ(WholeCharacters("\x80\x80\x80\x80"), 4u);
}

}  // namespace
}  // namespace tandem
