#include "api/v2/text_format.h"

#include <cctype>
#include <charconv>
#include <cstdint>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "base/status.h"
#include "base/text.h"

namespace tandem::api::v2 {
namespace {

using spec::Node;

bool IsWordStart(char c) { return isalpha(static_cast<unsigned char>(c)) != 0 || c == '_'; }
bool IsWord(char c) { return isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

// A recursive descent over the text; at most kMaxDepth deep.
class Parser {
 public:
  Parser(std::string_view text, std::string_view source) : text_(text), source_(source) {}

  absl::StatusOr<Node> Parse() {
    Node root = Node::Map();
    SkipBlanks();
    root.where = Where();
    TANDEM_RETURN_IF_ERROR(ReadFields('\0', &root));
    return root;
  }

 private:
  bool AtEnd() const { return at_ >= text_.size(); }
  char Peek() const { return AtEnd() ? '\0' : text_[at_]; }
  void Advance() {
    if (text_[at_++] == '\n') {
      ++line_;
      line_start_ = at_;
    }
  }
  std::string Where() const { return StrCat(source_, ":", line_, ":", at_ - line_start_ + 1); }
  absl::Status Refuse(std::string_view what) const { return spec::ErrorAt(Where(), what); }
  std::string Found() const { return AtEnd() ? "the end of the file" : spec::Quoted(text_.substr(at_, 1)); }

  void SkipBlanks() {
    while (!AtEnd()) {
      if (Peek() == '#') {
        while (!AtEnd() && Peek() != '\n') Advance();
      } else if (isspace(static_cast<unsigned char>(Peek())) != 0) {
        Advance();
      } else {
        return;
      }
    }
  }
  bool Take(char wanted) {
    if (AtEnd() || Peek() != wanted) return false;
    Advance();
    SkipBlanks();
    return true;
  }

  absl::Status ReadFields(char end, Node* map);
  absl::StatusOr<std::string> ReadKey();
  absl::StatusOr<Node> ReadValue(bool colon);
  absl::StatusOr<Node> ReadList();
  absl::StatusOr<Node> ReadMessage();
  absl::StatusOr<Node> ReadScalar();
  absl::Status ReadText(std::string* text);
  absl::StatusOr<std::string> ReadNumber();
  std::string_view ReadWord();
  absl::StatusOr<Node> NewNode(Node::Kind kind);
  static void Add(std::string key, std::string where, Node value, Node* map);

  const std::string_view text_, source_;
  size_t at_ = 0, line_ = 1, line_start_ = 0;
  size_t depth_ = 0, nodes_ = 0;
};

absl::StatusOr<Node> Parser::NewNode(Node::Kind kind) {
  if (++nodes_ > spec::kMaxNodes) return Refuse(StrCat("more than ", spec::kMaxNodes, " values"));
  Node node;
  node.kind = kind;
  node.where = Where();
  return node;
}

// A field that is given again makes a list of its values.
void Parser::Add(std::string key, std::string where, Node value, Node* map) {
  Node* former = map->Find(key);
  if (former == nullptr) {
    map->entries.push_back({std::move(key), std::move(where), std::move(value)});
    return;
  }
  if (former->kind != Node::Kind::kList) {
    Node list = Node::List({});
    list.where = former->where;
    list.items.push_back(std::move(*former));
    *former = std::move(list);
  }
  if (value.kind != Node::Kind::kList) {
    former->items.push_back(std::move(value));
    return;
  }
  for (Node& item : value.items) former->items.push_back(std::move(item));
}

// `end`: '}', '>', or '\0' for the end of the file.
absl::Status Parser::ReadFields(char end, Node* map) {
  while (true) {
    SkipBlanks();
    if (AtEnd() && end == '\0') return absl::OkStatus();
    if (AtEnd()) return Refuse(StrCat("the file ends inside of a message; '", std::string(1, end), "' is missing"));
    if (end != '\0' && Take(end)) return absl::OkStatus();
    std::string where = Where();
    TANDEM_ASSIGN_OR_RETURN(std::string key, ReadKey());
    SkipBlanks();
    const bool colon = Take(':');
    TANDEM_ASSIGN_OR_RETURN(Node value, ReadValue(colon));
    Add(std::move(key), std::move(where), std::move(value), map);
    if (!Take(';')) Take(',');
  }
}

absl::StatusOr<std::string> Parser::ReadKey() {
  if (IsWordStart(Peek())) return std::string(ReadWord());
  // An extension, or the type of an Any.
  const size_t begin = at_;
  if (Peek() == '[') {
    while (!AtEnd() && Peek() != ']' && Peek() != '\n') Advance();
    if (Peek() == ']') {
      Advance();
      return std::string(text_.substr(begin, at_ - begin));
    }
  }
  return Refuse(StrCat("a field's name was expected, not ", Found()));
}

absl::StatusOr<Node> Parser::ReadValue(bool colon) {
  if (Peek() == '{' || Peek() == '<') return ReadMessage();
  if (!colon && Peek() != '[') return Refuse(StrCat("':' or '{' was expected after the field's name, not ", Found()));
  if (Peek() == '[') return ReadList();
  return ReadScalar();
}

absl::StatusOr<Node> Parser::ReadList() {
  TANDEM_ASSIGN_OR_RETURN(Node list, NewNode(Node::Kind::kList));
  Take('[');
  if (Take(']')) return list;
  while (true) {
    const bool message = Peek() == '{' || Peek() == '<';
    TANDEM_ASSIGN_OR_RETURN(list.items.emplace_back(), message ? ReadMessage() : ReadScalar());
    if (Take(']')) return list;
    if (!Take(',')) return Refuse(StrCat("',' or ']' was expected in the list, not ", Found()));
  }
}

absl::StatusOr<Node> Parser::ReadMessage() {
  TANDEM_ASSIGN_OR_RETURN(Node map, NewNode(Node::Kind::kMap));
  if (++depth_ > spec::kMaxDepth) return Refuse(StrCat("nested deeper than ", spec::kMaxDepth, " levels"));
  const char end = Peek() == '{' ? '}' : '>';
  Advance();
  TANDEM_RETURN_IF_ERROR(ReadFields(end, &map));
  --depth_;
  return map;
}

absl::StatusOr<Node> Parser::ReadScalar() {
  TANDEM_ASSIGN_OR_RETURN(Node node, NewNode(Node::Kind::kScalar));
  if (Peek() == '"' || Peek() == '\'') {
    // Texts that follow each other are one.
    while (Peek() == '"' || Peek() == '\'') {
      TANDEM_RETURN_IF_ERROR(ReadText(&node.text));
      SkipBlanks();
    }
    if (!IsUtf8(node.text) || node.text.find('\0') != node.text.npos) {
      return spec::ErrorAt(node.where, "the text is not valid UTF-8, or has a NUL in it");
    }
    return node;
  }
  if (Take('-')) node.text = "-";
  if (IsWordStart(Peek())) {
    node.text += ReadWord();
  } else {
    TANDEM_ASSIGN_OR_RETURN(std::string number, ReadNumber());
    node.text += number;
  }
  SkipBlanks();
  return node;
}

absl::Status Parser::ReadText(std::string* text) {
  const std::string where = Where();
  const char quote = Peek();
  Advance();
  const size_t begin = at_;
  while (!AtEnd() && Peek() != quote && Peek() != '\n') {
    if (Peek() == '\\') Advance();
    if (!AtEnd()) Advance();
  }
  if (Peek() != quote || AtEnd()) {
    return spec::ErrorAt(where, StrCat("the text has no end; ", std::string(1, quote), " is missing in its line"));
  }
  std::string plain, error;
  if (!absl::CUnescape(AbslView(text_.substr(begin, at_ - begin)), &plain, &error)) {
    return spec::ErrorAt(where, StrCat("the text has a wrong escape: ", error));
  }
  Advance();
  *text += plain;
  return absl::OkStatus();
}

std::string_view Parser::ReadWord() {
  const size_t begin = at_;
  while (!AtEnd() && IsWord(Peek())) Advance();
  return text_.substr(begin, at_ - begin);
}

// In decimal, whatever it is written in.
absl::StatusOr<std::string> Parser::ReadNumber() {
  const std::string where = Where();
  const size_t begin = at_;
  while (!AtEnd() && (IsWord(Peek()) || Peek() == '.' ||
                      ((Peek() == '-' || Peek() == '+') && at_ > begin && (text_[at_ - 1] | 0x20) == 'e'))) {
    Advance();
  }
  std::string_view word = text_.substr(begin, at_ - begin);
  if (word.empty()) return Refuse(StrCat("a value was expected, not ", Found()));
  auto whole = [&](std::string_view digits, int base) {
    uint64_t number = 0;
    auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number, base);
    return error == std::errc() && end == digits.data() + digits.size() ? StrCat(number) : std::string();
  };
  std::string number;
  const bool hex = word.starts_with("0x") || word.starts_with("0X");
  if (hex) {
    number = whole(word.substr(2), 16);
  } else if (word.size() > 1 && word[0] == '0' && isdigit(static_cast<unsigned char>(word[1])) != 0) {
    number = whole(word, 8);
  } else {
    number = whole(word, 10);
  }
  if (number.empty() && !hex) {
    std::string_view digits = word;
    if (digits.ends_with('f') || digits.ends_with('F')) digits.remove_suffix(1);
    double value = 0;
    if (absl::SimpleAtod(AbslView(digits), &value)) number = digits;
  }
  if (number.empty()) return spec::ErrorAt(where, StrCat(spec::Quoted(word), " is no number"));
  return number;
}

}  // namespace

absl::StatusOr<Node> ParseTextFormat(std::string_view text, std::string_view source) {
  if (text.size() > spec::kMaxDocumentBytes) {
    return InvalidArgument(source, ": ", HumanBytes(static_cast<int64_t>(text.size())), " of text; the limit is ",
                           HumanBytes(spec::kMaxDocumentBytes));
  }
  if (!IsUtf8(text)) return InvalidArgument(source, ": not valid UTF-8; save the file as UTF-8");
  return Parser(text, source).Parse();
}

}  // namespace tandem::api::v2
