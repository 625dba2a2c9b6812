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
  for (size_t i = 0; i < text.size();) {
    unsigned char lead = text[i];
    int extra = lead < 0x80                   ? 0
                : lead >= 0xc2 && lead < 0xe0 ? 1
                : lead >= 0xe0 && lead < 0xf0 ? 2
                : lead >= 0xf0 && lead < 0xf5 ? 3
                                              : -1;
    if (extra < 0 || i + extra >= text.size() + (extra == 0 ? 1 : 0)) return false;
    uint32_t point = extra == 0 ? lead : lead & (0x3f >> extra);
    for (int k = 1; k <= extra; ++k) {
      unsigned char next = text[i + k];
      if ((next & 0xc0) != 0x80) return false;
      point = point << 6 | (next & 0x3f);
    }
    bool overlong = (extra == 2 && point < 0x800) || (extra == 3 && point < 0x10000);
    if (overlong || point > 0x10ffff || (point >= 0xd800 && point < 0xe000)) return false;
    i += extra + 1;
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
  if (!IsUtf8(text)) {
    std::replace_if(
        text.begin(), text.end(), [](unsigned char c) { return c >= 0x80; }, '?');
  }
  return text;
}

}  // namespace tandem
