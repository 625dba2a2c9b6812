#pragma once
// What requests see of the loaded versions: an immutable table, made anew at each change. Models that did not change
// are shared with the table before.
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "serving/lazy.h"
#include "serving/router.h"
#include "serving/serving.h"

namespace tandem::serving {

struct TableModel {
  struct Entry {
    VersionStatus status;
    ModelHandle handle;  // null unless READY
    // Of lazy versions.
    std::shared_ptr<LazyState> lazy;
    ModelHandle parking;     // keeps requests while it is not loaded; null while its inputs are not known
    uint64_t loads = 0;      // that ended
    std::string failure;     // of the last one
    SequenceHolders former;  // what this version was before it was loaded anew
  };
  std::string name;
  std::vector<Entry> versions;  // ascending
  std::map<std::string, int32_t, std::less<>> aliases;
  int32_t default_version = 0;           // 0 = none
  std::shared_ptr<const Router> router;  // null = no split
  SequenceHolders holders;               // all versions that serve sequences, and what they were before

  const Entry* Find(int32_t version) const;
};

// Made once it is complete: the keys are the models' own names.
struct Table {
  std::unordered_map<std::string_view, std::shared_ptr<const TableModel>> models;
  std::vector<VersionStatus> unloading;

  // As of Serving. Open touches lazy versions: `now` is when they were used last; `loader` is told when one must be
  // loaded without a request to keep.
  absl::StatusOr<ModelHandle> Find(std::string_view model, std::string_view version_or_alias) const;
  absl::StatusOr<Target> Open(std::string_view model, std::string_view version_or_alias, const Clock& clock,
                              Waker* loader) const;
  LazyNow FindLazy(std::string_view model, int32_t version) const;
};

}  // namespace tandem::serving
