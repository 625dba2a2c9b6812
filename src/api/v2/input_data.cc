#include "api/v2/input_data.h"

#include <string.h>

#include <algorithm>
#include <cstdint>

#include "base/status.h"

namespace tandem::api::v2 {
namespace {

constexpr size_t kKeptBuffers = 16;
constexpr int64_t kMostElements = int64_t{1} << 40;

// BYTES on the wire: as many length-prefixed elements as the shape says, and nothing behind them.
absl::Status CheckTexts(std::string_view bytes, int64_t count) {
  int64_t found = 0;
  for (; !bytes.empty(); ++found) {
    uint32_t length;
    if (bytes.size() < sizeof length) return InvalidArgument("BYTES element ", found, " is cut off in its length");
    memcpy(&length, bytes.data(), sizeof length);
    bytes.remove_prefix(sizeof length);
    if (length > bytes.size()) {
      return InvalidArgument("BYTES element ", found, " says it has ", length, " bytes, but ", bytes.size(),
                             " are left");
    }
    bytes.remove_prefix(length);
  }
  if (found != count) return InvalidArgument("has ", found, " BYTES elements, but its shape says ", count);
  return absl::OkStatus();
}

absl::Status CheckBytes(std::string_view bytes, const InputTensor& tensor) {
  TANDEM_ASSIGN_OR_RETURN(int64_t count, ElementCount(tensor.shape));
  if (tensor.dtype == DType::kString) return CheckTexts(bytes, count);
  const size_t size = ByteSize(tensor.dtype);
  if (count <= kMostElements && static_cast<size_t>(count) * size == bytes.size()) return absl::OkStatus();
  return InvalidArgument(ProtocolName(tensor.dtype), " of shape ", ToString(tensor.shape), " needs ", count,
                         " elements of ", size, " bytes, but binary data has ", bytes.size(), " bytes");
}

std::string_view Copy(std::string_view bytes, InputBuffers* buffers) {
  AlignedBuffer* buffer = buffers->Next(bytes.size());
  if (!bytes.empty()) memcpy(buffer->data(), bytes.data(), bytes.size());
  return {reinterpret_cast<const char*>(buffer->data()), buffer->size()};
}

bool IsAligned(std::string_view bytes) { return reinterpret_cast<uintptr_t>(bytes.data()) % 64 == 0; }

// The single input of a raw request takes its unknown dimension from the number of bytes.
absl::Status ShapeFromBytes(size_t bytes, bool batching, InputTensor* tensor) {
  auto unknown = [&] {
    return std::count_if(tensor->shape.begin(), tensor->shape.end(), [](int64_t dim) { return dim < 0; });
  };
  if (tensor->dtype == DType::kString) {
    tensor->shape = {1};
    return absl::OkStatus();
  }
  // With more than one, the first is the batch, and a raw request is a batch of one.
  const bool is_batch = batching || unknown() > 1;
  if (is_batch && !tensor->shape.empty() && tensor->shape[0] < 0) tensor->shape[0] = 1;
  if (unknown() > 1) return InvalidArgument("has more than one unknown dimension; send its shape in JSON");
  auto open = std::find_if(tensor->shape.begin(), tensor->shape.end(), [](int64_t dim) { return dim < 0; });
  if (open == tensor->shape.end()) return absl::OkStatus();
  *open = 1;
  TANDEM_ASSIGN_OR_RETURN(int64_t rest, ElementCount(tensor->shape));
  size_t step = static_cast<size_t>(rest) * ByteSize(tensor->dtype);
  if (step == 0 || bytes % step != 0) return InvalidArgument("needs a multiple of ", step, " bytes, got ", bytes);
  *open = static_cast<int64_t>(bytes / step);
  return absl::OkStatus();
}

}  // namespace

AlignedBuffer* InputBuffers::Next(size_t bytes) {
  if (used_ == buffers_.size()) buffers_.emplace_back();
  AlignedBuffer* buffer = &buffers_[used_++];
  buffer->Resize(bytes);
  return buffer;
}

void InputBuffers::Clear() {
  size_t bytes = 0;
  for (const AlignedBuffer& buffer : buffers_) bytes += buffer.size();
  if (bytes > kKeptBytes || buffers_.size() > kKeptBuffers) buffers_.clear();
  used_ = 0;
}

absl::Status UseBytes(std::string_view bytes, InputBuffers* buffers, InputTensor* tensor) {
  TANDEM_RETURN_IF_ERROR(CheckBytes(bytes, *tensor));
  if (!IsAligned(bytes)) bytes = Copy(bytes, buffers);
  tensor->data = bytes.data();
  tensor->byte_size = bytes.size();
  return absl::OkStatus();
}

absl::Status UseRegion(const SharedMemory& regions, std::string_view region, size_t offset, size_t byte_size,
                       InputBuffers* buffers, std::vector<SharedMemory::Lease>* leases, InputTensor* tensor) {
  TANDEM_ASSIGN_OR_RETURN(SharedMemory::Lease lease, regions.Find(region, offset, byte_size));
  std::string_view bytes(reinterpret_cast<const char*>(lease.data), byte_size);
  leases->push_back(std::move(lease));
  if (tensor->dtype == DType::kString) bytes = Copy(bytes, buffers);
  return UseBytes(bytes, buffers, tensor);
}

absl::Status UseRaw(std::string_view bytes, const InferSession& session, InputBuffers* buffers, InputTensor* tensor) {
  const std::vector<TensorSignature>& signature = session.inputs();
  if (signature.size() != 1) {
    return InvalidArgument("a raw request (header Inference-Header-Content-Length 0) needs a model with one input; '",
                           session.model(), "' has ", signature.size());
  }
  tensor->name = signature[0].name;
  tensor->dtype = signature[0].dtype;
  tensor->shape = signature[0].shape;
  absl::Status status = ShapeFromBytes(bytes.size(), session.config().max_batch_size > 0, tensor);
  if (status.ok()) status = UseBytes(bytes, buffers, tensor);
  return Annotate(status, StrCat("input '", tensor->name, "'"));
}

}  // namespace tandem::api::v2
