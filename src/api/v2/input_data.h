#pragma once
// Where the bytes of an input come from: a request's body, or shared memory; checked against its type and shape.
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "api/service.h"
#include "api/v2/shared_memory.h"

namespace tandem::api::v2 {

// What may be kept from one request to the next, of inputs, of an output, of a message; more is given back.
constexpr size_t kKeptBytes = 1 << 20;

// Buffers for inputs that cannot be used where they lie. Keeps memory from request to request. Thread-compatible.
class InputBuffers {
 public:
  // Valid until Clear.
  AlignedBuffer* Next(size_t bytes);
  void Clear();

 private:
  std::vector<AlignedBuffer> buffers_;
  size_t used_ = 0;
};

// Sets the tensor's data to `bytes`, copied only if they do not stand on a multiple of 64. InvalidArgument when they do
// not fit its dtype and shape, or are not as many elements of BYTES.
absl::Status UseBytes(std::string_view bytes, InputBuffers* buffers, InputTensor* tensor);

// The same for a piece of a region, whose lease is added to `leases`. BYTES are copied always: the client could change
// their lengths after they were checked.
absl::Status UseRegion(const SharedMemory& regions, std::string_view region, size_t offset, size_t byte_size,
                       InputBuffers* buffers, std::vector<SharedMemory::Lease>* leases, InputTensor* tensor);

// A raw request: `bytes` is the model's only input, of which at most one dimension is unknown; with batching it is a
// batch of one. Fills in the tensor.
absl::Status UseRaw(std::string_view bytes, const InferSession& session, InputBuffers* buffers, InputTensor* tensor);

}  // namespace tandem::api::v2
