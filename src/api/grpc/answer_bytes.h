#pragma once
// An answer put together from small pieces, which are copied, and large tensors, which are not.
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <atomic>
#include <string>
#include <string_view>
#include <vector>

#include "base/tensor.h"

namespace tandem::api::rpc {

// Tensors that an answer on its way to the socket still uses: as many slices, the last one deletes it.
class Loan {
 public:
  explicit Loan(std::vector<Tensor> tensors) : tensors_(std::move(tensors)) {}
  ::grpc::Slice Lend(std::string_view bytes);
  // The maker's own share.
  void Return();

 private:
  static void ReturnSlice(void* loan) { static_cast<Loan*>(loan)->Return(); }
  const std::vector<Tensor> tensors_;
  std::atomic<int> shares_ = 1;
};

// Thread-compatible.
class AnswerBytes {
 public:
  // From this size on a tensor is lent, not copied.
  static constexpr size_t kLent = 32 << 10;

  // A piece that is copied.
  std::string* text() { return &text_; }
  void Varint(uint64_t value);
  void AddLent(Loan* loan, std::string_view bytes);
  ::grpc::ByteBuffer Take();

 private:
  void Flush();
  std::string text_;
  std::vector<::grpc::Slice> slices_;
};

size_t VarintSize(uint64_t value);

}  // namespace tandem::api::rpc
