#include "serving/batch.h"

#include <gtest/gtest.h>

#include <cstring>

namespace tandem::serving {
namespace {

std::string Text(std::initializer_list<std::string_view> elements) {
  std::string bytes;
  for (std::string_view element : elements) {
    const auto size = static_cast<uint32_t>(element.size());
    bytes.append(reinterpret_cast<const char*>(&size), sizeof size);
    bytes.append(element);
  }
  return bytes;
}

Tensor MakeTensor(DType dtype, Shape shape, std::string_view bytes) {
  Tensor tensor;
  tensor.name = "out";
  tensor.dtype = dtype;
  tensor.shape = std::move(shape);
  tensor.buffer.Resize(bytes.size());
  if (!bytes.empty()) std::memcpy(tensor.buffer.data(), bytes.data(), bytes.size());
  return tensor;
}

TEST(JoinPieces, JoinsAndPadsWithZeros) {
  const int16_t a[] = {1, 2}, b[] = {3, 4, 5, 6};
  AlignedBuffer memory;
  engine::InputView view;
  JoinPieces({{a, 4}, {b, 8}}, DType::kInt16, {1, 2}, 3, 5, &memory, &view);
  EXPECT_EQ(view.shape, (Shape{5, 2}));
  ASSERT_EQ(view.byte_size, 20u);
  const int16_t expected[] = {1, 2, 3, 4, 5, 6, 0, 0, 0, 0};
  EXPECT_EQ(std::memcmp(view.data, expected, 20), 0);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(view.data) % 64, 0u);
}

TEST(JoinPieces, PadsTextWithEmptyElements) {
  std::string a = Text({"x", "yz"});
  AlignedBuffer memory;
  engine::InputView view;
  JoinPieces({{a.data(), a.size()}}, DType::kString, {1, 2}, 1, 2, &memory, &view);
  std::string expected = Text({"x", "yz", "", ""});
  EXPECT_EQ(std::string_view(static_cast<const char*>(view.data), view.byte_size), expected);
}

TEST(CopyRows, GivesEachOwnerItsRowsAndKeepsItsMemory) {
  const float values[] = {1, 2, 3, 4, 5, 6};
  Tensor all = MakeTensor(DType::kFloat32, {3, 2}, {reinterpret_cast<const char*>(values), 24});
  absl::StatusOr<RowMap> map = RowMap::Create(all, 3);
  ASSERT_TRUE(map.ok()) << map.status();
  alignas(64) float mine[4];
  Tensor out;
  out.buffer = AlignedBuffer::Borrow(mine, sizeof mine);
  CopyRows(all, *map, 1, 2, &out);
  EXPECT_EQ(out.name, "out");
  EXPECT_EQ(out.shape, (Shape{2, 2}));
  EXPECT_EQ(static_cast<void*>(out.buffer.data()), static_cast<void*>(mine));
  EXPECT_EQ(mine[0], 3);
  EXPECT_EQ(mine[3], 6);
}

TEST(CopyRows, FindsTheRowsOfText) {
  Tensor all = MakeTensor(DType::kString, {3, 2}, Text({"a", "bc", "", "d", "efg", ""}));
  absl::StatusOr<RowMap> map = RowMap::Create(all, 3);
  ASSERT_TRUE(map.ok()) << map.status();
  Tensor out;
  CopyRows(all, *map, 1, 2, &out);
  EXPECT_EQ(out.bytes(), Text({"", "d", "efg", ""}));
  CopyRows(all, *map, 0, 1, &out);
  EXPECT_EQ(out.bytes(), Text({"a", "bc"}));
  CopyRows(all, *map, 3, 0, &out);
  EXPECT_EQ(out.shape, (Shape{0, 2}));
  EXPECT_EQ(out.buffer.size(), 0u);
}

TEST(RowMap, RefusesBytesThatAreNotThoseOfTheShape) {
  EXPECT_EQ(RowMap::Create(MakeTensor(DType::kFloat32, {2, 2}, "1234"), 2).status().message(),
            "output 'out' has 4 bytes, not those of its shape [2,2]");
  std::string text = Text({"abc"});
  EXPECT_FALSE(RowMap::Create(MakeTensor(DType::kString, {2}, text), 2).ok());
  text.pop_back();
  EXPECT_FALSE(RowMap::Create(MakeTensor(DType::kString, {1}, text), 1).ok());
}

TEST(CheckOutputRows, NamesTheOutputAndTheCure) {
  EXPECT_TRUE(CheckOutputRows("m", MakeTensor(DType::kFloat32, {3, 1}, ""), 3).ok());
  EXPECT_EQ(
      CheckOutputRows("m", MakeTensor(DType::kFloat32, {1}, ""), 3).message(),
      "m: output 'out' has shape [1] for 3 rows of input, so its requests cannot be merged; set max_batch_size: 0");
  EXPECT_FALSE(CheckOutputRows("m", MakeTensor(DType::kFloat32, {}, ""), 1).ok());
}

}  // namespace
}  // namespace tandem::serving
