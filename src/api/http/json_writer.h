#pragma once
// JSON written front to back into a string; commas are put by itself. Text that is not UTF-8 is written with '?' for
// its high bytes; NaN and infinities as NaN, Infinity and -Infinity (docs/api.md).
#include <algorithm>
#include <charconv>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

namespace tandem::api::http {

// Appends to a string that it does not own. Thread-compatible. Nesting is the caller's duty.
class JsonWriter {
 public:
  explicit JsonWriter(std::string* out) : out_(out) {}

  JsonWriter& BeginObject() { return Open('{'); }
  JsonWriter& EndObject() { return Close('}'); }
  JsonWriter& BeginArray() { return Open('['); }
  JsonWriter& EndArray() { return Close(']'); }
  JsonWriter& Key(std::string_view key);
  JsonWriter& String(std::string_view text);
  JsonWriter& Bool(bool value) { return Raw(value ? "true" : "false"); }
  template <typename T>
  JsonWriter& Number(T value);
  // A value that is JSON already.
  JsonWriter& Raw(std::string_view json);
  // A whole array of `count` numbers; the hot loop of JSON answers.
  template <typename T>
  JsonWriter& Numbers(const T* values, int64_t count);

 private:
  // Room for the longest number: a double's shortest form has at most 24 characters.
  static constexpr size_t kNumberRoom = 32;

  JsonWriter& Open(char bracket);
  JsonWriter& Close(char bracket);
  void Separate() {
    if (need_comma_) out_->push_back(',');
    need_comma_ = true;
  }
  void AppendQuoted(std::string_view text);
  // Writes the number to [at, at + kNumberRoom) and gives its end.
  template <typename T>
  static char* Put(char* at, T value);
  static char* PutText(char* at, std::string_view text) { return at + text.copy(at, text.size()); }

  std::string* out_;
  bool need_comma_ = false;
};

template <typename T>
char* JsonWriter::Put(char* at, T value) {
  if constexpr (std::same_as<T, bool>) {
    return PutText(at, value ? "true" : "false");
  } else if constexpr (std::floating_point<T>) {
    if (std::isnan(value)) return PutText(at, "NaN");
    if (std::isinf(value)) return PutText(at, value > 0 ? "Infinity" : "-Infinity");
    return std::to_chars(at, at + kNumberRoom, value).ptr;
  } else {
    return std::to_chars(at, at + kNumberRoom, value).ptr;
  }
}

template <typename T>
JsonWriter& JsonWriter::Number(T value) {
  Separate();
  char text[kNumberRoom];
  out_->append(text, Put(text, value) - text);
  return *this;
}

template <typename T>
JsonWriter& JsonWriter::Numbers(const T* values, int64_t count) {
  constexpr int64_t kBlock = 512;
  BeginArray();
  for (int64_t first = 0; first < count; first += kBlock) {
    int64_t last = std::min(count, first + kBlock);
    size_t used = out_->size();
    out_->resize(used + (last - first) * (kNumberRoom + 1));
    char* at = out_->data() + used;
    for (int64_t i = first; i < last; ++i) {
      if (i != 0) *at++ = ',';
      at = Put(at, values[i]);
    }
    out_->resize(at - out_->data());
  }
  return EndArray();
}

}  // namespace tandem::api::http
