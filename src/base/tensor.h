#pragma once
// Tensors as plain memory: what requests, engines, data sets and model files exchange. No runtime behind it.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace tandem {

// Element types, with the numbers of TensorProto.DataType of ONNX; include/tandem/engine.h uses the same.
enum class DType : int32_t {
  kInvalid = 0,
  kFloat32 = 1,
  kUint8 = 2,
  kInt8 = 3,
  kUint16 = 4,
  kInt16 = 5,
  kInt32 = 6,
  kInt64 = 7,
  kString = 8,  // BYTES on the wire: each element a uint32 length (little endian) and its bytes
  kBool = 9,
  kFloat16 = 10,
  kFloat64 = 11,
  kUint32 = 12,
  kUint64 = 13,
  kBFloat16 = 16,
};

// Bytes of one element; 0 for strings and kInvalid.
size_t ByteSize(DType dtype);
// The Open Inference Protocol's names: "FP32", "INT64", "BYTES", ...; "" for kInvalid.
std::string_view ProtocolName(DType dtype);
DType DTypeFromProtocolName(std::string_view name);  // kInvalid if unknown

using Shape = std::vector<int64_t>;  // row-major; -1 = any, where a signature is meant

// Product of the dimensions. InvalidArgument for a negative dimension or a product over 2^62.
absl::StatusOr<int64_t> ElementCount(const Shape& shape);
std::string ToString(const Shape& shape);  // "[1,28,28]"

struct AlignedFree {
  bool owned = true;
  void operator()(std::byte* p) const;
};

// Memory aligned to 64 bytes, uninitialised. Movable. Thread-compatible.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t size);
  AlignedBuffer(AlignedBuffer&&) noexcept = default;
  AlignedBuffer& operator=(AlignedBuffer&&) noexcept = default;
  // Memory of somebody else, who keeps it while the buffer is used. Resize to more than `size` leaves it for memory of
  // its own.
  static AlignedBuffer Borrow(void* data, size_t size);
  std::byte* data() { return data_.get(); }
  const std::byte* data() const { return data_.get(); }
  size_t size() const { return size_; }
  // Keeps the memory when it is large enough, else replaces it; the content is then undefined.
  void Resize(size_t size);

 private:
  using Memory = std::unique_ptr<std::byte[], AlignedFree>;
  Memory data_;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

// A named tensor that owns its memory. Thread-compatible.
struct Tensor {
  std::string name;
  DType dtype = DType::kInvalid;
  Shape shape;
  AlignedBuffer buffer;

  // REQUIRES: dtype matches T.
  template <typename T>
  T* As() {
    return reinterpret_cast<T*>(buffer.data());
  }
  template <typename T>
  const T* As() const {
    return reinterpret_cast<const T*>(buffer.data());
  }
  std::string_view bytes() const { return {reinterpret_cast<const char*>(buffer.data()), buffer.size()}; }
};

// Name, type and shape without data: one input or output of a model.
struct TensorSignature {
  std::string name;
  DType dtype = DType::kInvalid;
  Shape shape;
};

}  // namespace tandem
