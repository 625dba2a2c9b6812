#include "daemon/repository_update.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <shared_mutex>

#include "absl/strings/str_join.h"
#include "base/files.h"
#include "base/status.h"
#include "engine/model_file.h"
#include "telemetry/log.h"

namespace tandem::daemon {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

constexpr std::string_view kWho = "repository";
constexpr int kMemoryFormat = 1;

json ToJson(const std::vector<TensorSignature>& signatures) {
  json list = json::array();
  for (const TensorSignature& one : signatures) {
    list.push_back({{"name", one.name}, {"dtype", static_cast<int>(one.dtype)}, {"shape", one.shape}});
  }
  return list;
}

std::vector<TensorSignature> FromJson(const json& list) {
  std::vector<TensorSignature> signatures;
  for (const json& one : list) {
    signatures.push_back(
        {one.at("name"), static_cast<DType>(one.at("dtype").get<int>()), one.at("shape").get<Shape>()});
  }
  return signatures;
}

}  // namespace

RepositoryUpdate::RepositoryUpdate(RepositoryParts parts, fs::path repository, fs::path memory_file)
    : parts_(std::move(parts)), repository_(std::move(repository)), memory_file_(std::move(memory_file)) {
  ReadMemory();
}

std::string RepositoryUpdate::SourceOf(const std::string& model, int32_t version) const {
  return StrCat(kRepositorySource, (repository_ / model / StrCat(version)).string());
}

std::vector<std::string> RepositoryUpdate::KnownModels() const {
  std::vector<std::string> names;
  for (const registry::Model& model : parts_.registry->List()) {
    if (std::ranges::any_of(model.versions, [&](const registry::Version& version) {
          return version.source == SourceOf(model.name, version.version);
        })) {
      names.push_back(model.name);
    }
  }
  return names;
}

absl::Status RepositoryUpdate::CheckOwner(const ModelFolder& folder) const {
  absl::StatusOr<registry::Model> model = parts_.registry->Get(folder.name);
  if (absl::IsNotFound(model.status())) return absl::OkStatus();
  if (!model.ok()) return model.status();
  if (FromRepository(*model)) return absl::OkStatus();
  return FailedPrecondition("there is a model '", folder.name, "' already, which is not from the repository (",
                            model->versions.empty() ? "" : model->versions.back().source, "); rename '",
                            folder.path.string(), "', or delete that model: tandem models delete ", folder.name);
}

// Reads the model's file, unless it is known since the last time that the folder looked like this.
absl::StatusOr<RepositoryUpdate::Found> RepositoryUpdate::Find(const ModelFolder& folder, int32_t version,
                                                               const std::string& default_name) const {
  const VersionFolder& on_disk = folder.versions.at(version);
  TANDEM_ASSIGN_OR_RETURN(fs::path file, FindModelFile(on_disk, default_name));
  const std::string stamp = StrCat(on_disk.stamp, "/", file.filename().string());
  if (auto model = memory_.find(folder.name); model != memory_.end()) {
    auto known = model->second.find(version);
    if (known != model->second.end() && known->second.stamp == stamp &&
        parts_.artifacts->PathOf(known->second.sha256).ok()) {
      return known->second;
    }
  }
  TANDEM_ASSIGN_OR_RETURN(JoinedModel joined, parts_.join(file));
  Found found;
  found.stamp = stamp;
  found.inputs = std::move(joined.inputs);
  found.outputs = std::move(joined.outputs);
  found.file = std::move(joined.file);
  return found;
}

RepositoryUpdate::FoundVersions RepositoryUpdate::FindAll(const ModelFolder& folder, const FolderConfig& config,
                                                          UpdateResult* result) const {
  FoundVersions all;
  for (const auto& [number, unused] : folder.versions) {
    absl::StatusOr<Found> found = Find(folder, number, config.document.translated.default_model_filename);
    absl::Status status = found.status();
    // Of some formats only the engine knows what goes in and out.
    if (status.ok() && !found->outputs.empty()) {
      status = api::v2::CheckAgainstModel(config.document, found->inputs, found->outputs);
    }
    if (status.ok()) {
      all[number] = *std::move(found);
      continue;
    }
    std::error_code error;
    if (found.ok() && !found->file.empty()) fs::remove(found->file, error);
    result->versions[number] = status;
  }
  return all;
}

absl::Status RepositoryUpdate::Register(const ModelFolder& folder, int32_t number, Found* found, bool* changed) {
  registry::Version version;
  version.model = folder.name;
  version.version = number;
  version.source = SourceOf(folder.name, number);
  version.created_by = kWho;
  std::shared_lock recording(parts_.artifacts->record_mutex());
  absl::StatusOr<storage::ArtifactStore::Artifact> artifact;
  if (found->file.empty()) {
    TANDEM_ASSIGN_OR_RETURN(fs::path stored, parts_.artifacts->PathOf(found->sha256));
    std::error_code error;
    artifact = storage::ArtifactStore::Artifact{found->sha256, static_cast<int64_t>(fs::file_size(stored, error))};
  } else {
    artifact = parts_.artifacts->AdoptFile(found->file);
    TANDEM_RETURN_IF_ERROR(artifact.status());
    found->file.clear();
    found->sha256 = artifact->sha256;
    parts_.accounting->Note(
        accounting::ModelEntry(folder.name, number, {.disk_written_bytes = static_cast<double>(artifact->bytes)}));
  }
  version.sha256 = artifact->sha256;
  version.bytes = artifact->bytes;
  TANDEM_ASSIGN_OR_RETURN(fs::path kept, parts_.artifacts->PathOf(version.sha256));
  TANDEM_ASSIGN_OR_RETURN(std::string_view format, engine::FormatOf(kept));
  version.format = format;
  absl::StatusOr<registry::Version> former = parts_.registry->GetVersion(folder.name, number);
  if (absl::IsNotFound(former.status())) {
    *changed = true;
    return parts_.registry->AddNumberedVersion(std::move(version)).status();
  }
  TANDEM_RETURN_IF_ERROR(former.status());
  if (former->sha256 == version.sha256 && former->source == version.source) return absl::OkStatus();
  if (!former->source.starts_with(kRepositorySource)) {
    return FailedPrecondition("model '", folder.name, "' has a version ", number, " already (", former->source,
                              "); give the folder '", folder.versions.at(number).path.string(), "' another number");
  }
  *changed = true;
  return parts_.registry->ReplaceVersion(std::move(version)).status();
}

absl::Status RepositoryUpdate::SetConfig(const ModelFolder& folder, const FolderConfig& config, bool* changed) {
  TANDEM_ASSIGN_OR_RETURN(registry::Model model, parts_.registry->Get(folder.name));
  const std::string text = spec::ToYaml(config.config);
  if (!model.config.empty()) {
    for (const wire::ModelEvent& event : parts_.registry->Events(folder.name)) {
      if (event.kind() != "config" || event.who() != kWho) continue;
      if (event.detail() == text) return absl::OkStatus();
      break;
    }
  }
  *changed = *changed || model.config != text;
  return parts_.registry->SetConfig(folder.name, text, kWho, StrCat("as '", folder.path.string(), "' says"));
}

void RepositoryUpdate::TakeOut(const std::string& name, const std::map<int32_t, VersionFolder>& present,
                               UpdateResult* result) {
  absl::StatusOr<registry::Model> model = parts_.registry->Get(name);
  if (!model.ok()) return;
  for (const registry::Version& version : model->versions) {
    if (version.source != SourceOf(name, version.version) || present.contains(version.version)) continue;
    absl::Status removed;
    if (version.wanted) removed = parts_.registry->SetWanted(name, version.version, false);
    if (removed.ok()) removed = parts_.remove(name, version.version);
    if (removed.ok()) {
      result->changed = true;
      Log(LogLevel::kInfo, "a version was taken out of the repository",
          {{"model", name}, {"version", version.version}});
      continue;
    }
    result->versions[version.version] =
        Annotate(removed, "its folder is gone from the repository, but it stays in service");
  }
}

UpdateResult RepositoryUpdate::Forget(const std::string& name) {
  UpdateResult result;
  TakeOut(name, {}, &result);
  Remember(name, {});
  return result;
}

UpdateResult RepositoryUpdate::Update(const ModelFolder& folder) {
  UpdateResult result;
  result.problem = CheckOwner(folder);
  if (!result.problem.ok()) return result;
  if (folder.versions.empty()) {
    TakeOut(folder.name, {}, &result);
    result.problem = InvalidArgument("'", folder.path.string(), "' has no folder of a version; put the model into '",
                                     (folder.path / "1").string(), "'");
    return result;
  }
  absl::StatusOr<FolderConfig> config = ReadFolderConfig(folder, parts_.has_engine);
  result.problem = config.status();
  if (!config.ok()) return result;
  FoundVersions all = FindAll(folder, *config, &result);
  absl::StatusOr<ModelFolder> now = ReadModelFolder(repository_, folder.name);
  if (!now.ok() || now->stamp != folder.stamp) {
    std::error_code error;
    for (const auto& [number, found] : all) {
      if (!found.file.empty()) fs::remove(found.file, error);
    }
    result.versions.clear();
    result.problem = Unavailable("'", folder.path.string(), "' changed while it was read; it is read again");
    return result;
  }
  // The newest first: by a policy of the latest ones, older ones then never come into service for a moment.
  for (auto found = all.rbegin(); found != all.rend(); ++found) {
    absl::Status registered = Register(folder, found->first, &found->second, &result.changed);
    if (!registered.ok()) result.versions[found->first] = registered;
  }
  std::erase_if(all, [&](const auto& entry) { return result.versions.contains(entry.first); });
  if (!all.empty()) result.problem = SetConfig(folder, *config, &result.changed);
  TakeOut(folder.name, folder.versions, &result);
  Remember(folder.name, std::move(all));
  if (!config->warnings.empty()) {
    Log(LogLevel::kWarning, "parts of a model's configuration have no effect here",
        {{"model", folder.name}, {"what", absl::StrJoin(config->warnings, "; ")}});
  }
  return result;
}

void RepositoryUpdate::ReadMemory() {
  absl::StatusOr<std::string> text = ReadFile(memory_file_);
  if (!text.ok()) return;
  absl::Status read = CatchToStatus(memory_file_.string(), [&] {
    json root = json::parse(*text);
    if (root.at("format") != kMemoryFormat) return absl::OkStatus();
    for (const auto& [name, versions] : root.at("models").items()) {
      for (const json& one : versions) {
        memory_[name][one.at("version").get<int32_t>()] = {.stamp = one.at("stamp"),
                                                           .sha256 = one.at("sha256"),
                                                           .inputs = FromJson(one.at("inputs")),
                                                           .outputs = FromJson(one.at("outputs"))};
      }
    }
    return absl::OkStatus();
  });
  if (read.ok()) return;
  memory_.clear();
  Log(LogLevel::kWarning, "what was known of the model repository is lost; all of it is read again",
      {{"error", MessageOf(read)}});
}

void RepositoryUpdate::Remember(const std::string& name, FoundVersions all) {
  FoundVersions& former = memory_[name];
  unsaved_ = unsaved_ || !std::ranges::equal(former, all, [](const auto& a, const auto& b) {
               return a.first == b.first && a.second.stamp == b.second.stamp && a.second.sha256 == b.second.sha256;
             });
  former = std::move(all);
  if (former.empty()) memory_.erase(name);
}

void RepositoryUpdate::Save() {
  if (!unsaved_) return;
  unsaved_ = false;
  json models = json::object();
  for (const auto& [name, versions] : memory_) {
    json list = json::array();
    for (const auto& [number, found] : versions) {
      list.push_back({{"version", number},
                      {"stamp", found.stamp},
                      {"sha256", found.sha256},
                      {"inputs", ToJson(found.inputs)},
                      {"outputs", ToJson(found.outputs)}});
    }
    models[name] = std::move(list);
  }
  json root = {{"format", kMemoryFormat}, {"models", std::move(models)}};
  absl::Status written =
      WriteFileAtomically(memory_file_, root.dump(-1, ' ', false, json::error_handler_t::replace) + "\n");
  if (!written.ok()) {
    Log(LogLevel::kWarning, "what is known of the model repository could not be kept", {{"error", MessageOf(written)}});
  }
}

}  // namespace tandem::daemon
