#include "daemon/model_catalog.h"

#include <algorithm>

#include "base/files.h"
#include "base/status.h"
#include "daemon/engine_choice_report.h"
#include "engine/model_file.h"
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

spec::ModelConfig ConfigOf(const registry::Model& model) {
  if (model.config.empty()) return {};
  absl::StatusOr<spec::ModelConfig> config =
      spec::ParseModelConfig(model.config, StrCat("configuration of '", model.name, "'"));
  if (config.ok()) return *std::move(config);
  Log(LogLevel::kError, "a model's configuration could not be read; the defaults stand in",
      {{"model", model.name}, {"error", MessageOf(config.status())}});
  return {};
}

bool LeavesEngineOpen(const spec::ModelConfig& config) { return config.engine.empty() || config.engine == "auto"; }

bool FromRepository(const registry::Model& model) {
  return std::ranges::any_of(
      model.versions, [](const registry::Version& version) { return version.source.starts_with(kRepositorySource); });
}

std::string VersionsOf(const registry::Model& model, const spec::ModelConfig& config) {
  return config.versions.empty() && FromRepository(model) ? "latest:1" : config.versions;
}

serving::LoadEvents ModelCatalog::Events() {
  return {.on_loading =
              [this](const std::string& model, int32_t version, const std::string& engine) {
                Warn("the loading mark could not be kept", registry_->MarkLoading(model, version, engine), model,
                     version);
              },
          .on_loaded =
              [this](const serving::VersionStatus& status) {
                const bool serves = status.state == serving::VersionState::kReady;
                Warn("the loading mark could not be removed",
                     registry_->MarkLoaded(status.model, status.version, serves ? status.engine : ""), status.model,
                     status.version);
                if (serves && !status.reason.empty()) {
                  Log(LogLevel::kError, "model version could not be loaded anew; it is served as before",
                      {{"model", status.model},
                       {"version", status.version},
                       {"engine", status.engine},
                       {"error", status.reason}});
                } else if (serves) {
                  Log(LogLevel::kInfo, "model version is ready",
                      {{"model", status.model},
                       {"version", status.version},
                       {"engine", status.engine},
                       {"seconds", status.load_seconds}});
                } else if (status.state == serving::VersionState::kFailed) {
                  Log(LogLevel::kError, "model version could not be loaded",
                      {{"model", status.model}, {"version", status.version}, {"error", status.reason}});
                }
                TellChooser();
              }};
}

std::set<int32_t> ModelCatalog::WantedVersions(const registry::Model& model, const spec::ModelConfig& config) const {
  std::set<int32_t> wanted;
  std::vector<int32_t> existing;
  for (const auto& [alias, version] : model.aliases) wanted.insert(version);
  for (const registry::Version& version : model.versions) {
    if (version.wanted) wanted.insert(version.version);
    existing.push_back(version.version);
  }
  for (int32_t version : spec::VersionsServed(VersionsOf(model, config), std::move(existing))) wanted.insert(version);
  if (model.aliases.count("champion") != 0) wanted.insert(FormerChampion(registry_->History(model.name)));
  return wanted;
}

serving::DesiredVersion ModelCatalog::DesiredVersionOf(const registry::Version& version,
                                                       const spec::ModelConfig& config,
                                                       const std::filesystem::path& file) const {
  std::string engine = config.engine;
  if (LeavesEngineOpen(config))
    engine = version.format == engine::kOnnx ? EngineReportFromJson(version.engine_report).chosen
                                             : engine::kTensorFlowEngine;
  if (engine.empty()) engine = settings_.engine;
  return DesiredOn(engine, version, config, file);
}

serving::DesiredVersion ModelCatalog::DesiredOn(const std::string& engine, const registry::Version& version,
                                                const spec::ModelConfig& config,
                                                const std::filesystem::path& file) const {
  serving::DesiredVersion out;
  out.version = version.version;
  out.model_path = file;
  out.engine = engine;
  out.options.precision = version.precision;
  out.options.device = config.device;
  out.options.threads = config.threads;
  std::string folder = StrCat(out.engine, "-", out.options.precision);
  if (config.device != "CPU") StrAppend(&folder, "-", Sha256Hex(config.device).substr(0, 8));
  if (config.threads != 1) StrAppend(&folder, "-t", config.threads);
  out.prepared_folder = artifacts_->DerivedFolder(version.sha256) / folder;
  return out;
}

serving::DesiredModel ModelCatalog::Desired(const registry::Model& model, const std::set<int32_t>& candidates,
                                            std::vector<ChoosableVersion>* choosable) const {
  serving::DesiredModel desired;
  desired.name = model.name;
  desired.config = ConfigOf(model);
  std::set<int32_t> wanted, beside = candidates;
  if (model.enabled) {
    wanted = WantedVersions(model, desired.config);
    beside.insert(model.split.canary);
    beside.insert(model.split.shadow);
  }
  for (const registry::Version& version : model.versions) {
    bool is_wanted = wanted.count(version.version) != 0;
    if (!is_wanted && beside.count(version.version) == 0) continue;
    absl::StatusOr<std::filesystem::path> path = artifacts_->PathOf(version.sha256);
    if (!path.ok()) {
      Warn("the file of a model version is missing", path.status(), model.name, version.version);
      continue;
    }
    serving::DesiredVersion served = DesiredVersionOf(version, desired.config, *path);
    if (LeavesEngineOpen(desired.config) && version.format == engine::kOnnx) {
      choosable->push_back({version, desired.config, served});
    }
    if (version.quarantined) continue;
    desired.versions.push_back(std::move(served));
    // A candidate becomes what nameless requests get only when an alias says so.
    if (beside.count(version.version) == 0) desired.default_version = version.version;
    if (!model.enabled) continue;
    if (version.version == model.split.canary) {
      desired.split.canary = version.version;
      desired.split.canary_percent = model.split.canary_percent;
    }
    if (version.version == model.split.shadow) {
      desired.split.shadow = version.version;
      desired.split.shadow_percent = model.split.shadow_percent;
    }
  }
  for (const auto& [alias, version] : model.aliases) {
    for (const serving::DesiredVersion& served : desired.versions) {
      if (served.version == version) desired.aliases[alias] = version;
    }
  }
  if (desired.aliases.count("champion") != 0) desired.default_version = desired.aliases["champion"];
  return desired;
}

void ModelCatalog::Sync(const std::string& name) {
  {
    std::lock_guard lock(mutex_);
    absl::StatusOr<registry::Model> model = registry_->Get(name);
    if (model.ok()) {
      Want(*model);
    } else if (absl::IsNotFound(model.status())) {
      wanted_.erase(name);
    } else {
      Warn("a model could not be read from the registry; it is served as before", model.status(), name, 0);
    }
    Push();
  }
  TellChooser();
}

void ModelCatalog::Sync() {
  {
    std::lock_guard lock(mutex_);
    wanted_.clear();
    for (const registry::Model& model : registry_->List()) Want(model);
    Push();
  }
  TellChooser();
}

void ModelCatalog::Want(const registry::Model& model) {
  std::set<int32_t> candidates;
  for (const auto& [name, version] : candidates_) {
    if (name == model.name) candidates.insert(version);
  }
  Wanted wanted;
  wanted.desired = Desired(model, candidates, &wanted.choosable);
  wanted_[model.name] = std::move(wanted);
}

void ModelCatalog::Push() {
  std::vector<serving::DesiredModel> desired;
  std::vector<ChoosableVersion> choosable;
  std::set<std::filesystem::path> used;
  std::vector<CanaryInForce> canaries;
  std::map<std::string, double> slo_ms;
  for (const auto& [name, wanted] : wanted_) {
    const serving::DesiredModel& one = wanted.desired;
    for (const serving::DesiredVersion& version : one.versions) used.insert(version.prepared_folder);
    choosable.insert(choosable.end(), wanted.choosable.begin(), wanted.choosable.end());
    if (one.config.slo_ms > 0) slo_ms[name] = one.config.slo_ms;
    if (one.split.canary != 0) canaries.push_back({name, one.split.canary, one.config.canary});
    if (!one.versions.empty()) desired.push_back(one);
  }
  serving_->SetDesired(std::move(desired));
  std::lock_guard in_force_lock(in_force_mutex_);
  canaries_ = std::move(canaries);
  slo_ms_ = std::move(slo_ms);
  if (settings_.choose) choosable_ = std::move(choosable);
  used_prepared_ = std::move(used);
}

std::vector<ChoosableVersion> ModelCatalog::Choosable() const {
  std::lock_guard lock(in_force_mutex_);
  return choosable_;
}

absl::StatusOr<ChoosableVersion> ModelCatalog::FindChoosable(const std::string& name, int32_t version) const {
  TANDEM_ASSIGN_OR_RETURN(registry::Model model, registry_->Get(name));
  TANDEM_ASSIGN_OR_RETURN(registry::Version record, registry_->Resolve(name, "", version));
  if (record.format != engine::kOnnx) {
    return FailedPrecondition("model '", name, "' version ", record.version, " is of format ", record.format,
                              ", which only engine '", engine::kTensorFlowEngine,
                              "' reads; there is nothing to choose");
  }
  TANDEM_ASSIGN_OR_RETURN(std::filesystem::path file, artifacts_->PathOf(record.sha256));
  spec::ModelConfig config = ConfigOf(model);
  serving::DesiredVersion desired = DesiredVersionOf(record, config, file);
  return ChoosableVersion{std::move(record), std::move(config), std::move(desired)};
}

std::filesystem::path ModelCatalog::PreparedFolder(const ChoosableVersion& version, const std::string& engine) const {
  return DesiredOn(engine, version.record, version.config, version.desired.model_path).prepared_folder;
}

bool ModelCatalog::IsUsed(const std::filesystem::path& prepared_folder) const {
  std::lock_guard lock(in_force_mutex_);
  return used_prepared_.contains(prepared_folder);
}

std::vector<CanaryInForce> ModelCatalog::Canaries() const {
  std::lock_guard lock(in_force_mutex_);
  return canaries_;
}

double ModelCatalog::SloOf(const std::string& model, double otherwise) const {
  std::lock_guard lock(in_force_mutex_);
  auto found = slo_ms_.find(model);
  return found == slo_ms_.end() ? otherwise : found->second;
}

void ModelCatalog::AttachChooser(ChooserHooks hooks) {
  std::unique_lock lock(hooks_mutex_);
  hooks_ = std::move(hooks);
}

void ModelCatalog::TellChooser() const {
  std::shared_lock lock(hooks_mutex_);
  if (hooks_.on_change) hooks_.on_change();
}

absl::Status ModelCatalog::LoadCandidate(const std::string& model, int32_t version) {
  {
    std::lock_guard lock(mutex_);
    candidates_.emplace(model, version);
  }
  TANDEM_ASSIGN_OR_RETURN(registry::Version record, registry_->GetVersion(model, version));
  TANDEM_RETURN_IF_ERROR(Annotate(artifacts_->PathOf(record.sha256).status(),
                                  StrCat("the file of model '", model, "' version ", version, " is missing")));
  if (record.quarantined) TANDEM_RETURN_IF_ERROR(registry_->SetQuarantine(model, version, false, ""));
  Sync(model);
  absl::Status ready = serving_->WaitUntilReady(model, version, settings_.load_timeout_s);
  if (ready.ok() || absl::IsDeadlineExceeded(ready)) return ready;
  std::shared_lock lock(hooks_mutex_);
  return hooks_.find_other ? hooks_.find_other(model, version, ready) : ready;
}

void ModelCatalog::DropCandidate(const std::string& model, int32_t version) {
  {
    std::lock_guard lock(mutex_);
    auto one = candidates_.find({model, version});
    if (one != candidates_.end()) candidates_.erase(one);
  }
  Sync(model);
}

absl::Status ModelCatalog::MoveAlias(const std::string& model, const std::string& alias, int32_t version,
                                     std::string_view who, std::string_view why) {
  if (alias == "champion" && version != 0) {
    TANDEM_ASSIGN_OR_RETURN(std::string lacking, ApprovalLacking(model, version));
    if (!lacking.empty()) return FailedPrecondition(lacking);
  }
  TANDEM_RETURN_IF_ERROR(registry_->SetAlias(model, alias, version, who, why));
  Log(LogLevel::kInfo, "alias moved",
      {{"model", model}, {"alias", alias}, {"version", version}, {"who", who}, {"why", why}});
  Sync(model);
  return absl::OkStatus();
}

absl::StatusOr<std::string> ModelCatalog::ApprovalLacking(const std::string& name, int32_t version) const {
  TANDEM_ASSIGN_OR_RETURN(registry::Model model, registry_->Get(name));
  auto champion = model.aliases.find("champion");
  bool serves = champion != model.aliases.end() && champion->second == version;
  if (serves || !ConfigOf(model).approval) return "";
  TANDEM_ASSIGN_OR_RETURN(registry::Version record, registry_->GetVersion(name, version));
  if (record.approval == "approved") return "";
  std::string what = StrCat("model '", name, "' version ", version);
  if (record.approval == "rejected") {
    StrAppend(&what, " was rejected by ", record.approval_who, ": ", record.approval_comment, "; to let it pass: ");
  } else {
    StrAppend(&what, " needs an operator's approval before it becomes champion: ");
  }
  return StrCat(what, "tandem models approve ", name, " ", version, " --comment '...'");
}

absl::Status ModelCatalog::StartSplit(registry::SplitPart part, const std::string& model, int32_t version,
                                      double percent, std::string_view who, std::string_view why) {
  TANDEM_RETURN_IF_ERROR(registry_->StartSplit(part, model, version, percent, who, why));
  Log(LogLevel::kInfo, StrCat(registry::PartName(part), " begins"),
      {{"model", model}, {"version", version}, {"percent", percent}, {"who", who}, {"why", why}});
  Sync(model);
  return absl::OkStatus();
}

absl::Status ModelCatalog::EndSplit(registry::SplitPart part, const std::string& model, int32_t version,
                                    std::string_view who, std::string_view text) {
  TANDEM_RETURN_IF_ERROR(registry_->EndSplit(part, model, version, who, text));
  Log(LogLevel::kInfo, StrCat(registry::PartName(part), " ends"), {{"model", model}, {"who", who}, {"why", text}});
  Sync(model);
  return absl::OkStatus();
}

std::pair<std::string, std::string> ModelCatalog::StateOf(const registry::Model& model,
                                                          const registry::Version& version,
                                                          const std::vector<serving::VersionStatus>& loaded) const {
  const serving::VersionStatus* found = nullptr;
  for (const serving::VersionStatus& status : loaded) {
    if (status.model != model.name || status.version != version.version) continue;
    // In a swap the version stands twice: what counts is the one that takes new requests.
    if (found == nullptr || found->state == serving::VersionState::kUnloading) found = &status;
  }
  if (found != nullptr) return {std::string(serving::StateName(found->state)), found->reason};
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
