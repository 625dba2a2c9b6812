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
  for (const auto& entry : table.models) names.emplace_back(entry.first);
  std::sort(names.begin(), names.end());
  if (names.empty()) return NotFound("model '", model, "' is not served; no model is");
  return NotFound("model '", model, "' is not served; there is ", absl::StrJoin(names, ", "), DidYouMean(model, names));
}

absl::Status NoSuchVersion(const TableModel& model, std::string_view wanted) {
  std::vector<std::string> there;
  for (const TableModel::Entry& entry : model.versions) there.push_back(StrCat(entry.status.version));
  for (const auto& [alias, version] : model.aliases) there.push_back(StrCat(alias, " (version ", version, ")"));
  return NotFound("model '", model.name, "' has no version or alias '", wanted.empty() ? "(default)" : wanted,
                  "' that is served; there is ", absl::StrJoin(there, ", "));
}

absl::Status NotReady(const VersionStatus& status) {
  if (status.state == VersionState::kFailed) {
    return Unavailable("model '", status.model, "' version ", status.version, " could not be loaded: ", status.reason);
  }
  if (status.state == VersionState::kUnloaded) {
    return Unavailable("model '", status.model, "' version ", status.version, " is not loaded: ", status.reason);
  }
  return Unavailable("model '", status.model, "' version ", status.version, " is being loaded; try again later");
}

bool NamesNone(std::string_view version_or_alias) { return version_or_alias.empty() || version_or_alias == "0"; }

bool SameSignature(const std::vector<TensorSignature>& one, const std::vector<TensorSignature>& other) {
  return std::ranges::equal(one, other, [](const TensorSignature& a, const TensorSignature& b) {
    return a.name == b.name && a.dtype == b.dtype && a.shape == b.shape;
  });
}

// Of a version, not of none.
bool IsNumber(std::string_view version_or_alias) {
  int32_t number = 0;
  return absl::SimpleAtoi(AbslView(version_or_alias), &number) && number != 0;
}

// 0 = there is no such version.
int32_t Resolve(const TableModel& model, std::string_view version_or_alias) {
  if (NamesNone(version_or_alias)) return model.default_version;
  int32_t number = 0;
  if (absl::SimpleAtoi(AbslView(version_or_alias), &number)) return number;
  auto alias = model.aliases.find(version_or_alias);
  return alias == model.aliases.end() ? 0 : alias->second;
}

struct Place {
  const TableModel* model;
  const TableModel::Entry* entry;
};
absl::StatusOr<Place> Look(const Table& table, std::string_view name, std::string_view version_or_alias) {
  auto found = table.models.find(name);
  if (found == table.models.end()) return NoSuchModel(table, name);
  const TableModel& model = *found->second;
  const TableModel::Entry* entry = model.Find(Resolve(model, version_or_alias));
  if (entry == nullptr) return NoSuchVersion(model, version_or_alias);
  return Place{&model, entry};
}

}  // namespace

ModelHandle Target::HolderOf(const Request& request, const LoadedVersion& answering) const {
  if (holders == nullptr || request.sequence.start || answering.Continues(request)) return nullptr;
  for (const ModelHandle& holder : *holders) {
    if (holder.get() == &answering || !holder->Continues(request)) continue;
    // The request was read by the target's signature.
    if (SameSignature(holder->inputs(), handle->inputs()) && SameSignature(holder->outputs(), handle->outputs())) {
      return holder;
    }
  }
  return nullptr;
}

const TableModel::Entry* TableModel::Find(int32_t version) const {
  for (const Entry& entry : versions) {
    if (entry.status.version == version) return &entry;
  }
  return nullptr;
}

absl::StatusOr<ModelHandle> Table::Find(std::string_view model, std::string_view version_or_alias) const {
  TANDEM_ASSIGN_OR_RETURN(Place place, Look(*this, model, version_or_alias));
  if (place.entry->handle != nullptr) return place.entry->handle;
  return NotReady(place.entry->status);
}

absl::StatusOr<Target> Table::Open(std::string_view model, std::string_view version_or_alias, const Clock& clock,
                                   Waker* loader) const {
  TANDEM_ASSIGN_OR_RETURN(Place place, Look(*this, model, version_or_alias));
  const TableModel::Entry& entry = *place.entry;
  if (entry.lazy != nullptr) entry.lazy->Touch(clock.MonotonicNanos());
  if (entry.handle != nullptr) {
    const bool is_split = place.model->router != nullptr && place.model->router->active();
    return Target{entry.handle, is_split && NamesNone(version_or_alias) ? place.model->router : nullptr,
                  IsNumber(version_or_alias) ? entry.former : place.model->holders};
  }
  if (entry.lazy == nullptr || entry.status.state == VersionState::kFailed) return NotReady(entry.status);
  if (entry.parking != nullptr) return Target{entry.parking, nullptr, nullptr};
  if (!entry.lazy->wanted.exchange(true)) loader->Signal();
  return Unavailable("model '", entry.status.model, "' version ", entry.status.version,
                     " is being loaded for its first request; try again in a moment");
}

LazyNow Table::FindLazy(std::string_view name, int32_t version) const {
  auto found = models.find(name);
  const TableModel::Entry* entry = found == models.end() ? nullptr : found->second->Find(version);
  LazyNow now;
  if (entry == nullptr) {
    now.hopeless = true;
    now.failure = "it is not served any more";
    return now;
  }
  now.handle = entry->handle;
  now.loading = entry->status.state == VersionState::kLoading;
  now.hopeless = entry->status.state == VersionState::kFailed;
  now.loads = entry->loads;
  now.failure = entry->failure;
  return now;
}

}  // namespace tandem::serving
