#include "data/npy_header.h"

#include <charconv>

#include "base/status.h"

namespace tandem::data {
namespace {

// Reads the few Python literals that a header may hold.
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  bool Take(char wanted) {
    SkipSpace();
    if (at_ >= text_.size() || text_[at_] != wanted) return false;
    ++at_;
    return true;
  }

  absl::StatusOr<std::string> String() {
    SkipSpace();
    if (at_ >= text_.size() || (text_[at_] != '\'' && text_[at_] != '"')) return Broken("a string");
    const size_t end = text_.find(text_[at_], at_ + 1);
    if (end == std::string_view::npos) return Broken("the end of a string");
    std::string value(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return value;
  }

  absl::StatusOr<bool> Bool() {
    SkipSpace();
    for (std::string_view word : {"True", "False"}) {
      if (text_.substr(at_, word.size()) != word) continue;
      at_ += word.size();
      return word == "True";
    }
    return Broken("True or False");
  }

  absl::StatusOr<Shape> Tuple() {
    constexpr size_t kMaxDimensions = 32;
    if (!Take('(')) return Broken("'('");
    Shape shape;
    while (!Take(')')) {
      SkipSpace();
      int64_t dim = -1;
      auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), dim);
      if (error != std::errc() || dim < 0 || shape.size() == kMaxDimensions) return Broken("a dimension");
      at_ = end - text_.data();
      shape.push_back(dim);
      if (!Take(',') && (at_ >= text_.size() || text_[at_] != ')')) return Broken("',' or ')'");
    }
    return shape;
  }

  absl::Status Broken(std::string_view wanted) const {
    return InvalidArgument("the .npy header breaks at its byte ", at_, ": expected ", wanted);
  }

 private:
  void SkipSpace() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

absl::StatusOr<NpyHeader> ParseNpyHeader(std::string_view text) {
  Parser parser(text);
  NpyHeader header;
  int seen = 0;
  if (!parser.Take('{')) return parser.Broken("'{'");
  while (!parser.Take('}')) {
    TANDEM_ASSIGN_OR_RETURN(std::string key, parser.String());
    if (!parser.Take(':')) return parser.Broken("':'");
    if (key == "descr") {
      if (parser.Take('[')) return InvalidArgument("arrays of records are not supported; save one plain array");
      TANDEM_ASSIGN_OR_RETURN(header.descr, parser.String());
      seen |= 1;
    } else if (key == "fortran_order") {
      TANDEM_ASSIGN_OR_RETURN(header.fortran_order, parser.Bool());
      seen |= 2;
    } else if (key == "shape") {
      TANDEM_ASSIGN_OR_RETURN(header.shape, parser.Tuple());
      seen |= 4;
    } else {
      return InvalidArgument("the .npy header has an unknown key '", key, "'");
    }
    parser.Take(',');
  }
  if (seen != 7) return InvalidArgument("the .npy header lacks descr, fortran_order or shape");
  return header;
}

}  // namespace tandem::data
