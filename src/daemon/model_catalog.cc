#include "daemon/model_catalog.h"

#include "base/status.h"
#include "telemetry/log.h"

namespace tandem::daemon {
namespace {

void Warn(std::string_view what, const absl::Status& status, std::string_view model, int32_t version) {
  if (!status.ok()) Log(LogLevel::kError, what, {{"model", model}, {"version", version}, {"error", MessageOf(status)}});
}

// Where champion stood before its last move; 0 if nowhere.
int32_t FormerChampion(const std::vector<wire::AliasMove>& history) {
  for (const wire::AliasMove& move : history) {
    if (move.alias() == "champion") return move.from();
  }
  return 0;
}

}  // namespace

serving::LoadEvents ModelCatalog::Events() {
  return {.on_loading =
              [this](const std::string& model, int32_t version) {
                Warn("the loading mark could not be kept", registry_->MarkLoading(model, version, true), model,
                     version);
              },
          .on_loaded =
              [this](const serving::VersionStatus& status) {
                Warn("the loading mark could not be removed",
                     registry_->MarkLoading(status.model, status.version, false), status.model, status.version);
                if (status.state == serving::VersionState::kReady) {
                  Log(LogLevel::kInfo, "model version is ready",
                      {{"model", status.model},
                       {"version", status.version},
                       {"engine", status.engine},
                       {"seconds", status.load_seconds}});
                } else if (status.state == serving::VersionState::kFailed) {
                  Log(LogLevel::kError, "model version could not be loaded",
                      {{"model", status.model}, {"version", status.version}, {"error", status.reason}});
                }
              }};
}

std::set<int32_t> ModelCatalog::WantedVersions(const registry::Model& model,
                                               const std::set<int32_t>& candidates) const {
  std::set<int32_t> wanted;
  if (model.enabled) {
    for (const auto& [alias, version] : model.aliases) wanted.insert(version);
    for (const registry::Version& version : model.versions) {
      if (version.wanted) wanted.insert(version.version);
    }
    if (model.aliases.count("champion") != 0) wanted.insert(FormerChampion(registry_->History(model.name)));
  }
  wanted.insert(candidates.begin(), candidates.end());
  return wanted;
}

serving::DesiredModel ModelCatalog::Desired(const registry::Model& model, const std::set<int32_t>& candidates) const {
  serving::DesiredModel desired;
  desired.name = model.name;
  std::set<int32_t> wanted = WantedVersions(model, candidates);
  for (const registry::Version& version : model.versions) {
    if (wanted.count(version.version) == 0 || version.quarantined) continue;
    absl::StatusOr<std::filesystem::path> path = artifacts_->PathOf(version.sha256);
    if (!path.ok()) {
      Warn("the file of a model version is missing", path.status(), model.name, version.version);
      continue;
    }
    serving::DesiredVersion& out = desired.versions.emplace_back();
    out.version = version.version;
    out.model_path = *path;
    out.engine = settings_.engine;
    out.options.precision = version.precision;
    out.prepared_folder = artifacts_->DerivedFolder(version.sha256) / StrCat(out.engine, "-", out.options.precision);
    // A candidate becomes what nameless requests get only when an alias says so.
    if (candidates.count(version.version) == 0) desired.default_version = version.version;
  }
  for (const auto& [alias, version] : model.aliases) {
    for (const serving::DesiredVersion& served : desired.versions) {
      if (served.version != version) continue;
      desired.aliases[alias] = version;
      if (alias == "champion") desired.default_version = version;
    }
  }
  if (desired.aliases.count("champion") != 0) desired.default_version = desired.aliases["champion"];
  return desired;
}

void ModelCatalog::Sync() {
  std::lock_guard lock(mutex_);
  std::vector<serving::DesiredModel> desired;
  for (const registry::Model& model : registry_->List()) {
    std::set<int32_t> candidates;
    for (const auto& [name, version] : candidates_) {
      if (name == model.name) candidates.insert(version);
    }
    serving::DesiredModel one = Desired(model, candidates);
    if (!one.versions.empty()) desired.push_back(std::move(one));
  }
  serving_->SetDesired(std::move(desired));
}

absl::Status ModelCatalog::LoadCandidate(const std::string& model, int32_t version) {
  TANDEM_ASSIGN_OR_RETURN(registry::Version record, registry_->GetVersion(model, version));
  TANDEM_RETURN_IF_ERROR(Annotate(artifacts_->PathOf(record.sha256).status(),
                                  StrCat("the file of model '", model, "' version ", version, " is missing")));
  if (record.quarantined) TANDEM_RETURN_IF_ERROR(registry_->SetQuarantine(model, version, false, ""));
  {
    std::lock_guard lock(mutex_);
    candidates_.emplace(model, version);
  }
  Sync();
  return serving_->WaitUntilReady(model, version, settings_.load_timeout_s);
}

void ModelCatalog::DropCandidate(const std::string& model, int32_t version) {
  {
    std::lock_guard lock(mutex_);
    candidates_.erase({model, version});
  }
  Sync();
}

absl::Status ModelCatalog::MoveAlias(const std::string& model, const std::string& alias, int32_t version,
                                     std::string_view who, std::string_view why) {
  TANDEM_RETURN_IF_ERROR(registry_->SetAlias(model, alias, version, who, why));
  Log(LogLevel::kInfo, "alias moved",
      {{"model", model}, {"alias", alias}, {"version", version}, {"who", who}, {"why", why}});
  Sync();
  return absl::OkStatus();
}

std::pair<std::string, std::string> ModelCatalog::StateOf(const registry::Model& model,
                                                          const registry::Version& version,
                                                          const std::vector<serving::VersionStatus>& loaded) const {
  for (const serving::VersionStatus& status : loaded) {
    if (status.model == model.name && status.version == version.version) {
      return {std::string(serving::StateName(status.state)), status.reason};
    }
  }
  if (version.quarantined) {
    return {"QUARANTINED",
            StrCat(version.load_error, "; 'tandem models deploy ", model.name, "/", version.version, "' tries again")};
  }
  if (!model.enabled) return {"UNAVAILABLE", "the model was unloaded"};
  if (absl::Status file = artifacts_->PathOf(version.sha256).status(); !file.ok()) {
    return {"UNAVAILABLE", StrCat("its file is missing: ", MessageOf(file))};
  }
  return {"UNAVAILABLE", "no alias points to it"};
}

}  // namespace tandem::daemon
