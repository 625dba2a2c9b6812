#include "tensors.h"

#include <cstring>
#include <functional>
#include <new>
#include <numeric>
#include <string>
#include <vector>

namespace tandem_onnxruntime {
namespace {

// A BYTES tensor holds for each element its length in this type, little endian, and its bytes.
using Length = uint32_t;

int64_t ElementCount(const int64_t* shape, size_t rank) {
  return std::accumulate(shape, shape + rank, int64_t{1}, std::multiplies<>());
}

void FillStrings(const tandem_input& input, const char* name, OrtValue* value) {
  const Runtime& runtime = Runtime::Get();
  const char* at = static_cast<const char*>(input.data);
  size_t left = input.byte_size;
  const int64_t count = ElementCount(input.shape, input.rank);
  for (int64_t i = 0; i < count; ++i) {
    Length length = 0;
    if (left >= sizeof(length)) std::memcpy(&length, at, sizeof(length));
    if (left < sizeof(length) || left - sizeof(length) < length) {
      throw Error(TANDEM_INVALID_ARGUMENT, std::string("input '") + name + "' ends in element " + std::to_string(i) +
                                               " of " + std::to_string(count));
    }
    char* buffer = nullptr;
    runtime.Check(runtime.functions().GetResizedStringTensorElementBuffer(value, i, length, &buffer));
    if (length > 0) std::memcpy(buffer, at + sizeof(length), length);
    at += sizeof(length) + length;
    left -= sizeof(length) + length;
  }
  if (left > 0) {
    throw Error(TANDEM_INVALID_ARGUMENT,
                std::string("input '") + name + "' has " + std::to_string(left) + " bytes after its last element");
  }
}

void WriteStrings(const std::string& content, const std::vector<size_t>& offsets, char* out) {
  for (size_t i = 0; i < offsets.size(); ++i) {
    const size_t end = i + 1 < offsets.size() ? offsets[i + 1] : content.size();
    const auto length = static_cast<Length>(end - offsets[i]);
    std::memcpy(out, &length, sizeof(length));
    std::memcpy(out + sizeof(length), content.data() + offsets[i], length);
    out += sizeof(length) + length;
  }
}

struct Description {
  int type = 0;
  std::vector<int64_t> shape;
};

Description Describe(const OrtValue* value) {
  const Runtime& runtime = Runtime::Get();
  const Functions& ort = runtime.functions();
  OrtTensorTypeAndShapeInfo* raw = nullptr;
  runtime.Check(ort.GetTensorTypeAndShape(value, &raw));
  const ShapeInfo info(raw);
  Description result;
  size_t rank = 0;
  runtime.Check(ort.GetTensorElementType(info.get(), &result.type));
  runtime.Check(ort.GetDimensionsCount(info.get(), &rank));
  result.shape.resize(rank);
  runtime.Check(ort.GetDimensions(info.get(), result.shape.data(), rank));
  return result;
}

}  // namespace

size_t ByteSize(tandem_dtype dtype) {
  switch (dtype) {
    case 2:  // uint8, int8, bool
    case 3:
    case 9:
      return 1;
    case 4:  // uint16, int16, float16, bfloat16
    case 5:
    case 10:
    case 16:
      return 2;
    case 1:  // float32, int32, uint32
    case 6:
    case 12:
      return 4;
    case 7:  // int64, float64, uint64
    case 11:
    case 13:
      return 8;
    default:
      return 0;
  }
}

Value ToValue(const tandem_input& input, const char* name) {
  const Runtime& runtime = Runtime::Get();
  const Functions& ort = runtime.functions();
  OrtValue* raw = nullptr;
  if (input.dtype == kStringType) {
    runtime.Check(ort.CreateTensorAsOrtValue(runtime.allocator(), input.shape, input.rank, input.dtype, &raw));
    Value value(raw);
    FillStrings(input, name, raw);
    return value;
  }
  // ONNX Runtime only reads its inputs, and takes no null pointer even for a tensor without elements.
  static char nothing;
  void* data = input.data != nullptr ? const_cast<void*>(input.data) : &nothing;
  runtime.Check(ort.CreateTensorWithDataAsOrtValue(runtime.memory(), data, input.byte_size, input.shape, input.rank,
                                                   input.dtype, &raw));
  return Value(raw);
}

void Give(OrtValue* value, int32_t index, const char* name, const tandem_output& output) {
  const Runtime& runtime = Runtime::Get();
  const Functions& ort = runtime.functions();
  int is_tensor = 0;
  runtime.Check(ort.IsTensor(value, &is_tensor));
  if (is_tensor == 0) throw Error(TANDEM_INTERNAL, std::string("output '") + name + "' is no tensor");
  const Description made = Describe(value);
  const size_t rank = made.shape.size();
  if (rank > TANDEM_ENGINE_MAX_RANK) {
    throw Error(TANDEM_INTERNAL, std::string("output '") + name + "' has more than 8 dimensions");
  }
  const auto count = static_cast<size_t>(ElementCount(made.shape.data(), rank));
  std::string content;
  std::vector<size_t> offsets(made.type == kStringType ? count : 0);
  size_t bytes = count * ByteSize(made.type);
  if (made.type == kStringType) {
    size_t size = 0;
    runtime.Check(ort.GetStringTensorDataLength(value, &size));
    content.resize(size);
    runtime.Check(ort.GetStringTensorContent(value, content.data(), size, offsets.data(), count));
    bytes = size + count * sizeof(Length);
  }
  void* out = output.allocate(output.context, index, made.type, static_cast<int32_t>(rank), made.shape.data(), bytes);
  if (out == nullptr) throw std::bad_alloc();
  if (made.type == kStringType) {
    WriteStrings(content, offsets, static_cast<char*>(out));
  } else if (bytes > 0) {
    void* data = nullptr;
    runtime.Check(ort.GetTensorMutableData(value, &data));
    std::memcpy(out, data, bytes);
  }
}

}  // namespace tandem_onnxruntime
