#pragma once
// Field tables: each key of a struct is declared once (key, member, type with its limits, help); reading, writing,
// messages and documentation come from the table, defaults from the struct's own initialisers.
#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/text.h"
#include "spec/document.h"

namespace tandem::spec {

// How one kind of value is read from and written to YAML. `path` names the field in messages ("optimizer.lr").
template <typename V>
struct Type {
  std::string described;  // "a whole number from 1 to 100"; follows "must be"
  std::function<absl::StatusOr<V>(const Node&, const std::string& path)> read;
  std::function<Node(const V&)> write;
};

// Limits are inclusive.
Type<int64_t> WholeNumber(int64_t min, int64_t max);
Type<uint64_t> Unsigned64();
Type<double> Number(double min, double max);
Type<bool> TrueOrFalse();
Type<std::string> Text();  // not empty, at most 4096 bytes, no control characters
Type<std::string> OneOf(std::vector<std::string> choices);
Type<std::string> Name(std::string_view what);  // CheckName
Type<int64_t> Bytes(int64_t min, int64_t max);  // "2GB" or a number of bytes
Type<double> Seconds(double min, double max);   // "90s" or a number of seconds
Type<double> Share(double min);                 // "70%" or 0.7; min..1
Type<int64_t> Rate();                           // bytes a second: "50MB/s" or a number, 1kB/s or more; 0 = no limit
Type<std::string> TimeZone();                   // LoadZone
Type<std::vector<std::string>> Texts();         // a list, or one text alone
Type<std::vector<std::vector<std::string>>> TextLists();  // a list of lists of two or more

// InvalidArgument("<where>: <path> is <value>; it must be <described>").
absl::Status WrongValue(const Node& node, std::string_view path, std::string_view described);
absl::Status UnknownKey(const Node::Entry& entry, std::string_view path, const std::vector<std::string>& known);
// The shortest decimal text that reads back as the same number.
std::string NumberText(double value);
// "70%"; what Share reads back as the same number.
std::string ShareText(double share);
// "50MB", "64MiB": in the unit that leaves the shortest whole number; what ParseBytes reads back as the same number, up
// to 2^53. REQUIRES: bytes >= 0.
std::string SizeText(int64_t bytes);

template <typename T>
struct Field {
  std::string_view key;
  std::string described;
  std::string_view help;
  std::function<absl::Status(const Node&, const std::string& path, T&)> read;
  std::function<std::optional<Node>(const T&)> write;  // nothing: left out
};
template <typename T>
using FieldTable = std::vector<Field<T>>;

template <typename T, typename V>
Field<T> MakeField(std::string_view key, V T::*member, Type<V> type, std::string_view help) {
  return {key, type.described, help,
          [member, read = std::move(type.read)](const Node& node, const std::string& path, T& out) -> absl::Status {
            TANDEM_ASSIGN_OR_RETURN(out.*member, read(node, path));
            return absl::OkStatus();
          },
          [member, write = std::move(type.write)](const T& in) -> std::optional<Node> { return write(in.*member); }};
}

// A field that is not written while it holds V{} ("not given").
template <typename T, typename V>
Field<T> OptionalField(std::string_view key, V T::*member, Type<V> type, std::string_view help) {
  Field<T> field = MakeField(key, member, type, help);
  field.write = [member, write = std::move(type.write)](const T& in) -> std::optional<Node> {
    if (in.*member == V{}) return std::nullopt;
    return write(in.*member);
  };
  return field;
}

// A part that may be absent as a whole.
template <typename T, typename V>
Field<T> OptionalField(std::string_view key, std::optional<V> T::*member, Type<V> type, std::string_view help) {
  return {key, type.described, help,
          [member, read = std::move(type.read)](const Node& node, const std::string& path, T& out) -> absl::Status {
            TANDEM_ASSIGN_OR_RETURN(out.*member, read(node, path));
            return absl::OkStatus();
          },
          [member, write = std::move(type.write)](const T& in) -> std::optional<Node> {
            if (!(in.*member)) return std::nullopt;
            return write(*(in.*member));
          }};
}

inline std::string Join(const std::string& path, std::string_view key) {
  return path.empty() ? std::string(key) : StrCat(path, ".", key);
}

// Reads a map into `out`; fields that are not in it keep their value.
template <typename T>
absl::Status ReadFields(const Node& node, const std::string& path, const FieldTable<T>& table, T& out) {
  if (node.kind != Node::Kind::kMap) return WrongValue(node, path.empty() ? "the document" : path, "a map of keys");
  for (const Node::Entry& entry : node.entries) {
    const Field<T>* found = nullptr;
    std::vector<std::string> known;
    for (const Field<T>& field : table) {
      known.emplace_back(field.key);
      if (field.key == entry.key) found = &field;
    }
    if (found == nullptr) return UnknownKey(entry, path, known);
    TANDEM_RETURN_IF_ERROR(found->read(entry.value, Join(path, entry.key), out));
  }
  return absl::OkStatus();
}

template <typename T>
Node WriteFields(const FieldTable<T>& table, const T& in) {
  Node map = Node::Map();
  for (const Field<T>& field : table) {
    if (std::optional<Node> value = field.write(in)) map.Set(field.key, std::move(*value));
  }
  return map;
}

// A struct as a value. `table` must live for ever. With `short_key` a scalar stands for {short_key: scalar}; `prepare`
// may set defaults that depend on other keys before the fields are read.
template <typename V>
Type<V> Struct(const FieldTable<V>& table, std::string_view short_key = "",
               std::function<void(const Node&, V&)> prepare = nullptr) {
  return {short_key.empty() ? "a map of keys" : StrCat("a map of keys, or the ", short_key, " alone"),
          [&table, short_key, prepare](const Node& node, const std::string& path) -> absl::StatusOr<V> {
            Node map = node;
            if (node.kind == Node::Kind::kScalar && !short_key.empty()) {
              map = Node::Map();
              map.where = node.where;
              map.Set(short_key, node);
            }
            V value;
            if (prepare) prepare(map, value);
            TANDEM_RETURN_IF_ERROR(ReadFields(map, path, table, value));
            return value;
          },
          [&table](const V& value) { return WriteFields(table, value); }};
}

}  // namespace tandem::spec
