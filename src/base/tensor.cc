#include "base/tensor.h"

#include <cstdlib>
#include <new>

#include "absl/strings/str_join.h"
#include "base/status.h"

namespace tandem {
namespace {

struct DTypeRow {
  DType dtype;
  std::string_view name;
  size_t bytes;
};

constexpr DTypeRow kDTypes[] = {
    {DType::kFloat32, "FP32", 4},  {DType::kUint8, "UINT8", 1},   {DType::kInt8, "INT8", 1},
    {DType::kUint16, "UINT16", 2}, {DType::kInt16, "INT16", 2},   {DType::kInt32, "INT32", 4},
    {DType::kInt64, "INT64", 8},   {DType::kString, "BYTES", 0},  {DType::kBool, "BOOL", 1},
    {DType::kFloat16, "FP16", 2},  {DType::kFloat64, "FP64", 8},  {DType::kUint32, "UINT32", 4},
    {DType::kUint64, "UINT64", 8}, {DType::kBFloat16, "BF16", 2},
};

constexpr size_t kAlignment = 64;

}  // namespace

size_t ByteSize(DType dtype) {
  for (const DTypeRow& row : kDTypes) {
    if (row.dtype == dtype) return row.bytes;
  }
  return 0;
}

std::string_view ProtocolName(DType dtype) {
  for (const DTypeRow& row : kDTypes) {
    if (row.dtype == dtype) return row.name;
  }
  return "";
}

DType DTypeFromProtocolName(std::string_view name) {
  for (const DTypeRow& row : kDTypes) {
    if (row.name == name) return row.dtype;
  }
  return DType::kInvalid;
}

absl::StatusOr<int64_t> ElementCount(const Shape& shape) {
  // A 0 does not hide that the other dimensions are too much: parts of an empty shape can be counted too.
  int64_t count = 1;
  bool empty = false;
  for (int64_t dim : shape) {
    if (dim < 0) return InvalidArgument("shape ", ToString(shape), " has a negative dimension");
    if (dim == 0) {
      empty = true;
      continue;
    }
    if (count > (int64_t{1} << 62) / dim) {
      return InvalidArgument("shape ", ToString(shape), " has too many elements");
    }
    count *= dim;
  }
  return empty ? 0 : count;
}

std::string ToString(const Shape& shape) { return StrCat("[", absl::StrJoin(shape, ","), "]"); }

void AlignedFree::operator()(std::byte* p) const {
  if (owned) std::free(p);
}

AlignedBuffer AlignedBuffer::Borrow(void* data, size_t size) {
  AlignedBuffer buffer;
  buffer.data_ = Memory(static_cast<std::byte*>(data), AlignedFree{.owned = false});
  buffer.size_ = buffer.capacity_ = size;
  return buffer;
}

AlignedBuffer::AlignedBuffer(size_t size) { Resize(size); }

void AlignedBuffer::Resize(size_t size) {
  if (size > capacity_ || data_ == nullptr) {
    size_t rounded = (size + kAlignment) / kAlignment * kAlignment;
    auto* memory = static_cast<std::byte*>(std::aligned_alloc(kAlignment, rounded));
    if (memory == nullptr) throw std::bad_alloc();
    data_ = Memory(memory, AlignedFree());
    capacity_ = rounded;
  }
  size_ = size;
}

}  // namespace tandem
