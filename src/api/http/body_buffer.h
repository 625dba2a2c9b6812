#pragma once
// A growing run of bytes that can be parsed in place: 64 readable bytes lie behind its end.
#include <string_view>

#include "base/tensor.h"

namespace tandem::api::http {

// Keeps its memory when cleared, up to a limit. Thread-compatible.
class BodyBuffer {
 public:
  static constexpr size_t kPadding = 64;

  // Empties it, and makes room for `bytes`. The byte at position `aligned_at` will lie at a multiple of 64.
  void Start(size_t bytes, size_t aligned_at = 0);
  void Append(std::string_view piece);
  // Makes room for `bytes` more, and for as many as there are already.
  void Grow(size_t bytes);
  // Where the next bytes may be written directly, and how many; then Commit them.
  char* free() { return begin() + size_; }
  size_t room() const {
    return memory_.size() < offset_ + size_ + kPadding ? 0 : memory_.size() - offset_ - size_ - kPadding;
  }
  void Commit(size_t bytes) { size_ += bytes; }

  size_t size() const { return size_; }
  std::string_view view() const { return {reinterpret_cast<const char*>(memory_.data()) + offset_, size_}; }
  // Empties it; gives memory back beyond what is worth keeping for the next request.
  void Clear();

 private:
  char* begin() { return reinterpret_cast<char*>(memory_.data()) + offset_; }

  AlignedBuffer memory_;
  size_t offset_ = 0;  // so that aligned_at is met
  size_t size_ = 0;
};

}  // namespace tandem::api::http
