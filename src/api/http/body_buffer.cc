#include "api/http/body_buffer.h"

#include <string.h>

#include <algorithm>

namespace tandem::api::http {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kKeptBytes = 1 << 20;

}  // namespace

void BodyBuffer::Start(size_t bytes, size_t aligned_at) {
  offset_ = (kAlignment - aligned_at % kAlignment) % kAlignment;
  size_ = 0;
  memory_.Resize(offset_ + bytes + kPadding);
}

void BodyBuffer::Grow(size_t bytes) {
  if (bytes <= room()) return;
  AlignedBuffer larger(offset_ + std::max(2 * size_, size_ + bytes) + kPadding);
  if (size_ > 0) memcpy(larger.data() + offset_, begin(), size_);
  memory_ = std::move(larger);
}

void BodyBuffer::Append(std::string_view piece) {
  Grow(piece.size());
  memcpy(free(), piece.data(), piece.size());
  size_ += piece.size();
}

void BodyBuffer::Clear() {
  size_ = offset_ = 0;
  if (memory_.size() > kKeptBytes) memory_ = AlignedBuffer();
}

}  // namespace tandem::api::http
