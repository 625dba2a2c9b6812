#pragma once
// How a struct maps to the columns of a table: each column declared once, with its way in and out.
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/strings.h"
#include "storage/store.h"

namespace tandem::storage {

template <typename T>
struct Column {
  std::string_view name;
  std::function<Value(const T&)> get;
  std::function<void(T&, const Row&, int column)> set;
};

// A column for a member that is a text, a number or a bool.
template <typename T, typename V>
Column<T> Field(std::string_view name, V T::*member) {
  if constexpr (std::is_same_v<V, std::string>) {
    return {name, [member](const T& r) -> Value { return r.*member; },
            [member](T& r, const Row& row, int column) { r.*member = row.Text(column); }};
  } else {
    return {name, [member](const T& r) -> Value { return static_cast<int64_t>(r.*member); },
            [member](T& r, const Row& row, int column) { r.*member = static_cast<V>(row.Int(column)); }};
  }
}

// Immutable after construction; thread-safe.
template <typename T>
class RowMap {
 public:
  explicit RowMap(std::vector<Column<T>> columns) : columns_(std::move(columns)) {}

  // "a, b, c"; with a suffix of " = ?": "a = ?, b = ?, c = ?".
  std::string Names(std::string_view suffix = "") const {
    std::string out;
    for (const Column<T>& column : columns_) StrAppend(&out, out.empty() ? "" : ", ", column.name, suffix);
    return out;
  }
  // "?, ?, ?".
  std::string Marks() const {
    std::string out;
    for (size_t i = 0; i < columns_.size(); ++i) out += i == 0 ? "?" : ", ?";
    return out;
  }
  std::vector<Value> Values(const T& record) const {
    std::vector<Value> values;
    values.reserve(columns_.size() + 2);
    for (const Column<T>& column : columns_) values.push_back(column.get(record));
    return values;
  }
  // Reads the columns, which begin at column `first` of the row.
  void Read(const Row& row, int first, T& record) const {
    for (const Column<T>& column : columns_) column.set(record, row, first++);
  }

 private:
  std::vector<Column<T>> columns_;
};

}  // namespace tandem::storage
