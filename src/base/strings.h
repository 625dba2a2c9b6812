#pragma once
// Text pieces joined, and the bridge to Abseil's own view type: distributions build Abseil with a string_view of its
// own, which neither converts from nor to std::string_view.
#include <string>
#include <string_view>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace tandem {

inline absl::string_view AbslView(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view StdView(absl::string_view text) { return {text.data(), text.size()}; }

// The message of a status.
inline std::string_view MessageOf(const absl::Status& status) { return StdView(status.message()); }

namespace internal {
inline absl::string_view Piece(std::string_view text) { return AbslView(text); }
template <typename T>
requires(!std::is_convertible_v<const T&, std::string_view>) const T& Piece(const T& value) { return value; }
}  // namespace internal

// absl::StrCat and absl::StrAppend that take std::string_view as well.
template <typename... Args>
std::string StrCat(const Args&... args) {
  return absl::StrCat(internal::Piece(args)...);
}
template <typename... Args>
void StrAppend(std::string* out, const Args&... args) {
  absl::StrAppend(out, internal::Piece(args)...);
}

}  // namespace tandem
