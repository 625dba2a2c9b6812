#include "data/csv_reader.h"

#include "base/status.h"

namespace tandem::data {

CsvReader::CsvReader(std::string_view text) : text_(text) {
  if (text_.starts_with("\xef\xbb\xbf")) text_.remove_prefix(3);
  const std::string_view first = text_.substr(0, text_.find('\n'));
  if (first.find(',') != std::string_view::npos) return;
  for (char other : {';', '\t'}) {
    if (first.find(other) != std::string_view::npos) delimiter_ = other;
  }
}

absl::Status CsvReader::ReadQuoted(std::string* field) {
  const int64_t row = row_;
  while (true) {
    const size_t quote = text_.find('"', at_ + 1);
    if (quote == std::string_view::npos) return InvalidArgument("row ", row, ": a quote is opened and never closed");
    field->append(text_.substr(at_ + 1, quote - at_ - 1));
    at_ = quote + 1;
    if (at_ >= text_.size() || text_[at_] != '"') break;
    field->push_back('"');
  }
  if (!AtLineEnd() && text_[at_] != delimiter_) return InvalidArgument("row ", row, ": text after a closing quote");
  return absl::OkStatus();
}

absl::Status CsvReader::ReadRow(std::vector<std::string>* fields) {
  size_t count = 0;
  while (true) {
    if (fields->size() == count) fields->emplace_back();
    std::string& field = (*fields)[count++];
    field.clear();
    if (at_ < text_.size() && text_[at_] == '"') {
      TANDEM_RETURN_IF_ERROR(ReadQuoted(&field));
    } else {
      const size_t begin = at_;
      while (!AtLineEnd() && text_[at_] != delimiter_) ++at_;
      field.assign(text_.substr(begin, at_ - begin));
    }
    if (AtLineEnd()) break;
    ++at_;
  }
  fields->resize(count);
  return absl::OkStatus();
}

absl::StatusOr<bool> CsvReader::Next(std::vector<std::string>* fields) {
  while (at_ < text_.size()) {
    ++row_;
    TANDEM_RETURN_IF_ERROR(ReadRow(fields));
    if (text_.substr(at_, 2) == "\r\n") ++at_;
    ++at_;
    if (fields->size() > 1 || !(*fields)[0].empty()) return true;
  }
  return false;
}

}  // namespace tandem::data
