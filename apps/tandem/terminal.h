#pragma once
// Text for people: aligned tables, human units, colours only on a terminal and without NO_COLOR.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::cli {

// Wraps text in ANSI colours, or leaves it alone.
class Style {
 public:
  explicit Style(bool colour) : colour_(colour) {}
  // For what is written to this file descriptor.
  static Style For(int fd);

  bool colour() const { return colour_; }
  std::string Bold(std::string_view text) const { return Wrap("1", text); }
  std::string Dim(std::string_view text) const { return Wrap("2", text); }
  std::string Red(std::string_view text) const { return Wrap("31", text); }
  std::string Green(std::string_view text) const { return Wrap("32", text); }
  std::string Yellow(std::string_view text) const { return Wrap("33", text); }
  // A state of a job, version or check in the colour that it has everywhere.
  std::string State(std::string_view state) const;

 private:
  std::string Wrap(std::string_view code, std::string_view text) const;
  bool colour_;
};

// Columns that text takes on a terminal: wide characters count twice, ANSI colours and combining marks not at all.
int DisplayWidth(std::string_view text);
// The longest beginning of the text that fits `columns`, ending in an ellipsis where it was cut; a colour is ended too.
std::string Truncated(std::string_view text, int columns);

// Rows under headers. A header that begins with '>' is aligned right.
class Table {
 public:
  explicit Table(std::vector<std::string> headers);
  void AddRow(std::vector<std::string> cells);
  std::string Render(const Style& style) const;

 private:
  std::vector<std::string> headers_;
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;
};

// "-" for a time that is 0.
std::string Ago(double unix_ms, double now_unix_ms);
// In this machine's time zone, to the minute: "2026-11-21 22:00 CET (in 3 h)", "... (2 min ago)"; "-" for 0.
std::string When(double unix_ms, double now_unix_ms);
std::string Thousands(double value);                    // 12345.6 -> "12,346"
std::string Percent(double fraction);                   // 0.9123 -> "91.2%"
std::string Number(double value, int significant = 4);  // no exponent for usual sizes
// Columns of the terminal behind `fd`, 80 if unknown.
int TerminalWidth(int fd);

}  // namespace tandem::cli
