#include "api/v2/classification.h"

#include <gmock/gmock.h>
#include <string.h>

#include <cmath>
#include <limits>

#include "base/strings.h"

namespace tandem::api::v2 {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <typename T>
Tensor MakeTensor(DType dtype, Shape shape, const std::vector<T>& values) {
  Tensor tensor{.name = "probabilities", .dtype = dtype, .shape = std::move(shape)};
  tensor.buffer.Resize(values.size() * sizeof(T));
  if (!values.empty()) memcpy(tensor.buffer.data(), values.data(), values.size() * sizeof(T));
  return tensor;
}

std::vector<std::string> Elements(const Tensor& tensor) {
  std::vector<std::string> all;
  for (std::string_view bytes = tensor.bytes(); bytes.size() >= 4;) {
    uint32_t length;
    memcpy(&length, bytes.data(), 4);
    all.emplace_back(bytes.substr(4, length));
    bytes.remove_prefix(4 + length);
  }
  return all;
}

spec::ModelConfig Batching() {
  spec::ModelConfig config;
  config.max_batch_size = 8;
  return config;
}

TEST(Classification, GivesTheBestClassesOfTheWholeTensorWithoutBatching) {
  Tensor tensor = MakeTensor<float>(DType::kFloat32, {2, 2}, {0.25F, 1, -2, 0.5F});
  ASSERT_TRUE(ReplaceByClasses({}, 3, &tensor).ok());
  EXPECT_EQ(tensor.dtype, DType::kString);
  EXPECT_EQ(tensor.shape, Shape({3}));
  EXPECT_THAT(Elements(tensor), ElementsAre("1.000000:1", "0.500000:3", "0.250000:0"));
}

TEST(Classification, GivesEachRowItsOwnWithBatching) {
  Tensor tensor = MakeTensor<int32_t>(DType::kInt32, {2, 3}, {1, 3, 2, -7, -9, -8});
  spec::ModelConfig config = Batching();
  config.labels["probabilities"] = {"cat", "dog"};
  ASSERT_TRUE(ReplaceByClasses(config, 2, &tensor).ok());
  EXPECT_EQ(tensor.shape, Shape({2, 2}));
  EXPECT_THAT(Elements(tensor), ElementsAre("3:1:dog", "2:2", "-7:0:cat", "-8:2"));
}

TEST(Classification, GivesNoMoreClassesThanThereAre) {
  Tensor tensor = MakeTensor<double>(DType::kFloat64, {1, 2}, {1e300, -0.5});
  ASSERT_TRUE(ReplaceByClasses(Batching(), 1000, &tensor).ok());
  EXPECT_EQ(tensor.shape, Shape({1, 2}));
  EXPECT_EQ(Elements(tensor)[1], "-0.500000:1");
}

TEST(Classification, PutsEqualValuesInTheirOrderAndNotANumberLast) {
  const float inf = std::numeric_limits<float>::infinity();
  Tensor tensor = MakeTensor<float>(DType::kFloat32, {6}, {NAN, 1, -inf, 1, NAN, inf});
  ASSERT_TRUE(ReplaceByClasses({}, 6, &tensor).ok());
  std::vector<std::string> classes = Elements(tensor);
  EXPECT_THAT(std::vector(classes.begin(), classes.begin() + 4),
              ElementsAre("inf:5", "1.000000:1", "1.000000:3", "-inf:2"));
  EXPECT_THAT(classes[4], HasSubstr("nan:0"));
  EXPECT_THAT(classes[5], HasSubstr("nan:4"));
}

TEST(Classification, ReadsAllNumericTypes) {
  Tensor half = MakeTensor<uint16_t>(DType::kFloat16, {4}, {0x3c00, 0xc000, 0x0001, 0x7bff});  // 1, -2, 2^-24, 65504
  ASSERT_TRUE(ReplaceByClasses({}, 4, &half).ok());
  EXPECT_THAT(Elements(half), ElementsAre("65504.000000:3", "1.000000:0", "0.000000:2", "-2.000000:1"));
  Tensor bfloat = MakeTensor<uint16_t>(DType::kBFloat16, {2}, {0x3f80, 0x4049});  // 1, 3.140625
  ASSERT_TRUE(ReplaceByClasses({}, 1, &bfloat).ok());
  EXPECT_THAT(Elements(bfloat), ElementsAre("3.140625:1"));
  Tensor small = MakeTensor<int8_t>(DType::kInt8, {2}, {-128, 127});
  ASSERT_TRUE(ReplaceByClasses({}, 2, &small).ok());
  EXPECT_THAT(Elements(small), ElementsAre("127:1", "-128:0"));
  Tensor large = MakeTensor<uint64_t>(DType::kUint64, {1}, {UINT64_MAX});
  ASSERT_TRUE(ReplaceByClasses({}, 1, &large).ok());
  EXPECT_THAT(Elements(large), ElementsAre("18446744073709551615:0"));
  Tensor flags = MakeTensor<uint8_t>(DType::kBool, {2}, {0, 1});
  ASSERT_TRUE(ReplaceByClasses({}, 1, &flags).ok());
  EXPECT_THAT(Elements(flags), ElementsAre("1:1"));
}

TEST(Classification, TakesTensorsWithoutElementsOrDimensions) {
  for (Shape shape : {Shape{0, 4}, Shape{3, 0}, Shape{0}}) {
    Tensor tensor = MakeTensor<float>(DType::kFloat32, shape, {});
    ASSERT_TRUE(ReplaceByClasses(Batching(), 5, &tensor).ok()) << ToString(shape);
    EXPECT_EQ(*ElementCount(tensor.shape), 0) << ToString(shape);
    EXPECT_EQ(tensor.buffer.size(), 0);
  }
  Tensor scalar = MakeTensor<float>(DType::kFloat32, {}, {7});
  ASSERT_TRUE(ReplaceByClasses(Batching(), 5, &scalar).ok());
  EXPECT_EQ(scalar.shape, Shape({1}));
}

TEST(Classification, RefusesTexts) {
  Tensor tensor = MakeTensor<char>(DType::kString, {0}, {});
  absl::Status status = ReplaceByClasses({}, 1, &tensor);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("'probabilities' is BYTES"));
}

}  // namespace
}  // namespace tandem::api::v2
