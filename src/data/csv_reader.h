#pragma once
// Fields of comma-separated text (RFC 4180), one row at a time.
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace tandem::data {

// Thread-compatible. `text` must outlive the reader.
class CsvReader {
 public:
  // Skips a byte order mark, and takes ';' or a tab for the delimiter when the first line has no ','.
  explicit CsvReader(std::string_view text);

  // Reads the next row that is not empty; false at the end. InvalidArgument for a quote that never ends or is followed
  // by text. Rows are counted from 1, as spreadsheets do; row() is that of the last one read.
  absl::StatusOr<bool> Next(std::vector<std::string>* fields);
  int64_t row() const { return row_; }

 private:
  absl::Status ReadQuoted(std::string* field);
  absl::Status ReadRow(std::vector<std::string>* fields);
  bool AtLineEnd() const { return at_ >= text_.size() || text_[at_] == '\n' || text_[at_] == '\r'; }

  std::string_view text_;
  size_t at_ = 0;
  char delimiter_ = ',';
  int64_t row_ = 0;
};

}  // namespace tandem::data
