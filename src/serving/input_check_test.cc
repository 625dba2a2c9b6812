#include "serving/input_check.h"

#include <gtest/gtest.h>

namespace tandem::serving {
namespace {

const std::vector<TensorSignature> kSignature = {{"image", DType::kFloat32, {-1, 2}}, {"size", DType::kInt64, {1}}};

Request::Input Input(std::string_view name, DType dtype, Shape shape, size_t bytes) {
  static char memory[64];
  return {name, {dtype, std::move(shape), memory, bytes}};
}
Request::Input Image() { return Input("image", DType::kFloat32, {3, 2}, 24); }
Request::Input Size() { return Input("size", DType::kInt64, {1}, 8); }

std::string Message(std::vector<Request::Input> inputs) {
  return std::string(CheckInputs("m", kSignature, &inputs).message());
}

TEST(CheckInputs, TakesInputsInAnyOrderAndOrdersThem) {
  std::vector<Request::Input> inputs = {Size(), Image()};
  ASSERT_TRUE(CheckInputs("m", kSignature, &inputs).ok());
  EXPECT_EQ(inputs[0].name, "image");
  EXPECT_EQ(inputs[0].view.shape, (Shape{3, 2}));
  EXPECT_EQ(inputs[1].view.dtype, DType::kInt64);
}

TEST(CheckInputs, NamesAllMissingUnknownAndRepeatedInputs) {
  EXPECT_EQ(Message({}),
            "m: input 'image' is missing, input 'size' is missing; it takes 'image' FP32 [-1,2], 'size' INT64 [1]");
  EXPECT_EQ(Message({Input("imege", DType::kFloat32, {1, 2}, 8), Size()}),
            "m: input 'image' is missing, there is no input 'imege'; did you mean 'image'?; it takes 'image' FP32 "
            "[-1,2], 'size' INT64 [1]");
  EXPECT_EQ(Message({Size(), Size(), Image()}),
            "m: input 'size' is given 2 times; it takes 'image' FP32 [-1,2], 'size' INT64 [1]");
}

TEST(CheckInputs, SaysWhatTypeShapeAndSizeMustBe) {
  EXPECT_EQ(Message({Input("image", DType::kInt32, {3, 2}, 24), Size()}), "m: input 'image' is INT32, must be FP32");
  EXPECT_EQ(Message({Input("image", DType::kFloat32, {3, 3}, 36), Size()}),
            "m: input 'image' has shape [3,3], must be [-1,2] (-1 is any size)");
  EXPECT_EQ(Message({Input("image", DType::kFloat32, {6}, 24), Size()}),
            "m: input 'image' has shape [6], must be [-1,2] (-1 is any size)");
  EXPECT_EQ(Message({Input("image", DType::kFloat32, {-1, 2}, 8), Size()}),
            "m: input 'image' has shape [-1,2], must be [-1,2] (-1 is any size)");
  EXPECT_EQ(Message({Input("image", DType::kFloat32, {3, 2}, 23), Size()}),
            "m: input 'image' has 23 bytes, but shape [3,2] of FP32 is 6 elements of 4 bytes");
}

TEST(CheckInputs, RefusesAShapeWhoseSizeOverflows) {
  const std::vector<TensorSignature> any = {{"x", DType::kFloat32, {-1, -1}}};
  int64_t huge = int64_t{1} << 32;
  for (int64_t other : {huge, huge / 4}) {
    std::vector<Request::Input> inputs = {Input("x", DType::kFloat32, {huge, other}, 0)};
    EXPECT_FALSE(CheckInputs("m", any, &inputs).ok());
  }
}

TEST(CheckRows, NamesTheInputsThatDisagree) {
  std::vector<Request::Input> inputs = {Image(), Size()};
  EXPECT_EQ(CheckRows("m", inputs).message(),
            "m: input 'size' has 1 rows (its first dimension), input 'image' has 3; all must have the same");
  inputs[1].view.shape[0] = 3;
  EXPECT_TRUE(CheckRows("m", inputs).ok());
}

}  // namespace
}  // namespace tandem::serving
