#include "tandem/load_recording.h"

#include <algorithm>
#include <optional>

#include "absl/strings/numbers.h"
#include "base/strings.h"

namespace tandem::cli {
namespace {

// Takes the first line off `text`.
std::string_view NextLine(std::string_view* text) {
  std::string_view line = text->substr(0, text->find('\n'));
  text->remove_prefix(std::min(text->size(), line.size() + 1));
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

// Nothing for a header, a comment or an empty line.
std::optional<int64_t> TimeOf(std::string_view line) {
  int64_t ms = 0;
  if (!absl::SimpleAtoi(AbslView(line.substr(0, line.find(','))), &ms)) return std::nullopt;
  return ms;
}

}  // namespace

void LoadRecording::SkipTo(std::string_view csv) {
  while (!csv.empty()) newest_ms_ = std::max(newest_ms_, TimeOf(NextLine(&csv)).value_or(0));
}

std::string LoadRecording::Add(std::string_view csv) {
  std::string added;
  int64_t before_ms = newest_ms_;
  while (!csv.empty()) {
    std::string_view line = NextLine(&csv);
    std::optional<int64_t> ms = TimeOf(line);
    if (!ms) {
      bool header = !line.empty() && line[0] != '#';
      if (header && !header_written_) StrAppend(&added, line, "\n");
      header_written_ = header_written_ || header;
      continue;
    }
    if (*ms <= before_ms) continue;
    if (lines_++ == 0) first_ms_ = *ms;
    newest_ms_ = std::max(newest_ms_, *ms);
    StrAppend(&added, line, "\n");
  }
  return added;
}

double LoadRecording::seconds() const { return lines_ == 0 ? 0 : static_cast<double>(newest_ms_ - first_ms_) / 1000; }

}  // namespace tandem::cli
