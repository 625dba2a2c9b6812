#include "base/text.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "base/status.h"

namespace tandem {
namespace {

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

// Of the character that begins with this byte; 0 if none does.
size_t SequenceLength(unsigned char lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead < 0xe0) return 2;
  if (lead >= 0xe0 && lead < 0xf0) return 3;
  return lead >= 0xf0 && lead < 0xf5 ? 4 : 0;
}

// Of the first character; 0 if it is not well formed. REQUIRES: !text.empty().
size_t CharacterLength(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const size_t length = SequenceLength(lead);
  if (length == 0 || length > text.size()) return 0;
  uint32_t point = length == 1 ? lead : lead & (0x7fu >> length);
  for (unsigned char next : text.substr(1, length - 1)) {
    if ((next & 0xc0) != 0x80) return 0;
    point = point << 6 | (next & 0x3f);
  }
  const bool overlong = (length == 3 && point < 0x800) || (length == 4 && point < 0x10000);
  return overlong || point > 0x10ffff || (point >= 0xd800 && point < 0xe000) ? 0 : length;
}

struct Unit {
  std::string_view name;
  double factor;
};

// Number, then one of `units` (case-insensitive, blanks between allowed); no unit means factor 1.
absl::StatusOr<double> ParseWithUnit(std::string_view text, const std::vector<Unit>& units, std::string_view example) {
  std::string_view trimmed = StdView(absl::StripAsciiWhitespace(AbslView(text)));
  size_t end = trimmed.find_first_not_of("0123456789.");
  std::string_view number = trimmed.substr(0, end);
  std::string_view unit =
      end == std::string_view::npos ? "" : StdView(absl::StripAsciiWhitespace(AbslView(trimmed.substr(end))));
  double value = 0;
  if (number.empty() || !absl::SimpleAtod(AbslView(number), &value)) {
    return InvalidArgument("'", text, "' is not a number with a unit; write for example ", example);
  }
  if (unit.empty()) return value;
  for (const Unit& known : units) {
    if (absl::EqualsIgnoreCase(AbslView(unit), AbslView(known.name))) return value * known.factor;
  }
  return InvalidArgument("unknown unit '", unit, "' in '", text, "'; write for example ", example);
}

}  // namespace

std::optional<std::string> Nearest(std::string_view word, const std::vector<std::string>& candidates) {
  std::optional<std::string> best;
  // The dashes of an option are no letters that could agree by chance.
  size_t letters = word.size() - std::min(word.find_first_not_of('-'), word.size());
  size_t best_distance = letters / 3 + 2;
  for (const std::string& candidate : candidates) {
    size_t distance = EditDistance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string DidYouMean(std::string_view word, const std::vector<std::string>& candidates) {
  std::optional<std::string> nearest = Nearest(word, candidates);
  return nearest ? StrCat("; did you mean '", *nearest, "'?") : "";
}

std::string HumanBytes(int64_t bytes) {
  static constexpr std::string_view kUnits[] = {"bytes", "kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (std::abs(value) >= 999.5 && unit < 4) {
    value /= 1000;
    ++unit;
  }
  if (unit == 0) return StrCat(bytes, " bytes");
  return value < 10 ? absl::StrFormat("%.1f %s", value, kUnits[unit]) : absl::StrFormat("%.0f %s", value, kUnits[unit]);
}

std::string HumanSeconds(double seconds) {
  if (seconds < 1) return absl::StrFormat("%.0f ms", seconds * 1000);
  if (seconds < 60) return absl::StrFormat("%.1f s", seconds);
  int64_t whole = std::llround(seconds);
  const bool minutes = whole < 3600;
  const int64_t big = whole / (minutes ? 60 : 3600), small = minutes ? whole % 60 : whole % 3600 / 60;
  const std::string text = absl::StrFormat("%d %s", big, minutes ? "min" : "h");
  return small == 0 ? text : absl::StrFormat("%s %d %s", text, small, minutes ? "s" : "min");
}

absl::StatusOr<int64_t> ParseBytes(std::string_view text) {
  static const std::vector<Unit> kUnits = {{"b", 1},
                                           {"k", 1e3},
                                           {"kb", 1e3},
                                           {"m", 1e6},
                                           {"mb", 1e6},
                                           {"g", 1e9},
                                           {"gb", 1e9},
                                           {"t", 1e12},
                                           {"tb", 1e12},
                                           {"ki", 1024},
                                           {"kib", 1024},
                                           {"mi", 1024.0 * 1024},
                                           {"mib", 1024.0 * 1024},
                                           {"gi", 1024.0 * 1024 * 1024},
                                           {"gib", 1024.0 * 1024 * 1024},
                                           {"ti", 1099511627776.0},
                                           {"tib", 1099511627776.0}};
  absl::StatusOr<double> value = ParseWithUnit(text, kUnits, "512MB or 2GiB");
  if (!value.ok()) return value.status();
  if (*value > 9e18) return InvalidArgument("'", text, "' is too large");
  return static_cast<int64_t>(*value);
}

absl::StatusOr<double> ParseSeconds(std::string_view text) {
  static const std::vector<Unit> kUnits = {{"ms", 1e-3}, {"s", 1},       {"sec", 1},      {"m", 60},   {"min", 60},
                                           {"h", 3600},  {"hour", 3600}, {"hours", 3600}, {"d", 86400}};
  return ParseWithUnit(text, kUnits, "30s, 5min or 2h");
}

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = CharacterLength(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

absl::Status CheckName(std::string_view what, std::string_view name) {
  auto error = [&](std::string_view why) {
    return InvalidArgument(what, " '", name, "' ", why,
                           "; use 1 to 128 letters, digits, '.', '_' or '-', not beginning with '.' or '-'");
  };
  if (name.empty()) return InvalidArgument(what, " is empty");
  if (name.size() > 128) return error("is too long");
  if (!IsUtf8(name)) return InvalidArgument(what, " is not valid UTF-8");
  if (name[0] == '.' || name[0] == '-') return error("begins with a character that is not allowed");
  for (unsigned char c : name) {
    if (c < 0x80 && !absl::ascii_isalnum(c) && c != '.' && c != '_' && c != '-')
      return error("has a character that is not allowed");
  }
  return absl::OkStatus();
}

absl::Status CheckAlias(std::string_view alias) {
  TANDEM_RETURN_IF_ERROR(CheckName("alias", alias));
  if (alias.find_first_not_of("0123456789") != alias.npos) return absl::OkStatus();
  return InvalidArgument("alias '", alias, "' reads as the number of a version; use a name with a letter");
}

std::string AsUtf8(std::string text) {
  for (size_t at = 0; at < text.size();) {
    const size_t length = CharacterLength(std::string_view(text).substr(at));
    if (length == 0) text[at] = '?';
    at += std::max<size_t>(length, 1);
  }
  return text;
}

size_t WholeCharacters(std::string_view text) {
  for (size_t cut = 1; cut <= std::min<size_t>(3, text.size()); ++cut) {
    const auto lead = static_cast<unsigned char>(text[text.size() - cut]);
    if ((lead & 0xc0) == 0x80) continue;  // not the first byte of its character
    const size_t length = SequenceLength(lead);
    return length > cut ? text.size() - cut : text.size();
  }
  return text.size();
}

}  // namespace tandem
