#include "data/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/status.h"
#include "data/test_files.h"

namespace tandem::data {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Error(const TempFolder& folder, const std::string& format = "") {
  return MessageOfError(Inspect(folder.Info(format)).status());
}

// `count` images of 2 x 3; pixel 0 of image i is i, labels go 0, 1, 2, 0, ...
void WriteIdx(const TempFolder& folder, const std::string& stem, uint32_t count, bool gzip) {
  std::string images = IdxHeader({count, 2, 3}), labels = IdxHeader({count});
  for (uint32_t i = 0; i < count; ++i) {
    images += {static_cast<char>(i), 1, 2, 3, 4, static_cast<char>(255)};
    labels += static_cast<char>(i % 3);
  }
  const std::string ending = gzip ? ".gz" : "";
  folder.Write(stem + "-images-idx3-ubyte" + ending, gzip ? Gzip(images) : images);
  folder.Write(stem + "-labels-idx1-ubyte" + ending, gzip ? Gzip(labels) : labels);
}

TEST(IdxSet, ReadsPlainAndGzippedFilesAlike) {
  for (bool gzip : {false, true}) {
    TempFolder folder;
    WriteIdx(folder, "train", 100, gzip);
    WriteIdx(folder, "t10k", 5, gzip);
    auto info = Inspect(folder.Info());
    ASSERT_TRUE(info.ok()) << info.status();
    EXPECT_EQ(info->format(), "idx");
    EXPECT_THAT(info->shape(), ElementsAre(1, 2, 3));
    EXPECT_EQ(info->classes(), 3);
    EXPECT_EQ(info->train() + info->val(), 100);
    EXPECT_EQ(info->test(), 5);
    EXPECT_EQ(info->sha256().size(), 64u);
    EXPECT_GT(info->bytes(), 0);
    auto test = Open(*info, Split::kTest);
    ASSERT_TRUE(test.ok()) << test.status();
    std::vector<float> image(6);
    int32_t label = -1;
    ASSERT_TRUE((*test)->Get(4, image, &label).ok());
    EXPECT_THAT(image, ElementsAre(4 / 255.0f, 1 / 255.0f, 2 / 255.0f, 3 / 255.0f, 4 / 255.0f, 1.0f));
    EXPECT_EQ(label, 1);
    EXPECT_FALSE((*test)->Get(5, image, &label).ok());
    EXPECT_FALSE((*test)->Get(-1, image, &label).ok());
    EXPECT_FALSE((*test)->Get(0, std::span(image).first(5), &label).ok());
  }
}

TEST(IdxSet, SplitsTrainOnceAndForAll) {
  TempFolder folder;
  WriteIdx(folder, "train", 200, false);
  auto info = Inspect(folder.Info());
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_NEAR(info->val(), 20, 12);
  std::multiset<int> seen;
  for (Split split : {Split::kTrain, Split::kVal}) {
    auto set = Open(*info, split);
    ASSERT_TRUE(set.ok()) << set.status();
    EXPECT_EQ((*set)->size(), split == Split::kTrain ? info->train() : info->val());
    std::vector<float> image(6);
    int32_t label = 0;
    for (int64_t i = 0; i < (*set)->size(); ++i) {
      ASSERT_TRUE((*set)->Get(i, image, &label).ok());
      const int number = static_cast<int>(image[0] * 255 + 0.5f);
      EXPECT_EQ(label, number % 3);
      seen.insert(number);
    }
  }
  EXPECT_EQ(seen.size(), 200u);
  EXPECT_EQ(std::set<int>(seen.begin(), seen.end()).size(), 200u);
  EXPECT_THAT(MessageOfError(Open(*info, Split::kTest).status()), HasSubstr("no test samples"));
}

TEST(IdxSet, GivesATinySetBothParts) {
  TempFolder folder;
  WriteIdx(folder, "train", 2, false);
  auto info = Inspect(folder.Info());
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->train(), 1);
  EXPECT_EQ(info->val(), 1);
}

TEST(IdxSet, NamesTheByteWhereATruncatedFileEnds) {
  for (bool gzip : {false, true}) {
    TempFolder folder;
    WriteIdx(folder, "train", 50, gzip);
    for (const std::string content : {"images-idx3", "labels-idx1"}) {
      const std::string name = StrCat("train-", content, "-ubyte", gzip ? ".gz" : "");
      const std::string whole = folder.Read(name);
      for (size_t size : {size_t{0}, size_t{3}, size_t{7}, size_t{12}, whole.size() / 2, whole.size() - 1}) {
        folder.Write(name, whole.substr(0, size));
        const std::string message = Error(folder, "idx");
        EXPECT_THAT(message, HasSubstr(name));
        EXPECT_THAT(message, HasSubstr("byte")) << size;
      }
      folder.Write(name, whole + "x");
      EXPECT_EQ(Inspect(folder.Info()).ok(), gzip);  // gzip ignores what follows its last member
      folder.Write(name, whole);
    }
    EXPECT_TRUE(Inspect(folder.Info()).ok());
  }
}

TEST(IdxSet, RefusesHostileHeadersWithoutAllocating) {
  TempFolder folder;
  WriteIdx(folder, "train", 3, false);
  auto with = [&](const std::string& images) {
    folder.Write("train-images-idx3-ubyte", images);
    return Error(folder);
  };
  EXPECT_THAT(with("PNG..............."), HasSubstr("byte 0"));
  EXPECT_THAT(with(std::string("\0\0\x0d\3", 4) + std::string(12, '\0')), HasSubstr("byte 2: element type 13"));
  EXPECT_THAT(with(std::string("\0\0\x08\x09", 4) + std::string(12, '\0')), HasSubstr("byte 3: 9 dimensions"));
  EXPECT_THAT(with(IdxHeader({0xffffffff, 0xffffffff, 0xffffffff})), HasSubstr("too many elements"));
  EXPECT_THAT(with(IdxHeader({0xffffffff, 0xffff, 1})), HasSubstr("its header promises"));
  EXPECT_THAT(with(Gzip(IdxHeader({0xffffffff, 0xffff, 1}))), HasSubstr("more than"));
  EXPECT_THAT(with(IdxHeader({3}) + "abc"), HasSubstr("holds labels, not images"));
  EXPECT_THAT(with(IdxHeader({2, 1, 1}) + "ab"), HasSubstr("2 images"));
  EXPECT_THAT(with(IdxHeader({3, 0, 0})), HasSubstr("shape [1,0,0]"));
}

TEST(IdxSet, NamesTheSampleWhoseLabelIsOutOfRange) {
  TempFolder folder;
  WriteIdx(folder, "train", 6, false);
  WriteIdx(folder, "t10k", 2, false);
  folder.Write("t10k-labels-idx1-ubyte", IdxHeader({2}) + "\x01\x07");
  EXPECT_THAT(Error(folder), HasSubstr("t10k-labels-idx1-ubyte': sample 1 has label 7, but there are 3 classes"));
}

TEST(Open, NoticesThatFilesChangedSinceTheyWereAdded) {
  TempFolder folder;
  WriteIdx(folder, "train", 20, false);
  auto info = Inspect(folder.Info());
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_TRUE(Open(*info, Split::kTrain).ok());
  std::string images = folder.Read("train-images-idx3-ubyte");
  images.back() = 9;
  folder.Write("train-images-idx3-ubyte", images);  // the same size
  EXPECT_THAT(MessageOfError(Open(*info, Split::kTrain).status()), HasSubstr("changed since it was added"));
  WriteIdx(folder, "train", 21, false);
  EXPECT_THAT(MessageOfError(Open(*info, Split::kTrain).status()), HasSubstr("run tandem dataset add again"));
  std::filesystem::remove(folder.path("train-images-idx3-ubyte"));
  EXPECT_FALSE(Open(*info, Split::kTrain).ok());
  EXPECT_THAT(MessageOfError(Open(folder.Info("idx"), Split::kTrain).status()), HasSubstr("was not inspected"));
}

TEST(Inspect, HashesNamesAndContentsButNotTheFolder) {
  TempFolder a, b;
  WriteIdx(a, "train", 20, false);
  WriteIdx(b, "train", 20, false);
  EXPECT_EQ(Inspect(a.Info())->sha256(), Inspect(b.Info())->sha256());
  WriteIdx(b, "train", 21, false);
  EXPECT_NE(Inspect(a.Info())->sha256(), Inspect(b.Info())->sha256());
}

TEST(Inspect, SaysWhyItCannotGuessAFormat) {
  TempFolder folder;
  EXPECT_THAT(Error(folder), HasSubstr("is none of the known formats (idx: "));
  EXPECT_THAT(Error(folder, "cvs"), HasSubstr("did you mean 'csv'"));
  EXPECT_THAT(Error(folder, "idx"), HasSubstr("no train-images-idx3-ubyte"));
  EXPECT_THAT(Error(folder, "npy"), HasSubstr("no x_train.npy"));
  EXPECT_THAT(Error(folder, "csv"), HasSubstr("no train.csv"));
  EXPECT_THAT(Error(folder, "images"), HasSubstr("no class folders"));
  wire::Dataset nowhere;
  nowhere.set_path("/nonexistent/set");
  nowhere.set_format("idx");
  EXPECT_THAT(MessageOfError(Inspect(nowhere).status()), HasSubstr("'/nonexistent/set' does not exist"));
}

TEST(Inspect, ReadsFashionMnistAsDebianShipsIt) {
  const std::string path = "/usr/share/datasets/fashion-mnist";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "the package dataset-fashion-mnist is not installed";
  wire::Dataset info;
  info.set_path(path);
  auto record = Inspect(info);
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_THAT(record->shape(), ElementsAre(1, 28, 28));
  EXPECT_EQ(record->classes(), 10);
  EXPECT_EQ(record->train() + record->val(), 60'000);
  EXPECT_NEAR(record->val(), 6'000, 300);
  EXPECT_EQ(record->test(), 10'000);
}

TEST(ParseSplit, KnowsThreeNames) {
  EXPECT_EQ(*ParseSplit("train"), Split::kTrain);
  EXPECT_EQ(*ParseSplit("val"), Split::kVal);
  EXPECT_EQ(*ParseSplit("test"), Split::kTest);
  EXPECT_THAT(MessageOfError(ParseSplit("tests").status()), HasSubstr("did you mean 'test'"));
}

}  // namespace
}  // namespace tandem::data
