#include "api/v2/message_reader.h"

#include <algorithm>

#include "spec/fields.h"

namespace tandem::api::v2 {

using spec::Node;

bool IsDefault(const Node& node) {
  switch (node.kind) {
    case Node::Kind::kNull:
      return true;
    case Node::Kind::kScalar:
      return node.text.empty() || node.text == "0" || node.text == "false";
    case Node::Kind::kList:
      return std::ranges::all_of(node.items, IsDefault);
    case Node::Kind::kMap:
      return std::ranges::all_of(node.entries, [](const Node::Entry& entry) { return IsDefault(entry.value); });
  }
  return false;
}

void MessageReader::Ignore(const Node& value, const std::string& path) {
  if (!IsDefault(value)) ignored_.push_back(path);
}

absl::Status MessageReader::ReadMap(const Node& map, const std::string& path, const Table& table) {
  if (map.kind == Node::Kind::kNull) return absl::OkStatus();
  if (map.kind != Node::Kind::kMap) {
    return spec::WrongValue(map, path.empty() ? "the document" : path, "a map of keys");
  }
  for (const Node::Entry& entry : map.entries) {
    const std::string key_path = spec::Join(path, entry.key);
    auto found = table.find(entry.key);
    if (found == table.end()) {
      Ignore(entry.value, key_path);
    } else if (entry.value.kind != Node::Kind::kNull) {
      TANDEM_RETURN_IF_ERROR(found->second(entry.value, key_path));
    }
  }
  return absl::OkStatus();
}

absl::Status MessageReader::ForEach(const Node& list, const std::string& path, const Reader& read) {
  if (list.kind != Node::Kind::kList) return read(list, path);
  for (size_t i = 0; i < list.items.size(); ++i) {
    TANDEM_RETURN_IF_ERROR(read(list.items[i], StrCat(path, ".", i)));
  }
  return absl::OkStatus();
}

MessageReader::Reader MessageReader::Text(std::string* to) {
  return [to](const Node& value, const std::string& path) -> absl::Status {
    if (value.kind != Node::Kind::kScalar) return spec::WrongValue(value, path, "a text");
    *to = value.text;
    return absl::OkStatus();
  };
}

MessageReader::Reader MessageReader::Millis(double* to) {
  constexpr int64_t kDayMicros = int64_t{86'400} * 1'000'000;
  return [to](const Node& value, const std::string& path) -> absl::Status {
    TANDEM_ASSIGN_OR_RETURN(int64_t micros, Whole(value, path, 0, kDayMicros));
    *to = static_cast<double>(micros) / 1000;
    return absl::OkStatus();
  };
}

absl::StatusOr<int64_t> MessageReader::Whole(const Node& node, const std::string& path, int64_t min, int64_t max) {
  return spec::WholeNumber(min, max).read(node, path);
}

}  // namespace tandem::api::v2
