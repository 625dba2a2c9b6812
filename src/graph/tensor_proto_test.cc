#include <cstring>

#include "base/status.h"
#include "gmock/gmock.h"
#include "graph/graph.h"
#include "gtest/gtest.h"
#include "onnx-ml.pb.h"

namespace tandem::graph {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

onnx::TensorProto Proto(int type, const Shape& shape) {
  onnx::TensorProto proto;
  proto.set_name("t");
  proto.set_data_type(type);
  for (int64_t dim : shape) proto.add_dims(dim);
  return proto;
}

template <typename T>
std::vector<T> Elements(const Tensor& tensor) {
  std::vector<T> values(tensor.buffer.size() / sizeof(T));
  std::memcpy(values.data(), tensor.buffer.data(), tensor.buffer.size());
  return values;
}

TEST(ToTensor, ReadsEachTypedField) {
  onnx::TensorProto floats = Proto(onnx::TensorProto::FLOAT, {2});
  floats.add_float_data(1.5f);
  floats.add_float_data(-2.0f);
  EXPECT_THAT(Elements<float>(*ToTensor(floats)), ElementsAre(1.5f, -2.0f));
  onnx::TensorProto doubles = Proto(onnx::TensorProto::DOUBLE, {1});
  doubles.add_double_data(0.25);
  EXPECT_THAT(Elements<double>(*ToTensor(doubles)), ElementsAre(0.25));
  onnx::TensorProto longs = Proto(onnx::TensorProto::INT64, {2});
  longs.add_int64_data(-1);
  longs.add_int64_data(int64_t{1} << 40);
  EXPECT_THAT(Elements<int64_t>(*ToTensor(longs)), ElementsAre(-1, int64_t{1} << 40));
  onnx::TensorProto unsigned32 = Proto(onnx::TensorProto::UINT32, {1});
  unsigned32.add_uint64_data(4'000'000'000u);
  EXPECT_THAT(Elements<uint32_t>(*ToTensor(unsigned32)), ElementsAre(4'000'000'000u));
}

TEST(ToTensor, ReadsNarrowTypesOutOfInt32Data) {
  onnx::TensorProto bytes = Proto(onnx::TensorProto::INT8, {2});
  bytes.add_int32_data(-3);
  bytes.add_int32_data(7);
  EXPECT_THAT(Elements<int8_t>(*ToTensor(bytes)), ElementsAre(-3, 7));
  onnx::TensorProto half = Proto(onnx::TensorProto::FLOAT16, {1});
  half.add_int32_data(0x3c00);
  EXPECT_THAT(Elements<uint16_t>(*ToTensor(half)), ElementsAre(0x3c00));
  onnx::TensorProto flags = Proto(onnx::TensorProto::BOOL, {2});
  flags.add_int32_data(0);
  flags.add_int32_data(256);
  EXPECT_THAT(Elements<uint8_t>(*ToTensor(flags)), ElementsAre(0, 1));
}

TEST(ToTensor, RefusesWhatDoesNotFit) {
  const auto error = [](const onnx::TensorProto& proto) { return std::string(MessageOf(ToTensor(proto).status())); };
  onnx::TensorProto proto = Proto(onnx::TensorProto::FLOAT, {3});
  proto.add_float_data(1.0f);
  EXPECT_THAT(error(proto), HasSubstr("3 elements"));
  proto.set_raw_data("123456789012");
  EXPECT_THAT(error(proto), HasSubstr("as well"));
  proto = Proto(onnx::TensorProto::FLOAT, {1});
  proto.add_int32_data(1);
  EXPECT_THAT(error(proto), HasSubstr("does not belong to FP32"));
  EXPECT_THAT(error(Proto(onnx::TensorProto::STRING, {-1})), HasSubstr("negative"));
  EXPECT_THAT(error(Proto(onnx::TensorProto::COMPLEX64, {1})), HasSubstr("element type 14"));
}

TEST(ToTensor, TakesScalarsAndEmptyTensors) {
  EXPECT_EQ(ToTensor(Proto(onnx::TensorProto::FLOAT, {0, 4}))->buffer.size(), 0u);
  onnx::TensorProto scalar = Proto(onnx::TensorProto::FLOAT, {});
  scalar.add_float_data(3.0f);
  EXPECT_THAT(Elements<float>(*ToTensor(scalar)), ElementsAre(3.0f));
}

TEST(WriteTensorProto, IsReadBackEqual) {
  for (int type : {onnx::TensorProto::FLOAT, onnx::TensorProto::INT64, onnx::TensorProto::BFLOAT16}) {
    onnx::TensorProto proto = Proto(type, {2, 3});
    proto.set_raw_data(std::string(6 * ByteSize(static_cast<DType>(type)), 'a'));
    const absl::StatusOr<Tensor> first = ToTensor(proto);
    ASSERT_TRUE(first.ok()) << first.status();
    const absl::StatusOr<Tensor> second = ReadTensorProto(WriteTensorProto(*first));
    ASSERT_TRUE(second.ok()) << second.status();
    EXPECT_EQ(second->name, "t");
    EXPECT_EQ(second->shape, first->shape);
    EXPECT_EQ(second->bytes(), first->bytes());
  }
  onnx::TensorProto texts = Proto(onnx::TensorProto::STRING, {2});
  texts.add_string_data("");
  texts.add_string_data("ab");
  const Tensor tensor = *ToTensor(texts);
  EXPECT_EQ(tensor.bytes(), std::string_view("\0\0\0\0\2\0\0\0ab", 10));
  EXPECT_EQ(ReadTensorProto(WriteTensorProto(tensor))->bytes(), tensor.bytes());
}

TEST(ReadTensorProto, RefusesCutBytes) {
  onnx::TensorProto proto = Proto(onnx::TensorProto::FLOAT, {4});
  proto.set_raw_data(std::string(16, 'x'));
  const std::string bytes = proto.SerializeAsString();
  for (size_t size = 0; size < bytes.size(); ++size) EXPECT_FALSE(ReadTensorProto(bytes.substr(0, size)).ok()) << size;
}

}  // namespace
}  // namespace tandem::graph
