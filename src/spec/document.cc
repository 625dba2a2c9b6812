#include "spec/document.h"

#include <algorithm>
#include <cstdint>
#include <exception>
#include <optional>
#include <sstream>
#include <unordered_set>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "base/text.h"
#include "yaml-cpp/eventhandler.h"
#include "yaml-cpp/exceptions.h"
#include "yaml-cpp/mark.h"
#include "yaml-cpp/parser.h"

namespace tandem::spec {
namespace {

// Carries a status out of yaml-cpp's callbacks; never leaves this file.
class Refusal : public std::exception {
 public:
  explicit Refusal(absl::Status status) : status_(std::move(status)) {}
  const absl::Status& status() const { return status_; }

 private:
  absl::Status status_;
};

std::string Place(std::string_view source, const YAML::Mark& mark) {
  return StrCat(source, ":", mark.line + 1, ":", mark.column + 1);
}

// Builds the tree from parser events, refusing what is outside the subset as soon as it is seen.
class Builder : public YAML::EventHandler {
 public:
  explicit Builder(std::string_view source) : source_(source) {}

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override { Add(Make(mark, "", anchor, {})); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { Refuse(mark, "aliases (*name) are not supported"); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    bool quoted = tag == "!";
    bool null = !quoted && (value.empty() || value == "~" || value == "null");
    Node node = Make(mark, tag, anchor, null ? Node::Kind::kNull : Node::Kind::kScalar);
    node.text = value;
    Add(std::move(node));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Begin(mark, Make(mark, tag, anchor, Node::Kind::kList));
  }
  void OnSequenceEnd() override { End(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Begin(mark, Make(mark, tag, anchor, Node::Kind::kMap));
  }
  void OnMapEnd() override { End(); }

  Node TakeRoot() { return std::move(root_); }

 private:
  struct Frame {
    Node node;
    std::optional<Node> key;  // a key that waits for its value
    std::unordered_set<std::string> keys;
  };

  [[noreturn]] void Refuse(const YAML::Mark& mark, std::string_view why) const {
    throw Refusal(ErrorAt(Place(source_, mark), why));
  }

  Node Make(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, Node::Kind kind) {
    if (anchor != 0) Refuse(mark, "anchors (&name) are not supported; write the value out");
    if (!tag.empty() && tag != "?" && tag != "!") Refuse(mark, StrCat("the tag ", Quoted(tag), " is not supported"));
    if (++nodes_ > kMaxNodes)
      Refuse(mark, StrCat("more than ", kMaxNodes, " values; the limit is there to stop abuse"));
    Node node;
    node.kind = kind;
    node.where = Place(source_, mark);
    return node;
  }

  void Begin(const YAML::Mark& mark, Node node) {
    if (stack_.size() >= kMaxDepth) Refuse(mark, StrCat("nested deeper than ", kMaxDepth, " levels"));
    stack_.push_back(Frame{std::move(node), std::nullopt, {}});
  }

  void End() {
    Node done = std::move(stack_.back().node);
    stack_.pop_back();
    Add(std::move(done));
  }

  void Add(Node node) {
    if (stack_.empty()) {
      root_ = std::move(node);
      return;
    }
    Frame& top = stack_.back();
    if (top.node.kind == Node::Kind::kList) {
      top.node.items.push_back(std::move(node));
    } else if (!top.key) {
      AcceptKey(top, std::move(node));
    } else {
      top.node.entries.push_back({std::move(top.key->text), std::move(top.key->where), std::move(node)});
      top.key.reset();
    }
  }

  void AcceptKey(Frame& top, Node key) {
    if (key.kind != Node::Kind::kScalar) throw Refusal(ErrorAt(key.where, "a key must be text"));
    if (!top.keys.insert(key.text).second) {
      throw Refusal(ErrorAt(key.where, StrCat("the key ", Quoted(key.text), " is given twice")));
    }
    top.key = std::move(key);
  }

  std::string_view source_;
  std::vector<Frame> stack_;
  Node root_;
  size_t nodes_ = 0;
};

absl::Status CheckText(std::string_view yaml, std::string_view source) {
  if (yaml.size() > kMaxDocumentBytes) {
    return InvalidArgument(source, ": ", HumanBytes(static_cast<int64_t>(yaml.size())), " of YAML; the limit is ",
                           HumanBytes(kMaxDocumentBytes));
  }
  size_t nul = yaml.find('\0');
  if (nul != std::string_view::npos) {
    return InvalidArgument(source, ": byte ", nul, " is a NUL byte; this is not a YAML text file");
  }
  if (!IsUtf8(yaml)) return InvalidArgument(source, ": not valid UTF-8; save the file as UTF-8");
  return absl::OkStatus();
}

absl::StatusOr<Node> Parse(std::string_view yaml, std::string_view source) {
  std::istringstream stream{std::string(yaml)};
  Builder builder(source);
  try {
    YAML::Parser parser(stream);
    parser.HandleNextDocument(builder);
    Node root = builder.TakeRoot();
    if (parser.HandleNextDocument(builder)) {
      return InvalidArgument(source, ": holds more than one YAML document; remove the second '---'");
    }
    return root;
  } catch (const Refusal& refusal) {
    return refusal.status();
  } catch (const YAML::Exception& e) {
    return ErrorAt(Place(source, e.mark), StrCat("not valid YAML: ", e.msg));
  } catch (const std::exception& e) {
    return InvalidArgument(source, ": not valid YAML: ", e.what());
  }
}

void SetWhere(std::string_view where, Node& node) {
  node.where = where;
  for (Node& item : node.items) SetWhere(where, item);
  for (Node::Entry& entry : node.entries) {
    entry.where = where;
    SetWhere(where, entry.value);
  }
}

// The item of a list that `key` means: its index, or the `name` of a map.
absl::StatusOr<size_t> ItemOf(const Node& list, std::string_view key, std::string_view path, std::string_view where) {
  size_t index = 0;
  if (absl::SimpleAtoi(AbslView(key), &index) && index < list.items.size()) return index;
  for (size_t i = 0; i < list.items.size(); ++i) {
    const Node* name = list.items[i].Find("name");
    if (name != nullptr && name->text == key) return i;
  }
  return ErrorAt(where, StrCat(Quoted(path), " is no entry of the list: it has ", list.items.size(),
                               "; give an index from 0, or the name of an entry"));
}

// The map or list at `path` inside `node`'s key, made if it is missing, widened if it is written in short form.
absl::StatusOr<Node*> Descend(Node* node, std::string_view key, std::string_view path, std::string_view where,
                              const std::vector<ShortForm>& short_forms) {
  Node* child = node->Find(key);
  if (node->kind == Node::Kind::kList) {
    TANDEM_ASSIGN_OR_RETURN(size_t item, ItemOf(*node, key, path, where));
    child = &node->items[item];
  }
  if (child == nullptr || child->kind == Node::Kind::kNull) {
    Node made = Node::Map();
    made.where = where;
    node->Set(key, std::move(made));
    return node->Find(key);
  }
  if (child->kind == Node::Kind::kScalar) {
    for (const ShortForm& form : short_forms) {
      if (form.path != path) continue;
      Node wide = Node::Map();
      wide.where = child->where;
      wide.Set(form.key, *child);
      *child = std::move(wide);
    }
  }
  if (child->kind != Node::Kind::kMap && child->kind != Node::Kind::kList) {
    return ErrorAt(where, StrCat(Quoted(path), " is not a map, so nothing inside it can be set; set the whole of it"));
  }
  return child;
}

// --- writing ---

// A number with a unit, which no reader of YAML takes for a number: "70%", "50MB/s", "1.5h".
bool IsQuantity(std::string_view text) {
  const size_t unit = std::min(text.find_first_not_of("0123456789."), text.size());
  if (unit == 0 || text[0] == '.') return false;
  if (text.substr(unit) == "%") return true;
  std::string_view letters = text.substr(unit);
  if (letters.ends_with("/s")) letters.remove_suffix(2);
  return !letters.empty() && std::ranges::all_of(letters, [](char c) { return absl::ascii_isalpha(c); });
}

bool NeedsQuotes(std::string_view text) {
  static const std::unordered_set<std::string> kWords = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"};
  if (text.empty() || kWords.contains(absl::AsciiStrToLower(AbslView(text)))) return true;
  bool number_like = absl::ascii_isdigit(text[0]) || text[0] == '-' || text[0] == '.' || text[0] == '+';
  if (number_like) return text.find_first_not_of("0123456789.eE+-") != std::string_view::npos && !IsQuantity(text);
  auto plain = [](char c) { return absl::ascii_isalnum(c) || c == '_' || c == '.' || c == '/' || c == '-'; };
  return !std::ranges::all_of(text, plain);
}

std::string ScalarText(std::string_view text) {
  if (!NeedsQuotes(text)) return std::string(text);
  std::string out = "\"";
  for (unsigned char c : text) {
    if (c == '"' || c == '\\') {
      StrAppend(&out, "\\", std::string_view(reinterpret_cast<const char*>(&c), 1));
    } else if (c < 0x20 || c == 0x7f) {
      StrAppend(&out, absl::StrFormat("\\x%02x", c));
    } else {
      out.push_back(static_cast<char>(c));
    }
  }
  return out + "\"";
}

// A value on one line: scalars, lists and maps in flow style.
std::string FlowText(const Node& node) {
  if (node.kind == Node::Kind::kNull) return "null";
  if (node.kind == Node::Kind::kScalar) return node.is_word ? node.text : ScalarText(node.text);
  bool list = node.kind == Node::Kind::kList;
  std::string out = list ? "[" : "{";
  std::string_view comma;
  for (const Node& item : node.items) {
    StrAppend(&out, comma, FlowText(item));
    comma = ", ";
  }
  for (const Node::Entry& entry : node.entries) {
    StrAppend(&out, comma, ScalarText(entry.key), ": ", FlowText(entry.value));
    comma = ", ";
  }
  return out + (list ? "]" : "}");
}

// A list of maps of several keys, which reads better with a line for each.
bool IsTable(const Node& node) {
  return !node.items.empty() &&
         std::ranges::all_of(node.items, [](const Node& item) { return item.entries.size() > 1; });
}

void EmitMap(const Node& map, const std::string& indent, std::string& out) {
  for (const Node::Entry& entry : map.entries) {
    StrAppend(&out, indent, ScalarText(entry.key), ":");
    if (entry.value.kind == Node::Kind::kMap && !entry.value.entries.empty()) {
      out += "\n";
      EmitMap(entry.value, indent + "  ", out);
    } else if (IsTable(entry.value)) {
      out += "\n";
      for (const Node& item : entry.value.items) StrAppend(&out, indent, "  - ", FlowText(item), "\n");
    } else {
      StrAppend(&out, " ", FlowText(entry.value), "\n");
    }
  }
}

}  // namespace

Node Node::Scalar(std::string_view text) {
  Node node;
  node.kind = Kind::kScalar;
  node.text = text;
  return node;
}

Node Node::List(std::vector<Node> items) {
  Node node;
  node.kind = Kind::kList;
  node.items = std::move(items);
  return node;
}

Node Node::Map() {
  Node node;
  node.kind = Kind::kMap;
  return node;
}

const Node* Node::Find(std::string_view key) const {
  auto found = std::ranges::find(entries, key, &Entry::key);
  return found == entries.end() ? nullptr : &found->value;
}

Node* Node::Find(std::string_view key) { return const_cast<Node*>(std::as_const(*this).Find(key)); }

void Node::Set(std::string_view key, Node value) {
  Erase(key);
  std::string place = value.where;
  entries.push_back({std::string(key), std::move(place), std::move(value)});
}

void Node::Erase(std::string_view key) {
  std::erase_if(entries, [&](const Entry& entry) { return entry.key == key; });
}

absl::StatusOr<Node> ParseDocument(std::string_view yaml, std::string_view source) {
  TANDEM_RETURN_IF_ERROR(CheckText(yaml, source));
  TANDEM_ASSIGN_OR_RETURN(Node root, Parse(yaml, source));
  if (root.kind == Node::Kind::kNull) {
    root = Node::Map();
    root.where = StrCat(source, ":1:1");
  }
  return root;
}

absl::Status ApplyOverride(std::string_view assignment, const std::vector<ShortForm>& short_forms, Node& root) {
  std::string where = StrCat("--set ", Escaped(assignment));
  size_t equals = assignment.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    return InvalidArgument("--set ", Quoted(assignment), " is not of the form key.path=value");
  }
  std::string_view path = assignment.substr(0, equals);
  TANDEM_RETURN_IF_ERROR(CheckText(assignment, where));
  TANDEM_ASSIGN_OR_RETURN(Node value, Parse(assignment.substr(equals + 1), where));
  SetWhere(where, value);
  Node* node = &root;
  size_t begin = 0;
  for (size_t dot = path.find('.'); dot != std::string_view::npos; dot = path.find('.', begin)) {
    if (begin > kMaxDepth * 8) return ErrorAt(where, "the path is too long");
    TANDEM_ASSIGN_OR_RETURN(node,
                            Descend(node, path.substr(begin, dot - begin), path.substr(0, dot), where, short_forms));
    begin = dot + 1;
  }
  std::string_view key = path.substr(begin);
  if (key.empty()) return ErrorAt(where, "the path ends with a dot; write key.path=value");
  if (node->kind == Node::Kind::kList) {
    TANDEM_ASSIGN_OR_RETURN(size_t item, ItemOf(*node, key, path, where));
    if (value.kind == Node::Kind::kNull) {
      node->items.erase(node->items.begin() + static_cast<std::ptrdiff_t>(item));
    } else {
      node->items[item] = std::move(value);
    }
  } else if (value.kind == Node::Kind::kNull) {
    node->Erase(key);
  } else {
    node->Set(key, std::move(value));
  }
  return absl::OkStatus();
}

std::string EmitYaml(const Node& root) {
  if (root.kind != Node::Kind::kMap || root.entries.empty()) return FlowText(root) + "\n";
  std::string out;
  EmitMap(root, "", out);
  return out;
}

std::string Quoted(std::string_view text) { return StrCat("'", Escaped(text), "'"); }

std::string Escaped(std::string_view text) {
  constexpr size_t kClip = 80;
  size_t end = std::min(text.size(), kClip);
  while (end > 0 && end < text.size() && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  std::string out;
  for (unsigned char c : text.substr(0, end)) {
    if (c < 0x20 || c == 0x7f) {
      StrAppend(&out, absl::StrFormat("\\x%02x", c));
    } else {
      out.push_back(static_cast<char>(c));
    }
  }
  return out + (end < text.size() ? "..." : "");
}

absl::Status ErrorAt(std::string_view where, std::string_view message) { return InvalidArgument(where, ": ", message); }

}  // namespace tandem::spec
