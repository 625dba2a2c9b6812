#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace tandem::cli {

// Joins load files that overlap in time, as a server gives them poll after poll, into one: each line once, rising in
// time, one header. A line begins with its time in milliseconds since 1970; all lines of one time come in one poll.
// Thread-compatible.
class LoadRecording {
 public:
  // Nothing up to the newest line of `csv` will be recorded.
  void SkipTo(std::string_view csv);
  // What `csv` adds to the recording, in whole lines.
  std::string Add(std::string_view csv);

  int64_t lines() const { return lines_; }
  // Seconds from the first recorded line to the last.
  double seconds() const;

 private:
  bool header_written_ = false;
  int64_t first_ms_ = 0, newest_ms_ = 0, lines_ = 0;
};

}  // namespace tandem::cli
