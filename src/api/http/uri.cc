#include "api/http/uri.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/status.h"

namespace tandem::api::http {
namespace {

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

template <typename T>
absl::StatusOr<T> ParseNumber(std::string_view key, std::string_view text, T missing) {
  if (text.empty()) return missing;
  T value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    return InvalidArgument("query parameter '", key, "' is '", text, "', must be a number");
  }
  return value;
}

}  // namespace

bool PercentDecode(std::string_view text, std::string* out) {
  out->clear();
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out->push_back(text[i]);
      continue;
    }
    if (i + 2 >= text.size()) return false;
    int high = HexDigit(text[i + 1]), low = HexDigit(text[i + 2]);
    if (high < 0 || low < 0) return false;
    out->push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return true;
}

absl::StatusOr<std::string> QueryText(std::string_view query, std::string_view key) {
  while (!query.empty()) {
    std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), pair.size() + 1));
    size_t equals = pair.find('=');
    if (pair.substr(0, equals) != key) continue;
    if (equals == std::string_view::npos) return std::string();
    std::string encoded(pair.substr(equals + 1)), value;
    std::replace(encoded.begin(), encoded.end(), '+', ' ');
    if (!PercentDecode(encoded, &value)) {
      return InvalidArgument("query parameter '", key, "' is wrongly encoded: '%' needs two hex digits");
    }
    return value;
  }
  return std::string();
}

absl::StatusOr<int64_t> QueryInt(std::string_view query, std::string_view key, int64_t missing) {
  TANDEM_ASSIGN_OR_RETURN(std::string text, QueryText(query, key));
  return ParseNumber<int64_t>(key, text, missing);
}

absl::StatusOr<double> QuerySeconds(std::string_view query, std::string_view key, double missing) {
  TANDEM_ASSIGN_OR_RETURN(std::string text, QueryText(query, key));
  TANDEM_ASSIGN_OR_RETURN(double value, ParseNumber<double>(key, text, missing));
  if (!std::isfinite(value) || value < 0) {
    return InvalidArgument("query parameter '", key, "' is '", text, "', must be 0 or more");
  }
  return value;
}

}  // namespace tandem::api::http
