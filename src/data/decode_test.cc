#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "data/test_files.h"

namespace tandem::data {
namespace {

using ::testing::Each;
using ::testing::FloatNear;
using ::testing::HasSubstr;

std::vector<uint8_t> Ramp(size_t count) {
  std::vector<uint8_t> out(count);
  std::iota(out.begin(), out.end(), uint8_t{0});
  return out;
}

// A PNG made by hand: any depth and colour type. `rows` are the unpacked scan lines, each with its filter byte.
std::string RawPng(uint8_t width, char depth, char type, std::string_view rows, std::string_view palette = "",
                   char interlaced = 0) {
  std::string out = "\x89PNG\r\n\x1a\n";
  auto number = [&](size_t value) {
    for (int shift : {24, 16, 8, 0}) out.push_back(static_cast<char>(value >> shift));
  };
  auto chunk = [&](const std::string& name, std::string_view data) {
    number(data.size());
    const size_t begin = out.size();
    out.append(name).append(data);
    number(crc32(0, reinterpret_cast<const Bytef*>(out.data() + begin), static_cast<uInt>(out.size() - begin)));
  };
  chunk("IHDR", std::string({0, 0, 0, static_cast<char>(width), 0, 0, 0, 1, depth, type, 0, 0, interlaced}));
  if (!palette.empty()) chunk("PLTE", palette);
  std::string packed(200, '\0');
  uLongf size = packed.size();
  compress(reinterpret_cast<Bytef*>(packed.data()), &size, reinterpret_cast<const Bytef*>(rows.data()), rows.size());
  chunk("IDAT", std::string_view(packed).substr(0, size));
  chunk("IEND", "");
  return out;
}

TEST(DecodeImage, ReadsEveryKindOfPng) {
  using namespace std::string_literals;
  auto bytes = [](const std::string& png) {
    auto image = DecodeImage(png, 0, 0, 0);
    EXPECT_TRUE(image.ok()) << image.status();
    std::vector<int> out;
    if (image.ok()) {
      for (float pixel : image->pixels) out.push_back(static_cast<int>(pixel * 255 + 0.5f));
    }
    return out;
  };
  EXPECT_EQ(bytes(RawPng(2, 1, 0, "\0\x40"s)), (std::vector<int>{0, 255}));       // one bit
  EXPECT_EQ(bytes(RawPng(1, 16, 0, "\0\x80\x80"s)), (std::vector<int>{128}));     // 16 bits
  EXPECT_EQ(bytes(RawPng(1, 8, 4, "\0\x07\x10"s)), (std::vector<int>{7}));        // grey and alpha
  EXPECT_EQ(bytes(RawPng(1, 8, 6, "\0\1\2\3\4"s)), (std::vector<int>{1, 2, 3}));  // colour and alpha
  EXPECT_EQ(bytes(RawPng(2, 8, 3, "\0\1\0"s, "\1\2\3\4\5\6")), (std::vector<int>{4, 1, 5, 2, 6, 3}));  // palette
  EXPECT_EQ(bytes(RawPng(2, 8, 0, "\0\x08\0\x09"s, "", 1)), (std::vector<int>{8, 9}));                 // interlaced
}

TEST(DecodeImage, ReadsPngPixelsExactlyAsChannelsFirst) {
  auto image = DecodeImage(MakePng(3, 2, 3, Ramp(18)), 0, 0, 0);
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(image->shape, (Shape{3, 2, 3}));
  for (int c = 0; c < 3; ++c) {
    for (int i = 0; i < 6; ++i) EXPECT_EQ(image->pixels[c * 6 + i], static_cast<float>(i * 3 + c) / 255.0f);
  }
}

TEST(DecodeImage, ReadsJpegNearly) {
  auto image = DecodeImage(MakeJpeg(3, 16, 16, Constant(16 * 16 * 3, 200)), 0, 0, 0);
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(image->shape, (Shape{3, 16, 16}));
  EXPECT_THAT(image->pixels, Each(FloatNear(200 / 255.0f, 0.01f)));
  auto grey = DecodeImage(MakeJpeg(1, 8, 8, Constant(64, 10)), 0, 0, 0);
  ASSERT_TRUE(grey.ok()) << grey.status();
  EXPECT_EQ(grey->shape, (Shape{1, 8, 8}));
}

TEST(DecodeImage, ConvertsBetweenGreyAndColour) {
  const std::vector<uint8_t> red = {255, 0, 0};
  auto grey = DecodeImage(MakePng(3, 1, 1, red), 1, 0, 0);
  ASSERT_TRUE(grey.ok());
  EXPECT_EQ(grey->shape, (Shape{1, 1, 1}));
  EXPECT_FLOAT_EQ(grey->pixels[0], 76 / 255.0f);
  auto colour = DecodeImage(MakePng(1, 1, 2, {9, 8}), 3, 0, 0);
  ASSERT_TRUE(colour.ok());
  EXPECT_EQ(colour->pixels,
            (std::vector<float>{9 / 255.0f, 8 / 255.0f, 9 / 255.0f, 8 / 255.0f, 9 / 255.0f, 8 / 255.0f}));
  auto jpeg = DecodeImage(MakeJpeg(3, 8, 8, Constant(192, 128)), 1, 0, 0);
  ASSERT_TRUE(jpeg.ok());
  EXPECT_EQ(jpeg->shape, (Shape{1, 8, 8}));
}

TEST(DecodeImage, ResizesBilinearly) {
  auto larger = DecodeImage(MakePng(1, 1, 2, {0, 200}), 0, 1, 4);
  ASSERT_TRUE(larger.ok());
  EXPECT_EQ(larger->pixels, (std::vector<float>{0, 50 / 255.0f, 150 / 255.0f, 200 / 255.0f}));
  // Shrinking looks at all pixels: the mean of a checkerboard, not one of its fields.
  std::vector<uint8_t> board(64 * 64);
  for (size_t i = 0; i < board.size(); ++i) board[i] = (i / 64 + i) % 2 == 0 ? 0 : 200;
  auto smaller = DecodeImage(MakePng(1, 64, 64, board), 0, 8, 8);
  ASSERT_TRUE(smaller.ok());
  EXPECT_EQ(smaller->shape, (Shape{1, 8, 8}));
  EXPECT_THAT(smaller->pixels, Each(FloatNear(100 / 255.0f, 0.02f)));
}

TEST(DecodeImage, KeepsAConstantPictureConstantAtEverySize) {
  const std::string png = MakePng(3, 13, 9, Constant(13 * 9 * 3, 77)),
                    jpeg = MakeJpeg(1, 200, 300, Constant(60000, 77));
  for (int64_t size : {1, 2, 3, 8, 13, 28, 100}) {
    auto a = DecodeImage(png, 0, size, size + 1), b = DecodeImage(jpeg, 0, size, size + 1);
    ASSERT_TRUE(a.ok() && b.ok()) << size;
    EXPECT_THAT(a->pixels, Each(77 / 255.0f));
    EXPECT_THAT(b->pixels, Each(FloatNear(77 / 255.0f, 0.005f)));
  }
}

TEST(DecodeImage, NamesTheBreakOfAPictureCutAnywhere) {
  for (const std::string& whole : {MakePng(3, 9, 9, Ramp(243)), MakeJpeg(3, 9, 9, Ramp(243))}) {
    for (size_t size = 0; size < whole.size(); ++size) {
      auto image = DecodeImage(std::string_view(whole).substr(0, size), 0, 0, 0);
      // A JPEG that lacks no more than its end marker is whole.
      if (image.ok()) {
        EXPECT_GE(size, whole.size() - 2);
      } else {
        EXPECT_EQ(image.status().code(), absl::StatusCode::kInvalidArgument) << image.status();
      }
    }
  }
}

TEST(DecodeImage, SurvivesEveryFlippedByte) {
  for (const std::string& whole : {MakePng(1, 5, 5, Ramp(25)), MakeJpeg(1, 5, 5, Ramp(25))}) {
    for (size_t at = 0; at < whole.size(); ++at) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(~bytes[at]);
      DecodeImage(bytes, 1, 4, 4).IgnoreError();
    }
  }
}

TEST(DecodeImage, RefusesWhatItCannotRead) {
  auto message = [](std::string_view bytes, int64_t channels = 0, int64_t height = 0) {
    return MessageOfError(DecodeImage(bytes, channels, height, 0).status());
  };
  EXPECT_THAT(message("GIF89a"), HasSubstr("neither a PNG nor a JPEG"));
  EXPECT_THAT(message(""), HasSubstr("neither a PNG nor a JPEG"));
  std::string giant = MakePng(1, 1, 1, {0});
  giant.replace(16, 8, "\x7f\xff\xff\xff\x7f\xff\xff\xff");
  EXPECT_THAT(message(giant), HasSubstr("2147483647 x 2147483647"));
  const std::string good = MakePng(1, 1, 1, {0});
  EXPECT_THAT(message(good, 2), HasSubstr("2 are wanted"));
  EXPECT_THAT(message(good, 1, -5), HasSubstr("negative"));
  std::string damaged = MakePng(1, 4, 4, Ramp(16));
  char& byte = damaged[damaged.find("IDAT") + 6];
  byte = static_cast<char>(~byte);
  EXPECT_THAT(message(damaged), HasSubstr("PNG: breaks at byte"));
}

}  // namespace
}  // namespace tandem::data
