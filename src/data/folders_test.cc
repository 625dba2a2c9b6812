// Data sets that are folders of pictures or of arrays.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "base/status.h"
#include "data/test_files.h"

namespace tandem::data {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Error(const TempFolder& folder, const std::string& format = "") {
  return MessageOfError(Inspect(folder.Info(format)).status());
}

TEST(ImageFolders, ReadsClassesSortedByNameWithMixedFormats) {
  TempFolder folder;
  folder.Write("Äpfel/wrong-ending.jpg", MakePng(3, 4, 6, Constant(72, 10)));
  folder.Write("birnen/1.png", MakePng(1, 8, 8, Constant(64, 20)));
  folder.Write("birnen/2.jpeg", MakeJpeg(3, 30, 20, Constant(1800, 30)));
  folder.Write("birnen/.hidden", "x");
  folder.Write("README", "what this is");
  auto info = Inspect(folder.Info());
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->format(), "images");
  EXPECT_THAT(info->class_names(), ElementsAre("birnen", "Äpfel"));
  EXPECT_THAT(info->shape(), ElementsAre(3, 8, 8));  // colour because one is, the size of the first
  EXPECT_EQ(info->train(), 2);
  EXPECT_EQ(info->val(), 1);
  auto train = Open(*info, Split::kTrain);
  ASSERT_TRUE(train.ok()) << train.status();
  std::vector<float> image(192);
  int32_t label = -1;
  for (int again = 0; again < 2; ++again) {  // decoded, then from the cache
    ASSERT_TRUE((*train)->Get(0, image, &label).ok());
    EXPECT_THAT(image, Each(20 / 255.0f));
    EXPECT_EQ(label, 0);
  }
}

TEST(ImageFolders, ResizesToWhatIsAskedForAndReadsSplits) {
  TempFolder folder;
  for (int i = 0; i < 3; ++i) {
    folder.Write(StrCat("train/a/", i, ".png"), MakePng(1, 5, 5, Constant(25, 50)));
    folder.Write(StrCat("train/b/", i, ".png"), MakePng(1, 9, 4, Constant(36, 60)));
  }
  folder.Write("val/b/x.png", MakePng(1, 2, 2, Constant(4, 70)));
  folder.Write("test/a/x.png", MakePng(1, 2, 2, Constant(4, 80)));
  std::filesystem::create_directories(folder.path("test/b"));
  wire::Dataset given = folder.Info();
  given.add_resize(3);
  given.add_resize(7);
  auto info = Inspect(given);
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_THAT(info->shape(), ElementsAre(1, 3, 7));
  EXPECT_EQ(info->train(), 6);
  EXPECT_EQ(info->val(), 1);
  EXPECT_EQ(info->test(), 1);
  auto val = Open(*info, Split::kVal);
  ASSERT_TRUE(val.ok()) << val.status();
  std::vector<float> image(21);
  int32_t label = -1;
  ASSERT_TRUE((*val)->Get(0, image, &label).ok());
  EXPECT_EQ(label, 1);
  EXPECT_THAT(image, Each(70 / 255.0f));
}

TEST(ImageFolders, CanBeReadByManyThreads) {
  TempFolder folder;
  for (uint8_t i = 0; i < 40; ++i) folder.Write(StrCat("a/", 10 + i, ".png"), MakePng(1, 6, 6, Constant(36, i)));
  auto info = Inspect(folder.Info());
  ASSERT_TRUE(info.ok()) << info.status();
  auto train = Open(*info, Split::kTrain);
  ASSERT_TRUE(train.ok()) << train.status();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      std::vector<float> image(36);
      int32_t label = 0;
      for (int round = 0; round < 20; ++round) {
        for (int64_t i = 0; i < (*train)->size(); ++i) {
          ASSERT_TRUE((*train)->Get(i, image, &label).ok());
          ASSERT_THAT(image, Each(image[0]));
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(ImageFolders, NamesTheBrokenFileAndWhatBroke) {
  TempFolder folder;
  const std::string good = MakePng(1, 20, 20, Constant(400, 1));
  folder.Write("a/good.png", good);
  folder.Write("b/bad.png", good.substr(0, good.size() - 20));
  EXPECT_THAT(Error(folder), AllOf(HasSubstr("b/bad.png"), HasSubstr("PNG: breaks at byte")));
  const std::string jpeg = MakeJpeg(3, 20, 20, Constant(1200, 1));
  folder.Write("b/bad.png", jpeg.substr(0, jpeg.size() / 2));
  EXPECT_THAT(Error(folder), AllOf(HasSubstr("b/bad.png"), HasSubstr("JPEG")));
  folder.Write("b/bad.png", "hello");
  EXPECT_THAT(Error(folder), AllOf(HasSubstr("b/bad.png"), HasSubstr("neither a PNG nor a JPEG")));
  folder.Write("b/bad.png", "");
  EXPECT_THAT(Error(folder), HasSubstr("b/bad.png"));
  std::filesystem::remove(folder.path("b/bad.png"));
  EXPECT_THAT(Error(folder), AllOf(HasSubstr("class folder"), HasSubstr("is empty")));
  folder.Write("b/c/x.png", good);
  EXPECT_THAT(Error(folder), HasSubstr("a folder inside a class folder"));
}

TEST(ImageFolders, RefusesATestClassThatTrainLacks) {
  TempFolder folder;
  folder.Write("train/cat/1.png", MakePng(1, 2, 2, Constant(4, 1)));
  folder.Write("test/cta/1.png", MakePng(1, 2, 2, Constant(4, 1)));
  EXPECT_THAT(Error(folder), AllOf(HasSubstr("test/cta/1.png"), HasSubstr("did you mean 'cat'")));
}

TEST(ImageFolders, RefusesNamesThatAreNotUtf8) {
  TempFolder folder;
  folder.Write("a\xff/1.png", MakePng(1, 2, 2, Constant(4, 1)));
  EXPECT_THAT(Error(folder, "images"), HasSubstr("not UTF-8"));
}

std::string Labels(const std::vector<int64_t>& labels) {
  return WriteNpy(MakeTensor<int64_t>(DType::kInt64, {static_cast<int64_t>(labels.size())}, labels));
}

// Writes x.npy and y.npy (three labels) and returns sample 0 of train, and the shape.
template <typename T>
std::pair<Shape, std::vector<float>> First(DType dtype, const Shape& shape, const std::vector<T>& values) {
  TempFolder folder;
  folder.Write("x.npy", WriteNpy(MakeTensor<T>(dtype, shape, values)));
  folder.Write("y.npy", Labels({0, 1, 1}));
  auto info = Inspect(folder.Info());
  EXPECT_TRUE(info.ok()) << info.status();
  auto train = Open(*info, Split::kTrain);
  EXPECT_TRUE(train.ok()) << train.status();
  std::vector<float> sample(*ElementCount((*train)->shape()));
  int32_t label = -1;
  EXPECT_TRUE((*train)->Get(0, sample, &label).ok());
  EXPECT_EQ(label, 0);
  return {(*train)->shape(), sample};
}

TEST(NpyPairs, ScalesBytesAndTakesFloatsAsTheyAre) {
  auto [shape, bytes] = First<uint8_t>(DType::kUint8, {3, 1, 2}, {0, 255, 1, 1, 1, 1});
  EXPECT_EQ(shape, (Shape{1, 1, 2}));
  EXPECT_THAT(bytes, ElementsAre(0.0f, 1.0f));
  auto [vector, floats] = First<double>(DType::kFloat64, {3, 2}, {-1.5, 300, 0, 0, 0, 0});
  EXPECT_EQ(vector, (Shape{2}));
  EXPECT_THAT(floats, ElementsAre(-1.5f, 300.0f));
  auto halves = First<uint16_t>(DType::kFloat16, {3, 3}, {0x3c00, 0xc100, 0x0001, 0, 0, 0, 0, 0, 0}).second;
  EXPECT_THAT(halves, ElementsAre(1.0f, -2.5f, 0x1p-24f));
}

TEST(NpyPairs, PutsChannelsFirst) {
  auto [shape, sample] = First<uint8_t>(DType::kUint8, {3, 4, 5, 3}, std::vector<uint8_t>(180, 51));
  EXPECT_EQ(shape, (Shape{3, 4, 5}));
  std::vector<float> ordered(3 * 2 * 2 * 4);
  for (size_t i = 0; i < ordered.size(); ++i) ordered[i] = static_cast<float>(i);
  auto [last, moved] = First<float>(DType::kFloat32, {3, 2, 2, 4}, ordered);
  EXPECT_EQ(last, (Shape{4, 2, 2}));
  EXPECT_THAT(moved, ElementsAre(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  auto [first, kept] = First<float>(DType::kFloat32, {3, 1, 2, 8}, ordered);
  EXPECT_EQ(first, (Shape{1, 2, 8}));
  EXPECT_EQ(kept, std::vector<float>(ordered.begin(), ordered.begin() + 16));
}

TEST(NpyPairs, ReadsSplitsAndNamesWhatIsWrong) {
  TempFolder folder;
  auto floats = [](int64_t n, float value) {
    return WriteNpy(MakeTensor<float>(DType::kFloat32, {n, 2}, std::vector<float>(2 * n, value)));
  };
  folder.Write("x_train.npy", floats(4, 1));
  folder.Write("y_train.npy", Labels({0, 1, 2, 0}));
  folder.Write("x_test.npy", floats(2, 1));
  EXPECT_THAT(Error(folder), HasSubstr("not the labels y_test.npy"));
  folder.Write("y_test.npy", Labels({0, 2}));
  auto info = Inspect(folder.Info());
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->classes(), 3);
  EXPECT_EQ(info->test(), 2);
  folder.Write("y_test.npy", Labels({0, 3}));
  EXPECT_THAT(Error(folder), HasSubstr("y_test.npy': sample 1 has label 3"));
  folder.Write("y_test.npy", Labels({0}));
  EXPECT_THAT(Error(folder), AllOf(HasSubstr("2 samples"), HasSubstr("1 labels")));
  folder.Write("y_test.npy", WriteNpy(MakeTensor<float>(DType::kFloat32, {2}, {0, 1})));
  EXPECT_THAT(Error(folder), HasSubstr("labels are integers"));
  folder.Write("y_test.npy", WriteNpy(MakeTensor<int32_t>(DType::kInt32, {2, 2}, {0, 1, 1, 0})));
  EXPECT_THAT(Error(folder), HasSubstr("not one-hot"));
  folder.Write("y_test.npy", Labels({0, 1}));
  folder.Write("x_test.npy", floats(2, std::numeric_limits<float>::infinity()));
  EXPECT_THAT(Error(folder), HasSubstr("x_test.npy': sample 0 holds inf"));
  folder.Write("x_test.npy", WriteNpy(MakeTensor<float>(DType::kFloat32, {2, 3}, std::vector<float>(6))));
  EXPECT_THAT(Error(folder), HasSubstr("test have shape [3], those of train [2]"));
  folder.Write("x_test.npy", folder.Read("x_train.npy").substr(0, 140));
  EXPECT_THAT(Error(folder), AllOf(HasSubstr("x_test.npy"), HasSubstr("12 bytes of data after byte 128")));
}

}  // namespace
}  // namespace tandem::data
