#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status.h"
#include "data/test_files.h"

namespace tandem::data {
namespace {

using ::testing::HasSubstr;

// A .npy file with this header text.
std::string Npy(std::string_view header, std::string_view data) {
  std::string out("\x93NUMPY\x01\0", 8);
  out.push_back(static_cast<char>(header.size()));
  out.push_back('\0');
  return out.append(header).append(data);
}

std::string Error(std::string_view bytes) { return MessageOfError(ReadNpy(bytes).status()); }

TEST(Npy, KeepsEveryTypeAndShape) {
  for (DType dtype : {DType::kFloat32, DType::kUint8, DType::kInt8, DType::kUint16, DType::kInt16, DType::kInt32,
                      DType::kInt64, DType::kBool, DType::kFloat16, DType::kFloat64, DType::kUint32, DType::kUint64}) {
    for (const Shape& shape : {Shape{}, Shape{3}, Shape{2, 3}, Shape{0, 5}, Shape{1, 2, 3, 4}}) {
      Tensor tensor{"", dtype, shape, AlignedBuffer(*ElementCount(shape) * ByteSize(dtype))};
      for (size_t i = 0; i < tensor.buffer.size(); ++i) tensor.As<uint8_t>()[i] = static_cast<uint8_t>(i);
      auto back = ReadNpy(WriteNpy(tensor));
      ASSERT_TRUE(back.ok()) << back.status();
      EXPECT_EQ(back->dtype, dtype);
      EXPECT_EQ(back->shape, shape);
      EXPECT_EQ(back->bytes(), tensor.bytes());
    }
  }
}

TEST(Npy, WritesWhatNumPyWrites) {
  const std::string bytes = WriteNpy(MakeTensor<float>(DType::kFloat32, {1, 2}, {1, 2}));
  EXPECT_EQ(bytes.size(), 128u + 8u);
  EXPECT_EQ(bytes.substr(10, 59), "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }");
}

TEST(Npy, ReadsFortranOrderAndBigEndian) {
  auto tensor = ReadNpy(
      Npy("{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }", std::string("\0\1\0\4\0\2\0\5\0\3\0\6", 12)));
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  EXPECT_EQ(tensor->shape, (Shape{2, 3}));
  for (int i = 0; i < 6; ++i) EXPECT_EQ(tensor->As<int16_t>()[i], i + 1);
}

TEST(Npy, WidensBFloat16AndPadsStrings) {
  auto tensor = ReadNpy(WriteNpy(MakeTensor<uint16_t>(DType::kBFloat16, {2}, {0x3f80, 0xc000})));
  ASSERT_TRUE(tensor.ok());
  EXPECT_EQ(tensor->dtype, DType::kFloat32);
  EXPECT_EQ(tensor->As<float>()[0], 1.0f);
  EXPECT_EQ(tensor->As<float>()[1], -2.0f);
  const std::string strings = WriteNpy(MakeTensor<char>(DType::kString, {2}, {2, 0, 0, 0, 'a', 'b', 1, 0, 0, 0, 'c'}));
  EXPECT_THAT(strings, HasSubstr("'|S2'"));
  EXPECT_EQ(strings.substr(128), std::string("abc\0", 4));
}

TEST(Npy, NamesWhatIsWrong) {
  EXPECT_THAT(Error("PK"), HasSubstr("not a .npy file"));
  EXPECT_THAT(Error(Npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", "1234567")), HasSubstr("7 bytes"));
  EXPECT_THAT(Error(Npy("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", "")), HasSubstr("'|O'"));
  EXPECT_THAT(Error(Npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }", "")),
              HasSubstr("records"));
  EXPECT_THAT(Error(Npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }", "")), HasSubstr("a dimension"));
  EXPECT_THAT(Error(Npy("{'descr': '<f4', 'fortran_order': False, }", "")), HasSubstr("lacks"));
  EXPECT_THAT(Error(Npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }", "")),
              HasSubstr("too many elements"));
  EXPECT_THAT(Error(Npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999,), }", "")),
              HasSubstr("needs"));
}

TEST(Npy, RefusesEveryTruncation) {
  const std::string whole = WriteNpy(MakeTensor<int32_t>(DType::kInt32, {3}, {1, 2, 3}));
  for (size_t size = 0; size < whole.size(); ++size) EXPECT_FALSE(ReadNpy(whole.substr(0, size)).ok()) << size;
}

std::vector<Tensor> TwoTensors() {
  std::vector<Tensor> tensors;
  tensors.push_back(MakeTensor<float>(DType::kFloat32, {2, 2}, {1, 2, 3, 4}));
  tensors.push_back(MakeTensor<int64_t>(DType::kInt64, {1}, {-7}));
  tensors[0].name = "input";
  tensors[1].name = "größe";
  return tensors;
}

TEST(Npz, KeepsNamesTypesAndValues) {
  const std::string bytes = WriteNpz(TwoTensors());
  auto back = ReadNpz(bytes);
  ASSERT_TRUE(back.ok()) << back.status();
  ASSERT_EQ(back->size(), 2u);
  EXPECT_EQ((*back)[0].name, "input");
  EXPECT_EQ((*back)[0].shape, (Shape{2, 2}));
  EXPECT_EQ((*back)[0].As<float>()[3], 4.0f);
  EXPECT_EQ((*back)[1].name, "größe");
  EXPECT_EQ((*back)[1].As<int64_t>()[0], -7);
  EXPECT_EQ(bytes, WriteNpz(TwoTensors()));
  auto empty = ReadNpz(WriteNpz({}));
  ASSERT_TRUE(empty.ok()) << empty.status();
  EXPECT_TRUE(empty->empty());
}

// The same file with its first member deflated, as numpy.savez_compressed writes it.
std::string Deflated() {
  std::vector<Tensor> one;
  one.push_back(MakeTensor<uint8_t>(DType::kUint8, {1000}, std::vector<uint8_t>(1000, 5)));
  one[0].name = "x";
  const std::string npy = WriteNpy(one[0]), gzip = Gzip(npy);
  const std::string packed = gzip.substr(10, gzip.size() - 18);
  std::string bytes = WriteNpz(one);
  const size_t begin = 30 + 5;
  bytes.replace(begin, npy.size(), packed);
  auto set = [&](size_t at, uint32_t value, int size) {
    for (int i = 0; i < size; ++i) bytes[at + i] = static_cast<char>(value >> (8 * i));
  };
  const size_t directory = begin + packed.size();
  set(8, 8, 2);
  set(18, packed.size(), 4);
  set(directory + 10, 8, 2);
  set(directory + 20, packed.size(), 4);
  set(bytes.size() - 6, directory, 4);
  return bytes;
}

TEST(Npz, ReadsDeflatedMembers) {
  auto back = ReadNpz(Deflated());
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ((*back)[0].shape, (Shape{1000}));
  EXPECT_EQ((*back)[0].As<uint8_t>()[999], 5);
}

TEST(Npz, RefusesEveryTruncationAndNoticesDamage) {
  for (const std::string& whole : {WriteNpz(TwoTensors()), Deflated()}) {
    for (size_t size = 0; size < whole.size(); ++size) EXPECT_FALSE(ReadNpz(whole.substr(0, size)).ok()) << size;
    for (size_t at = 0; at < whole.size(); ++at) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(~bytes[at]);
      ReadNpz(bytes).IgnoreError();
    }
    std::string damaged = whole;
    damaged[100] = static_cast<char>(damaged[100] ^ 1);
    EXPECT_FALSE(ReadNpz(damaged).ok());
  }
}

TEST(Npz, DoubtsASizeThatTheDirectoryInvents) {
  std::string bytes = Deflated();
  const size_t directory = bytes.rfind("PK\x01\x02");
  bytes.replace(directory + 24, 4, "\xf0\xff\xff\xff");
  EXPECT_THAT(MessageOfError(ReadNpz(bytes).status()), HasSubstr("promises 4294967280"));
}

}  // namespace
}  // namespace tandem::data
