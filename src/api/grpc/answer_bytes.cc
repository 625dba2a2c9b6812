#include "api/grpc/answer_bytes.h"

#include <google/protobuf/io/coded_stream.h>

namespace tandem::api::rpc {

::grpc::Slice Loan::Lend(std::string_view bytes) {
  shares_.fetch_add(1, std::memory_order_relaxed);
  return ::grpc::Slice(const_cast<char*>(bytes.data()), bytes.size(), ReturnSlice, this);
}

void Loan::Return() {
  if (shares_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
}

void AnswerBytes::Varint(uint64_t value) {
  for (; value >= 0x80; value >>= 7) text_.push_back(static_cast<char>(value | 0x80));
  text_.push_back(static_cast<char>(value));
}

void AnswerBytes::AddLent(Loan* loan, std::string_view bytes) {
  Flush();
  slices_.push_back(loan->Lend(bytes));
}

::grpc::ByteBuffer AnswerBytes::Take() {
  Flush();
  ::grpc::ByteBuffer buffer(slices_.data(), slices_.size());
  slices_.clear();
  return buffer;
}

void AnswerBytes::Flush() {
  if (text_.empty()) return;
  slices_.emplace_back(text_.data(), text_.size());
  text_.clear();
}

size_t VarintSize(uint64_t value) { return google::protobuf::io::CodedOutputStream::VarintSize64(value); }

}  // namespace tandem::api::rpc
