#include "serving/comparison.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

namespace tandem::serving {
namespace {

template <typename T>
std::vector<Tensor> One(DType dtype, Shape shape, const std::vector<T>& values) {
  Tensor tensor{"out", dtype, std::move(shape), AlignedBuffer(values.size() * sizeof(T))};
  std::memcpy(tensor.buffer.data(), values.data(), values.size() * sizeof(T));
  std::vector<Tensor> outputs;
  outputs.push_back(std::move(tensor));
  return outputs;
}
std::vector<Tensor> Floats(Shape shape, const std::vector<float>& values) {
  return One(DType::kFloat32, std::move(shape), values);
}

TEST(Comparison, SmallDifferencesAreEqualAndAreMeasured) {
  Comparison result = *Compare(Floats({3}, {1, 100, 0}), Floats({3}, {1, 100.005F, 0}));
  EXPECT_TRUE(result.equal);
  EXPECT_NEAR(result.max_absolute, 0.005, 1e-5);
  EXPECT_NEAR(result.max_relative, 0.00005, 1e-7);
  EXPECT_EQ(result.rows, 0);
}

TEST(Comparison, ALargerDifferenceIsNot) {
  Comparison result = *Compare(Floats({2}, {1, 2}), Floats({2}, {1, 3}));
  EXPECT_FALSE(result.equal);
  EXPECT_DOUBLE_EQ(result.max_absolute, 1);
  EXPECT_DOUBLE_EQ(result.max_relative, 1.0 / 3);
}

TEST(Comparison, NanEqualsNanAndNothingElse) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(Compare(Floats({2}, {nan, inf}), Floats({2}, {nan, inf}))->equal);
  for (float other : {1.0F, inf}) {
    Comparison result = *Compare(Floats({1}, {nan}), Floats({1}, {other}));
    EXPECT_FALSE(result.equal);
    EXPECT_TRUE(std::isinf(result.max_absolute));
    EXPECT_TRUE(std::isinf(result.max_relative));
  }
  EXPECT_FALSE(Compare(Floats({1}, {inf}), Floats({1}, {-inf}))->equal);
}

TEST(Comparison, CountsTheRowsOfAClassifierThatNameTheSameClass) {
  Comparison result = *Compare(Floats({3, 2}, {0.6F, 0.4F, 0.1F, 0.9F, 0.5F, 0.4F}),
                               Floats({3, 2}, {0.7F, 0.3F, 0.2F, 0.8F, 0.4F, 0.5F}));
  EXPECT_FALSE(result.equal);
  EXPECT_EQ(result.rows, 3);
  EXPECT_EQ(result.same_class, 2);
}

TEST(Comparison, ReadsHalfPrecision) {
  // 1, 65504 (the largest), 2^-24 (the smallest), -2 against 1, 65472, 2^-24, 2.
  std::vector<uint16_t> a = {0x3C00, 0x7BFF, 0x0001, 0xC000}, b = {0x3C00, 0x7BFE, 0x0001, 0x4000};
  Comparison result = *Compare(One(DType::kFloat16, {4}, a), One(DType::kFloat16, {4}, b));
  EXPECT_DOUBLE_EQ(result.max_absolute, 32);
  EXPECT_DOUBLE_EQ(result.max_relative, 2);
  EXPECT_TRUE(Compare(One<uint16_t>(DType::kFloat16, {2}, {0x7E00, 0x7C00}),
                      One<uint16_t>(DType::kFloat16, {2}, {0x7E01, 0x7C00}))
                  ->equal)
      << "NaN and infinity";
  // 1 and 1.0078125.
  result = *Compare(One<uint16_t>(DType::kBFloat16, {1}, {0x3F80}), One<uint16_t>(DType::kBFloat16, {1}, {0x3F81}));
  EXPECT_DOUBLE_EQ(result.max_absolute, 0.0078125);
}

TEST(Comparison, IntegersAndBytesAreComparedToo) {
  EXPECT_FALSE(Compare(One<int64_t>(DType::kInt64, {1}, {7}), One<int64_t>(DType::kInt64, {1}, {8}))->equal);
  EXPECT_TRUE(Compare(One<int8_t>(DType::kInt8, {1, 2}, {7, 8}), One<int8_t>(DType::kInt8, {1, 2}, {7, 8}))->equal);
  std::vector<Tensor> a = One<char>(DType::kString, {1}, {1, 0, 0, 0, 'a'});
  EXPECT_TRUE(Compare(a, One<char>(DType::kString, {1}, {1, 0, 0, 0, 'a'}))->equal);
  EXPECT_FALSE(Compare(a, One<char>(DType::kString, {1}, {1, 0, 0, 0, 'b'}))->equal);
}

TEST(Comparison, AnotherFormCannotBeCompared) {
  EXPECT_EQ(Compare(Floats({2}, {1, 2}), Floats({1, 2}, {1, 2})).status().message(),
            "output 'out' is FP32 [2] and FP32 [1,2]");
  EXPECT_FALSE(Compare(Floats({2}, {1, 2}), {}).ok());
  EXPECT_FALSE(Compare(Floats({3}, {1, 2}), Floats({3}, {1, 2})).ok()) << "a buffer that is too short";
  EXPECT_TRUE(Compare({}, {})->equal);
}

}  // namespace
}  // namespace tandem::serving
