#include "tandem/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>

#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "base/strings.h"
#include "base/text.h"

namespace tandem::cli {
namespace {

// Decodes one character and advances; bytes that are not UTF-8 count as one character each.
char32_t NextCharacter(std::string_view text, size_t* at) {
  unsigned char lead = text[(*at)++];
  int more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc0 ? 1 : 0;
  char32_t value = more == 0 ? lead : lead & (0x3f >> more);
  for (; more > 0 && *at < text.size() && (text[*at] & 0xc0) == 0x80; --more)
    value = value << 6 | (text[(*at)++] & 0x3f);
  return value;
}

// Columns of one character: the East Asian wide and fullwidth blocks of Unicode, and emoji, take two.
int CharacterWidth(char32_t c) {
  struct Range {
    char32_t first, last;
  };
  static constexpr std::array<Range, 9> kWide = {{{0x1100, 0x115f},
                                                  {0x2e80, 0x303e},
                                                  {0x3041, 0xa4cf},
                                                  {0xac00, 0xd7a3},
                                                  {0xf900, 0xfaff},
                                                  {0xfe30, 0xfe6f},
                                                  {0xff00, 0xff60},
                                                  {0x1f300, 0x1faff},
                                                  {0x20000, 0x3fffd}}};
  if (c >= 0x300 && c <= 0x36f) return 0;
  for (const Range& range : kWide) {
    if (c >= range.first && c <= range.last) return 2;
  }
  return 1;
}

// In one unit, rounded down; 0 for less than nothing.
std::string RoughSpan(double ms) {
  double seconds = std::max(0.0, ms / 1000);
  if (seconds < 60) return absl::StrFormat("%.0f s", std::floor(seconds));
  if (seconds < 3600) return absl::StrFormat("%.0f min", std::floor(seconds / 60));
  if (seconds < 48 * 3600) return absl::StrFormat("%.0f h", std::floor(seconds / 3600));
  return absl::StrFormat("%.0f days", std::floor(seconds / 86400));
}

}  // namespace

Style Style::For(int fd) {
  const char* no_color = getenv("NO_COLOR");
  const char* term = getenv("TERM");
  bool dumb = term && std::string_view(term) == "dumb";
  return Style(isatty(fd) && !(no_color && *no_color) && !dumb);
}

std::string Style::Wrap(std::string_view code, std::string_view text) const {
  return colour_ ? StrCat("\033[", code, "m", text, "\033[0m") : std::string(text);
}

std::string Style::State(std::string_view state) const {
  for (std::string_view good : {"running", "succeeded", "READY", "ok", "promoted"}) {
    if (state == good) return Green(state);
  }
  for (std::string_view bad : {"failed", "timed_out", "FAILED", "QUARANTINED", "error"}) {
    if (state == bad) return Red(state);
  }
  for (std::string_view middle :
       {"paused", "pausing", "stopping", "cancelled", "warning", "pending", "awaiting_approval", "LOADING"}) {
    if (state == middle) return Yellow(state);
  }
  return std::string(state);
}

int DisplayWidth(std::string_view text) {
  int width = 0;
  for (size_t at = 0; at < text.size();) {
    if (text[at] == '\033') {
      at = std::min(text.find('m', at), text.size() - 1) + 1;
      continue;
    }
    width += CharacterWidth(NextCharacter(text, &at));
  }
  return width;
}

std::string Truncated(std::string_view text, int columns) {
  if (DisplayWidth(text) <= columns) return std::string(text);
  int width = 1;  // the ellipsis
  size_t at = 0;
  bool coloured = false;
  while (at < text.size()) {
    if (text[at] == '\033') {
      coloured = true;
      at = std::min(text.find('m', at), text.size() - 1) + 1;
      continue;
    }
    size_t next = at;
    width += CharacterWidth(NextCharacter(text, &next));
    if (width > columns) break;
    at = next;
  }
  return columns < 1 ? "" : StrCat(text.substr(0, at), "…", coloured ? "\033[0m" : "");
}

Table::Table(std::vector<std::string> headers) : headers_(std::move(headers)) {
  for (std::string& header : headers_) {
    right_.push_back(header.starts_with('>'));
    if (right_.back()) header.erase(0, 1);
  }
}

void Table::AddRow(std::vector<std::string> cells) {
  cells.resize(headers_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::Render(const Style& style) const {
  std::vector<std::vector<std::string>> lines = rows_;
  lines.insert(lines.begin(), headers_);
  std::vector<int> widths(headers_.size());
  for (const auto& line : lines) {
    for (size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], DisplayWidth(line[i]));
  }
  std::string out;
  for (size_t row = 0; row < lines.size(); ++row) {
    std::string line;
    for (size_t i = 0; i < lines[row].size(); ++i) {
      const std::string& cell = lines[row][i];
      std::string padding(widths[i] - DisplayWidth(cell), ' ');
      StrAppend(&line, i == 0 ? "" : "  ", right_[i] ? padding + cell : cell + padding);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    StrAppend(&out, row == 0 ? style.Bold(line) : line, "\n");
  }
  return out;
}

std::string Ago(double unix_ms, double now_unix_ms) {
  return unix_ms <= 0 ? "-" : RoughSpan(now_unix_ms - unix_ms) + " ago";
}

std::string When(double unix_ms, double now_unix_ms) {
  if (unix_ms <= 0) return "-";
  absl::Time time = absl::FromUnixMillis(static_cast<int64_t>(unix_ms));
  std::string distance = unix_ms > now_unix_ms ? "in " + RoughSpan(unix_ms - now_unix_ms) : Ago(unix_ms, now_unix_ms);
  return StrCat(absl::FormatTime("%Y-%m-%d %H:%M %Z", time, absl::LocalTimeZone()), " (", distance, ")");
}

std::string Thousands(double value) {
  std::string digits = absl::StrFormat("%.0f", value);
  size_t first = digits.starts_with('-') ? 1 : 0;
  for (size_t at = digits.size(); at > first + 3;) digits.insert(at -= 3, 1, ',');
  return digits;
}

std::string Percent(double fraction) {
  std::string text = absl::StrFormat("%.1f%%", fraction * 100);
  return text == "-0.0%" ? "0.0%" : text;
}

std::string Number(double value, int significant) {
  // %g turns to an exponent where the digits before the point are more than the significant ones.
  if (std::abs(value) >= 1000 && std::abs(value) < 1e9) return absl::StrFormat("%.0f", value);
  return absl::StrFormat("%.*g", significant, value);
}

int TerminalWidth(int fd) {
  winsize size{};
  return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace tandem::cli
