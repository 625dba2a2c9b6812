#pragma once
// Tars, made by hand, for tests of those who read them.
#include <cstddef>
#include <string>
#include <string_view>

#include "absl/strings/str_format.h"

namespace tandem {

// The header of an entry.
inline std::string TarHeader(std::string_view name, char type, size_t size, std::string_view prefix = "") {
  std::string block(512, '\0');
  auto put = [&](size_t at, std::string_view text) { block.replace(at, text.size(), text); };
  put(0, name);
  put(124, absl::StrFormat("%011o", size));
  put(148, "        ");
  block[156] = type;
  put(257, std::string_view("ustar\00000", 8));
  put(345, prefix);
  unsigned sum = 0;
  for (unsigned char c : block) sum += c;
  put(148, absl::StrFormat("%06o", sum));
  block[154] = '\0';
  return block;
}
// An entry whole.
inline std::string TarEntry(std::string_view name, std::string_view data, char type = '0',
                            std::string_view prefix = "") {
  std::string entry = TarHeader(name, type, data.size(), prefix) + std::string(data);
  entry.resize((entry.size() + 511) / 512 * 512);
  return entry;
}
inline const std::string kTarEnd(1024, '\0');

}  // namespace tandem
