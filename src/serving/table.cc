#include "serving/table.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "base/status.h"
#include "base/text.h"

namespace tandem::serving {
namespace {

absl::Status NoSuchModel(const Table& table, std::string_view model) {
  std::vector<std::string> names;
  for (const auto& entry : table.models) names.push_back(entry.first);
  std::sort(names.begin(), names.end());
  if (names.empty()) return NotFound("model '", model, "' is not served; no model is");
  return NotFound("model '", model, "' is not served; there is ", absl::StrJoin(names, ", "), DidYouMean(model, names));
}

absl::Status NoSuchVersion(const TableModel& model, std::string_view name, std::string_view wanted) {
  std::vector<std::string> there;
  for (const TableModel::Entry& entry : model.versions) there.push_back(StrCat(entry.status.version));
  for (const auto& [alias, version] : model.aliases) there.push_back(StrCat(alias, " (version ", version, ")"));
  return NotFound("model '", name, "' has no version or alias '", wanted, "' that is served; there is ",
                  absl::StrJoin(there, ", "));
}

absl::Status NotReady(const VersionStatus& status) {
  if (status.state == VersionState::kFailed) {
    return Unavailable("model '", status.model, "' version ", status.version, " could not be loaded: ", status.reason);
  }
  return Unavailable("model '", status.model, "' version ", status.version, " is being loaded; try again later");
}

// 0 = there is no such version.
int32_t Resolve(const TableModel& model, std::string_view version_or_alias) {
  if (version_or_alias.empty() || version_or_alias == "0") return model.default_version;
  int32_t number = 0;
  if (absl::SimpleAtoi(AbslView(version_or_alias), &number)) return number;
  auto alias = model.aliases.find(version_or_alias);
  return alias == model.aliases.end() ? 0 : alias->second;
}

}  // namespace

absl::StatusOr<ModelHandle> Table::Find(std::string_view name, std::string_view version_or_alias) const {
  auto found = models.find(name);
  if (found == models.end()) return NoSuchModel(*this, name);
  const TableModel& model = found->second;
  int32_t version = Resolve(model, version_or_alias);
  for (const TableModel::Entry& entry : model.versions) {
    if (entry.status.version != version) continue;
    if (entry.handle != nullptr) return entry.handle;
    return NotReady(entry.status);
  }
  return NoSuchVersion(model, name, version_or_alias.empty() ? "(default)" : version_or_alias);
}

}  // namespace tandem::serving
