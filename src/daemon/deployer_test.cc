#include "daemon/deployer.h"

#include <gmock/gmock.h>

#include <cmath>

namespace tandem::daemon {
namespace {

using testing::HasSubstr;

const DeployRule kAccuracy{.conditional = true, .metric = "accuracy", .better_than = "champion"};
const DeployRule kLoss{.conditional = true, .metric = "loss", .better_than = "champion"};

TEST(Compare, PromotesWhatIsBetter) {
  Verdict verdict = Compare(kAccuracy, 0.92, 0.88, "champion, version 1");
  EXPECT_TRUE(verdict.promote);
  EXPECT_EQ(verdict.reason, "accuracy 0.9200 is better than 0.8800 (champion, version 1), on the validation split");
}

TEST(Compare, KnowsThatALowerLossIsBetter) {
  EXPECT_TRUE(Compare(kLoss, 0.2, 0.3, "champion").promote);
  EXPECT_FALSE(Compare(kLoss, 0.3, 0.2, "champion").promote);
}

TEST(Compare, KeepsTheOldOneOnATie) {
  Verdict verdict = Compare(kAccuracy, 0.9, 0.9, "champion");
  EXPECT_FALSE(verdict.promote);
  EXPECT_THAT(verdict.reason, HasSubstr("ties with"));
}

TEST(Compare, PromotesWhenThereIsNothingToBeat) {
  EXPECT_TRUE(Compare(kAccuracy, 0.1, std::nullopt, "champion").promote);
}

TEST(Compare, NeverPromotesWhatIsNotANumber) {
  EXPECT_FALSE(Compare(kAccuracy, std::nan(""), 0.5, "champion").promote);
  EXPECT_FALSE(Compare(kLoss, std::nan(""), 0.5, "champion").promote);
}

TEST(DeployRule, SurvivesItsJson) {
  absl::StatusOr<DeployRule> rule = DeployRuleFromJson(
      ToJson({.alias = "a", .conditional = true, .metric = "loss", .better_than = "0.3", .dataset = "d"}));
  ASSERT_TRUE(rule.ok());
  EXPECT_EQ(rule->alias, "a");
  EXPECT_TRUE(rule->conditional);
  EXPECT_EQ(rule->better_than, "0.3");
  EXPECT_EQ(rule->dataset, "d");
  EXPECT_FALSE(DeployRuleFromJson("{}").ok());
  EXPECT_FALSE(DeployRuleFromJson("not json").ok());
}

}  // namespace
}  // namespace tandem::daemon
