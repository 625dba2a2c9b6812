#include "spec/fields.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/calendar.h"

namespace tandem::spec {
namespace {

constexpr size_t kMaxText = 4096;
constexpr size_t kMaxList = 1024;

std::string ValueText(const Node& node) {
  switch (node.kind) {
    case Node::Kind::kNull:
      return "empty";
    case Node::Kind::kScalar:
      return Quoted(node.text);
    case Node::Kind::kList:
      return "a list";
    case Node::Kind::kMap:
      return "a map";
  }
  return "";
}

bool IsPlainText(std::string_view text) {
  return !text.empty() && text.size() <= kMaxText &&
         std::ranges::none_of(text, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

// A type that is one scalar, from a parser of its text that gives nothing for a wrong one.
template <typename V>
Type<V> ScalarType(std::string described, std::function<std::optional<V>(const std::string&)> parse,
                   std::function<std::string(const V&)> print) {
  return {described,
          [described, parse = std::move(parse)](const Node& node, const std::string& path) -> absl::StatusOr<V> {
            std::optional<V> value;
            if (node.kind == Node::Kind::kScalar) value = parse(node.text);
            if (!value) return WrongValue(node, path, described);
            return *std::move(value);
          },
          [print = std::move(print)](const V& value) { return Node::Scalar(print(value)); }};
}

absl::StatusOr<std::vector<std::string>> ReadTexts(const Node& node, const std::string& path,
                                                   const std::string& described) {
  if (node.kind == Node::Kind::kScalar && IsPlainText(node.text)) return std::vector<std::string>{node.text};
  if (node.kind != Node::Kind::kList || node.items.size() > kMaxList) return WrongValue(node, path, described);
  std::vector<std::string> texts;
  for (const Node& item : node.items) {
    if (item.kind != Node::Kind::kScalar || !IsPlainText(item.text)) return WrongValue(item, path, described);
    texts.push_back(item.text);
  }
  return texts;
}

Node WriteTexts(const std::vector<std::string>& texts) {
  Node list = Node::List({});
  for (const std::string& text : texts) list.items.push_back(Node::Scalar(text));
  return list;
}

}  // namespace

absl::Status WrongValue(const Node& node, std::string_view path, std::string_view described) {
  return ErrorAt(node.where, StrCat(path, " is ", ValueText(node), "; it must be ", described));
}

absl::Status UnknownKey(const Node::Entry& entry, std::string_view path, const std::vector<std::string>& known) {
  std::string hint = DidYouMean(entry.key, known);
  if (hint.empty()) hint = StrCat("; known keys: ", absl::StrJoin(known, ", "));
  std::string in = path.empty() ? "" : StrCat(" in '", path, "'");
  return ErrorAt(entry.where, StrCat("unknown key ", Quoted(entry.key), in, hint));
}

std::string NumberText(double value) {
  char buffer[32];
  std::to_chars_result result = std::to_chars(buffer, buffer + sizeof(buffer), value);
  return std::string(buffer, result.ptr);
}

std::string ShareText(double share) {
  std::string percent = absl::StrFormat("%.6g", share * 100);
  double back = 0;
  bool exact = absl::SimpleAtod(percent, &back) && back / 100 == share;
  return exact ? percent + "%" : NumberText(share);
}

std::string SizeText(int64_t bytes) {
  constexpr std::pair<int64_t, std::string_view> kUnits[] = {
      {1'000'000'000'000, "TB"}, {1'000'000'000, "GB"},     {1'000'000, "MB"},         {1'000, "kB"},
      {int64_t{1} << 40, "TiB"}, {int64_t{1} << 30, "GiB"}, {int64_t{1} << 20, "MiB"}, {int64_t{1} << 10, "KiB"}};
  std::string number = StrCat(bytes);
  std::string_view unit;
  for (const auto& [factor, name] : kUnits) {
    std::string of_unit = StrCat(bytes / factor);
    if (bytes % factor != 0 || of_unit.size() >= number.size()) continue;
    number = std::move(of_unit);
    unit = name;
  }
  return StrCat(number, unit);
}

Type<int64_t> WholeNumber(int64_t min, int64_t max) {
  return ScalarType<int64_t>(
      max == std::numeric_limits<int64_t>::max() ? StrCat("a whole number, ", min, " or more")
                                                 : StrCat("a whole number from ", min, " to ", max),
      [min, max](const std::string& text) -> std::optional<int64_t> {
        int64_t value = 0;
        if (!absl::SimpleAtoi(text, &value) || value < min || value > max) return std::nullopt;
        return value;
      },
      [](const int64_t& value) { return StrCat(value); });
}

Type<uint64_t> Unsigned64() {
  return ScalarType<uint64_t>(
      "a whole number from 0 to 18446744073709551615",
      [](const std::string& text) -> std::optional<uint64_t> {
        uint64_t value = 0;
        if (!absl::SimpleAtoi(text, &value)) return std::nullopt;
        return value;
      },
      [](const uint64_t& value) { return StrCat(value); });
}

Type<double> Number(double min, double max) {
  return ScalarType<double>(
      StrCat("a number from ", NumberText(min), " to ", NumberText(max)),
      [min, max](const std::string& text) -> std::optional<double> {
        double value = 0;
        if (!absl::SimpleAtod(text, &value) || !(value >= min && value <= max)) return std::nullopt;
        return value;
      },
      [](const double& value) { return NumberText(value); });
}

Type<bool> TrueOrFalse() {
  Type<bool> type = ScalarType<bool>(
      "true or false",
      [](const std::string& text) -> std::optional<bool> {
        if (absl::EqualsIgnoreCase(text, "true")) return true;
        if (absl::EqualsIgnoreCase(text, "false")) return false;
        return std::nullopt;
      },
      [](const bool& value) { return std::string(value ? "true" : "false"); });
  type.write = [print = std::move(type.write)](const bool& value) {
    Node node = print(value);
    node.is_word = true;
    return node;
  };
  return type;
}

Type<std::string> Text() {
  return ScalarType<std::string>(
      StrCat("a text of 1 to ", kMaxText, " bytes without control characters"),
      [](const std::string& text) { return IsPlainText(text) ? std::optional(text) : std::nullopt; },
      [](const std::string& text) { return text; });
}

Type<std::string> OneOf(std::vector<std::string> choices) {
  return {StrCat("one of ", absl::StrJoin(choices, ", ")),
          [choices](const Node& node, const std::string& path) -> absl::StatusOr<std::string> {
            if (node.kind == Node::Kind::kScalar && std::ranges::find(choices, node.text) != choices.end()) {
              return node.text;
            }
            return WrongValue(node, path,
                              StrCat("one of ", absl::StrJoin(choices, ", "), DidYouMean(node.text, choices)));
          },
          [](const std::string& text) { return Node::Scalar(text); }};
}

Type<std::string> Name(std::string_view what) {
  return {"a name",
          [what](const Node& node, const std::string& path) -> absl::StatusOr<std::string> {
            if (node.kind != Node::Kind::kScalar) return WrongValue(node, path, "a name");
            TANDEM_RETURN_IF_ERROR(Annotate(CheckName(what, node.text), StrCat(node.where, ": ", path)));
            return node.text;
          },
          [](const std::string& text) { return Node::Scalar(text); }};
}

Type<int64_t> Bytes(int64_t min, int64_t max) {
  return ScalarType<int64_t>(
      StrCat("a size from ", SizeText(min), " to ", SizeText(max), ", like 512MB or 2GiB"),
      [min, max](const std::string& text) -> std::optional<int64_t> {
        absl::StatusOr<int64_t> value = ParseBytes(text);
        if (!value.ok() || *value < min || *value > max) return std::nullopt;
        return *value;
      },
      [](const int64_t& value) { return SizeText(value); });
}

Type<double> Seconds(double min, double max) {
  return ScalarType<double>(
      StrCat("a time from ", HumanSeconds(min), " to ", HumanSeconds(max), ", like 90s, 5min or 2h"),
      [min, max](const std::string& text) -> std::optional<double> {
        absl::StatusOr<double> value = ParseSeconds(text);
        if (!value.ok() || !(*value >= min && *value <= max)) return std::nullopt;
        return *value;
      },
      [](const double& value) {
        // Fixed notation: units follow the number, so an exponent would not be read back.
        char buffer[400];
        std::to_chars_result end = std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::fixed);
        return StrCat(std::string_view(buffer, end.ptr - buffer), "s");
      });
}

Type<double> Share(double min) {
  return ScalarType<double>(
      StrCat("a share from ", ShareText(min), " to 100%, like 70% or 0.7"),
      [min](const std::string& text) -> std::optional<double> {
        bool percent = absl::EndsWith(text, "%");
        double value = 0;
        if (!absl::SimpleAtod(AbslView(std::string_view(text).substr(0, text.size() - (percent ? 1 : 0))), &value)) {
          return std::nullopt;
        }
        if (percent) value /= 100;
        return value >= min && value <= 1 ? std::optional(value) : std::nullopt;
      },
      [](const double& value) { return ShareText(value); });
}

Type<int64_t> Rate() {
  // Files are written in pieces of 16 to 64 KB, by the kernel as by tandem: at less, one piece takes more than a
  // minute, and no checkpoint would ever be done.
  constexpr int64_t kMin = 1'000, kMax = 1'000'000'000'000'000;
  return ScalarType<int64_t>(
      StrCat("bytes a second, ", SizeText(kMin), "/s or more, like 50MB/s; 0 = no limit"),
      [](const std::string& text) -> std::optional<int64_t> {
        std::string_view bytes = text;
        if (bytes.ends_with("/s")) bytes.remove_suffix(2);
        absl::StatusOr<int64_t> value = ParseBytes(bytes);
        const bool is_none = value.ok() && *value == 0 && bytes.find_first_of("123456789") == bytes.npos;
        if (!value.ok() || *value > kMax || (*value < kMin && !is_none)) return std::nullopt;
        return *value;
      },
      [](const int64_t& value) { return value == 0 ? "0" : StrCat(SizeText(value), "/s"); });
}

Type<std::string> TimeZone() {
  constexpr std::string_view kDescribed = "a time zone, like Europe/Berlin, UTC or local";
  return {std::string(kDescribed),
          [=](const Node& node, const std::string& path) -> absl::StatusOr<std::string> {
            if (node.kind != Node::Kind::kScalar) return WrongValue(node, path, kDescribed);
            TANDEM_RETURN_IF_ERROR(Annotate(LoadZone(node.text).status(), node.where));
            return node.text;
          },
          [](const std::string& text) { return Node::Scalar(text); }};
}

Type<std::vector<std::string>> Texts() {
  std::string described = StrCat("a list of up to ", kMaxList, " texts");
  return {described,
          [described](const Node& node, const std::string& path) { return ReadTexts(node, path, described); },
          WriteTexts};
}

Type<std::vector<std::vector<std::string>>> TextLists() {
  std::string described = "a list of lists of two or more names, like [[a, b]]";
  return {
      described,
      [described](const Node& node, const std::string& path) -> absl::StatusOr<std::vector<std::vector<std::string>>> {
        if (node.kind != Node::Kind::kList || node.items.size() > kMaxList) {
          return WrongValue(node, path, described);
        }
        std::vector<std::vector<std::string>> lists;
        for (const Node& item : node.items) {
          TANDEM_ASSIGN_OR_RETURN(std::vector<std::string> texts, ReadTexts(item, path, described));
          if (texts.size() < 2) return WrongValue(item, path, described);
          lists.push_back(std::move(texts));
        }
        return lists;
      },
      [](const std::vector<std::vector<std::string>>& lists) {
        Node list = Node::List({});
        for (const auto& texts : lists) list.items.push_back(WriteTexts(texts));
        return list;
      }};
}

}  // namespace tandem::spec
