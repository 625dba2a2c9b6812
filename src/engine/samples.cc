#include "engine/samples.h"

#include <algorithm>
#include <cstring>
#include <random>

#include "base/files.h"
#include "base/status.h"

namespace tandem::engine {
namespace {

constexpr uint64_t kSeed = 20240607;
constexpr size_t kTextBytes = 4;

uint16_t BFloat16(float value) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<uint16_t>(bits >> 16);
}

// Of 0 <= value < 1, to 10 bits: a multiple of 2^-10, which float16 holds exactly.
uint16_t Float16(float value) {
  const int thousandths = static_cast<int>(value * 1024);
  if (thousandths == 0) return 0;
  int exponent = 9;  // of the highest bit
  while ((thousandths >> exponent) == 0) --exponent;
  const int mantissa = (thousandths << (10 - exponent)) & 1023;
  return static_cast<uint16_t>((exponent - 10 + 15) << 10 | mantissa);
}

template <typename T>
void Append(T value, std::string* data) {
  data->append(reinterpret_cast<const char*>(&value), sizeof value);
}

void AppendElement(DType dtype, std::mt19937_64* random, std::string* data) {
  const uint64_t bits = (*random)();
  const float share = static_cast<float>(bits >> 40) / (1 << 24);
  switch (dtype) {
    case DType::kFloat32:
      return Append(share, data);
    case DType::kFloat64:
      return Append(static_cast<double>(share), data);
    case DType::kFloat16:
      return Append(Float16(share), data);
    case DType::kBFloat16:
      return Append(BFloat16(share), data);
    case DType::kString:
      Append(static_cast<uint32_t>(kTextBytes), data);
      for (size_t i = 0; i < kTextBytes; ++i) data->push_back(static_cast<char>('a' + (bits >> (8 * i)) % 26));
      return;
    default:
      break;
  }
  // Little endian: the number is in the first byte.
  std::string element(ByteSize(dtype), '\0');
  const bool is_byte = dtype == DType::kUint8 || dtype == DType::kInt8;
  if (!element.empty()) element[0] = static_cast<char>(is_byte ? bits & 255 : bits & 1);
  data->append(element);
}

Shape ShapeOf(const TensorSignature& input, int64_t rows, int64_t inner) {
  Shape shape = input.shape;
  if (!shape.empty() && shape[0] == -1) shape[0] = rows;
  std::replace(shape.begin(), shape.end(), int64_t{-1}, inner);
  return shape;
}

absl::StatusOr<int64_t> BytesOf(const std::vector<TensorSignature>& inputs, int64_t rows, int64_t inner) {
  int64_t total = 0;
  for (const TensorSignature& input : inputs) {
    TANDEM_ASSIGN_OR_RETURN(int64_t elements, ElementCount(ShapeOf(input, rows, inner)));
    const auto each =
        static_cast<int64_t>(input.dtype == DType::kString ? sizeof(uint32_t) + kTextBytes : ByteSize(input.dtype));
    if (elements > kMaxSampleBytes) return kMaxSampleBytes + 1;
    total += elements * each;
  }
  return total;
}

absl::Status CheckTensor(const wire::SampleTensor& tensor) {
  const auto dtype = static_cast<DType>(tensor.dtype());
  TANDEM_ASSIGN_OR_RETURN(int64_t elements, ElementCount(Shape(tensor.shape().begin(), tensor.shape().end())));
  const bool fits = dtype == DType::kString || (ByteSize(dtype) > 0 && elements <= kMaxSampleBytes &&
                                                tensor.data().size() == elements * ByteSize(dtype));
  if (fits) return absl::OkStatus();
  return InvalidArgument("tensor '", tensor.name(), "' of the samples has ", tensor.data().size(),
                         " bytes, which its shape does not");
}

}  // namespace

bool HasFreeRows(const std::vector<TensorSignature>& inputs) {
  return !inputs.empty() &&
         std::ranges::all_of(inputs, [](const auto& input) { return !input.shape.empty() && input.shape[0] == -1; });
}

void AddTensor(const TensorSignature& tensor, std::string_view data, wire::Sample* sample) {
  wire::SampleTensor* out = sample->add_tensors();
  out->set_name(tensor.name);
  out->set_dtype(static_cast<int32_t>(tensor.dtype));
  out->mutable_shape()->Add(tensor.shape.begin(), tensor.shape.end());
  out->set_data(data.data(), data.size());
}

absl::StatusOr<wire::Samples> MakeSamples(const std::vector<TensorSignature>& inputs, int batch, int64_t inner) {
  TANDEM_ASSIGN_OR_RETURN(const int64_t row_bytes, BytesOf(inputs, 1, inner));
  if (row_bytes * kSingleRuns > kMaxSampleBytes) {
    return ResourceExhausted("one request has ", row_bytes, " bytes of input, too many to measure with");
  }
  const int64_t room = kMaxSampleBytes / std::max<int64_t>(row_bytes, 1) - kSingleRuns;
  const auto rows = HasFreeRows(inputs) ? static_cast<int>(std::min<int64_t>(batch, room)) : 1;
  std::mt19937_64 random(kSeed);
  wire::Samples samples;
  samples.set_source(std::string(kMadeSamples));
  for (int i = 0; i < kSingleRuns + (rows > 1 ? 1 : 0); ++i) {
    wire::Sample* sample = samples.add_samples();
    sample->set_rows(i < kSingleRuns ? 1 : rows);
    for (const TensorSignature& input : inputs) {
      TensorSignature tensor = {input.name, input.dtype, ShapeOf(input, sample->rows(), inner)};
      TANDEM_ASSIGN_OR_RETURN(const int64_t elements, ElementCount(tensor.shape));
      std::string data;
      for (int64_t e = 0; e < elements; ++e) AppendElement(input.dtype, &random, &data);
      AddTensor(tensor, data, sample);
    }
  }
  return samples;
}

absl::Status WriteSamples(const std::filesystem::path& file, const wire::Samples& samples) {
  TANDEM_RETURN_IF_ERROR(WriteFileAtomically(SourceFile(file), samples.source()));
  return WriteFileAtomically(file, samples.SerializeAsString());
}

std::filesystem::path SourceFile(const std::filesystem::path& file) { return file.string() + ".source"; }

absl::StatusOr<wire::Samples> ReadSamples(const std::filesystem::path& file) {
  constexpr int64_t kOverhead = 1 << 20;  // names and shapes
  TANDEM_ASSIGN_OR_RETURN(std::string bytes, ReadFile(file, kMaxSampleBytes + kOverhead));
  wire::Samples samples;
  if (!samples.ParseFromString(bytes)) return InvalidArgument("'", file.string(), "' holds no samples");
  for (const wire::Sample& sample : samples.samples()) {
    for (const wire::SampleTensor& tensor : sample.tensors()) TANDEM_RETURN_IF_ERROR(CheckTensor(tensor));
  }
  return samples;
}

}  // namespace tandem::engine
