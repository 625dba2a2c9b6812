#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/csv_reader.h"
#include "data/test_files.h"

namespace tandem::data {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Rows = std::vector<std::vector<std::string>>;

Rows ReadAll(std::string_view text) {
  CsvReader reader(text);
  Rows rows;
  std::vector<std::string> fields;
  while (*reader.Next(&fields)) rows.push_back(fields);
  return rows;
}

TEST(CsvReader, ReadsQuotesLineEndsAndTheByteOrderMark) {
  const Rows wanted = {{"a", "b"}, {"1", "x, \"y\"\nz"}, {"", ""}};
  EXPECT_EQ(ReadAll("a,b\n1,\"x, \"\"y\"\"\nz\"\n,\n"), wanted);
  EXPECT_EQ(ReadAll("\xef\xbb\xbf\"a\",b\r\n1,\"x, \"\"y\"\"\nz\"\r\n\r\n,"), wanted);
  EXPECT_EQ(ReadAll("a;b\n1;2"), (Rows{{"a", "b"}, {"1", "2"}}));
  EXPECT_EQ(ReadAll("a\tb\r1\t2\r"), (Rows{{"a", "b"}, {"1", "2"}}));
  EXPECT_EQ(ReadAll(""), Rows());
}

TEST(CsvReader, NamesTheRowOfABadQuote) {
  for (const char* text : {"a,b\n1,2\n\"3,4\n", "a,b\n1,2\n\"3\"x,4\n"}) {
    CsvReader reader(text);
    std::vector<std::string> fields;
    EXPECT_TRUE(*reader.Next(&fields));
    EXPECT_TRUE(*reader.Next(&fields));
    EXPECT_THAT(MessageOfError(reader.Next(&fields).status()), HasSubstr("row 3"));
  }
}

struct Csv {
  explicit Csv(std::string_view text) { folder.Write("t.csv", text); }
  absl::StatusOr<wire::Dataset> Run(const std::string& label = "") const {
    wire::Dataset info = folder.Info("", "t.csv");
    info.set_label_column(label);
    return Inspect(info);
  }
  std::string Error(const std::string& label = "") const { return MessageOfError(Run(label).status()); }
  TempFolder folder;
};

TEST(CsvSet, TurnsTextLabelsIntoSortedClasses) {
  Csv csv("x1,class,x2\n0.5,vogel,2\n-1e3,äffin,3\n+4, vogel ,5\n");
  auto info = csv.Run();
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->format(), "csv");
  EXPECT_EQ(info->label_column(), "class");
  EXPECT_THAT(info->class_names(), ElementsAre("vogel", "äffin"));
  EXPECT_EQ(info->classes(), 2);
  EXPECT_THAT(info->shape(), ElementsAre(2));
  EXPECT_EQ(info->train() + info->val(), 3);
  auto train = Open(*info, Split::kTrain);
  ASSERT_TRUE(train.ok()) << train.status();
  std::vector<float> values(2);
  int32_t label = -1;
  ASSERT_TRUE((*train)->Get(1, values, &label).ok());
  EXPECT_THAT(values, ElementsAre(-1000.0f, 3.0f));
  EXPECT_EQ(label, 1);
}

TEST(CsvSet, TakesNumbersAsTheyAreAndTheLastColumnByDefault) {
  Csv csv("a,b,c\n1,2,0\n3,4,2\n");
  auto info = csv.Run();
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->label_column(), "c");
  EXPECT_EQ(info->classes(), 3);
  EXPECT_EQ(info->class_names_size(), 0);
  auto by_a = csv.Run("a");
  ASSERT_TRUE(by_a.ok()) << by_a.status();
  EXPECT_EQ(by_a->classes(), 4);
}

TEST(CsvSet, ANumberTooSmallForAFloatIsNought) {
  Csv csv("a,b,label\n1e-60,-2e-400,0\n1e-42,3,1\n");
  auto info = csv.Run();
  ASSERT_TRUE(info.ok()) << info.status();
  for (Split split : {Split::kTrain, Split::kVal}) {
    auto samples = Open(*info, split);
    ASSERT_TRUE(samples.ok()) << samples.status();
    for (int64_t i = 0; i < (*samples)->size(); ++i) {
      std::vector<float> values(2);
      int32_t label = -1;
      ASSERT_TRUE((*samples)->Get(i, values, &label).ok());
      EXPECT_EQ(values[1], label == 0 ? 0.0f : 3.0f);
      EXPECT_EQ(values[0], label == 0 ? 0.0f : 1e-42f);
    }
  }
}

TEST(CsvSet, NamesRowAndColumnOfWhatIsWrong) {
  EXPECT_THAT(Csv("a,label\n1,0\n,1\n").Error(), HasSubstr("row 3, column 'a': '' is not a finite number"));
  EXPECT_THAT(Csv("a,label\n1,0\n1.2.3,1\n").Error(), HasSubstr("row 3, column 'a': '1.2.3'"));
  EXPECT_THAT(Csv("a,label\nnan,0\n").Error(), HasSubstr("row 2, column 'a'"));
  EXPECT_THAT(Csv("a,label\n1e39,0\n").Error(), HasSubstr("row 2, column 'a': '1e39' is not a finite number"));
  EXPECT_THAT(Csv("a,label\n1,0\n2\n").Error(), HasSubstr("row 3: has 1 fields, the header has 2"));
  EXPECT_THAT(Csv("a,label\n1,0\n2,-1\n").Error(), HasSubstr("row 3, column 'label'"));
  EXPECT_THAT(Csv("a,label\n1,0\n2,cat\n").Error(), HasSubstr("row 3, column 'label': 'cat' is not a class number"));
  EXPECT_THAT(Csv("a,label\n1,cat\n2,\n").Error(), HasSubstr("row 3, column 'label': the label is empty"));
  EXPECT_THAT(Csv("a,label\n1,0\n2,123456789\n").Error(), HasSubstr("row 3, column 'label'"));
  EXPECT_THAT(Csv("a,label\n1,\xff\n").Error(), HasSubstr("not UTF-8"));
  EXPECT_THAT(Csv("a,label\n").Error(), HasSubstr("no training samples"));
  EXPECT_THAT(Csv("").Error(), HasSubstr("is empty"));
  EXPECT_THAT(Csv("label\n1\n").Error(), HasSubstr("at least one feature"));
  EXPECT_THAT(Csv("a,label\n1,0\n").Error("lable"), HasSubstr("did you mean 'label'"));
}

TEST(CsvSet, ChecksTheOtherFilesAgainstTrain) {
  TempFolder folder;
  folder.Write("train.csv", "a,label\n1,cat\n2,dog\n");
  folder.Write("test.csv", "a,label\n3,dog\n");
  auto info = Inspect(folder.Info());
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->test(), 1);
  auto test = Open(*info, Split::kTest);
  ASSERT_TRUE(test.ok()) << test.status();
  float value = 0;
  int32_t label = -1;
  ASSERT_TRUE((*test)->Get(0, {&value, 1}, &label).ok());
  EXPECT_EQ(label, 1);
  folder.Write("test.csv", "a,label\n3,dgo\n");
  EXPECT_THAT(MessageOfError(Inspect(folder.Info()).status()), HasSubstr("did you mean 'dog'"));
  folder.Write("test.csv", "b,label\n3,dog\n");
  EXPECT_THAT(MessageOfError(Inspect(folder.Info()).status()), HasSubstr("the columns are not those of train.csv"));
}

}  // namespace
}  // namespace tandem::data
