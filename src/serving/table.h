#pragma once
// What requests see of the loaded versions: an immutable table, made anew at each change.
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "serving/serving.h"

namespace tandem::serving {

struct TableModel {
  struct Entry {
    VersionStatus status;
    ModelHandle handle;  // null unless READY
  };
  std::vector<Entry> versions;  // ascending
  std::map<std::string, int32_t, std::less<>> aliases;
  int32_t default_version = 0;  // 0 = none
};

struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};

struct Table {
  std::unordered_map<std::string, TableModel, StringHash, std::equal_to<>> models;
  std::vector<VersionStatus> unloading;

  // As Serving::Find.
  absl::StatusOr<ModelHandle> Find(std::string_view model, std::string_view version_or_alias) const;
};

}  // namespace tandem::serving
