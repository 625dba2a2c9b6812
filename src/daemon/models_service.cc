#include "daemon/models_service.h"

#include <filesystem>
#include <shared_mutex>
#include <system_error>

#include "absl/strings/strip.h"
#include "base/status.h"
#include "base/text.h"
#include "daemon/model_join.h"
#include "daemon/wire_metrics.h"
#include "spec/model_config.h"
#include "spec/train_spec.h"

namespace tandem::daemon {
namespace {

constexpr double kReadyTimeoutSeconds = 660;

void AddSignature(const std::vector<TensorSignature>& from, google::protobuf::RepeatedPtrField<wire::TensorInfo>* to) {
  for (const TensorSignature& signature : from) {
    wire::TensorInfo* info = to->Add();
    info->set_name(signature.name);
    info->set_datatype(std::string(ProtocolName(signature.dtype)));
    for (int64_t dim : signature.shape) info->add_shape(static_cast<int32_t>(dim));
  }
}

// What lies in the repository is served as long as it lies there: forgetting it by hand would leave the two at odds.
absl::Status CheckNotInRepository(const registry::Model& model, int32_t version) {
  for (const registry::Version& each : model.versions) {
    if ((version != 0 && each.version != version) || !each.source.starts_with(kRepositorySource)) continue;
    const std::string folder = each.source.substr(kRepositorySource.size());
    std::error_code error;
    if (!std::filesystem::exists(folder, error)) continue;
    return FailedPrecondition("model '", model.name, "' version ", each.version,
                              " is in the model repository; remove its folder '", folder, "' instead");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<wire::ModelVersion> ModelsService::Import(const api::Caller& caller, std::string_view name,
                                                         std::string_view source, std::string_view precision,
                                                         const std::string& file_with_bytes) {
  TANDEM_RETURN_IF_ERROR(CheckName("model name", name));
  TANDEM_RETURN_IF_ERROR(spec::CheckServedPrecision(precision));
  TANDEM_RETURN_IF_ERROR(housekeeper_->CheckArea("serving"));
  absl::StatusOr<JoinedModel> joined = JoinModel(children_, paths_, file_with_bytes);
  if (!joined.ok()) {
    // The child names the file that it read: the server's own copy, which means nothing to the caller.
    absl::string_view why = AbslView(MessageOf(joined.status()));
    absl::ConsumePrefix(&why, StrCat("model '", file_with_bytes, "': "));
    return absl::Status(joined.status().code(), StrCat("import of '", source, "': ", StdView(why)));
  }
  std::shared_lock recording(artifacts_->record_mutex());
  TANDEM_ASSIGN_OR_RETURN(storage::ArtifactStore::Artifact artifact, artifacts_->AdoptFile(joined->file));
  registry::Version version;
  version.model = name;
  version.sha256 = artifact.sha256;
  version.bytes = artifact.bytes;
  version.format = joined->format;
  version.precision = precision;
  version.source = StrCat("import ", source);
  version.created_by = caller.name;
  TANDEM_ASSIGN_OR_RETURN(version, registry_->AddVersion(std::move(version)));
  accounting_->Note(accounting::ModelEntry(version.model, version.version,
                                           {.disk_written_bytes = static_cast<double>(artifact.bytes)}));
  catalog_->Sync(version.model);  // its configuration may want it served at once
  return ShowVersion(version.model, version.version);
}

wire::ModelList ModelsService::List() {
  wire::ModelList list;
  std::vector<serving::VersionStatus> loaded = serving_->States();
  for (const registry::Model& model : registry_->List()) *list.add_models() = ToWire(model, loaded);
  return list;
}

absl::StatusOr<wire::Model> ModelsService::Show(std::string_view name) {
  TANDEM_ASSIGN_OR_RETURN(registry::Model model, registry_->Get(name));
  wire::Model out = ToWire(model, serving_->States());
  for (wire::ModelEvent& event : registry_->Events(model.name)) *out.add_events() = std::move(event);
  return out;
}

absl::StatusOr<wire::ModelVersion> ModelsService::Deploy(const api::Caller& caller,
                                                         const wire::DeployRequest& request) {
  TANDEM_ASSIGN_OR_RETURN(registry::Model model, registry_->Get(request.model()));
  registry::Version version;
  if (request.alias().empty() && request.version() == 0) {
    version = model.versions.back();  // the newest: what was just made or imported
  } else {
    TANDEM_ASSIGN_OR_RETURN(version, registry_->Resolve(request.model(), request.alias(), request.version()));
  }
  TANDEM_RETURN_IF_ERROR(PutInService(version.model, "champion", version.version, caller.name,
                                      request.why().empty() ? "deployed by hand" : request.why()));
  return ShowVersion(version.model, version.version);
}

absl::StatusOr<wire::ModelVersion> ModelsService::RollBack(const api::Caller& caller, std::string_view model) {
  const std::string name(model);
  TANDEM_ASSIGN_OR_RETURN(int32_t version, registry_->FindRollBack(name, "champion"));
  TANDEM_RETURN_IF_ERROR(LoadThenMove(name, version, [&]() -> absl::Status {
    TANDEM_ASSIGN_OR_RETURN(version, registry_->RollBack(name, "champion", caller.name));
    return absl::OkStatus();
  }));
  // It is ready, unless champion moved while it was loaded, and went back to another one.
  TANDEM_RETURN_IF_ERROR(serving_->WaitUntilReady(name, version, kReadyTimeoutSeconds));
  return ShowVersion(name, version);
}

absl::StatusOr<wire::ModelVersion> ModelsService::Measure(const api::Caller&, const wire::MeasureRequest& request) {
  TANDEM_ASSIGN_OR_RETURN(registry::Version version, registry_->Resolve(request.model(), "", request.version()));
  TANDEM_RETURN_IF_ERROR(choice_->Measure(version.model, version.version));
  return ShowVersion(version.model, version.version);
}

absl::Status ModelsService::SetAlias(const api::Caller& caller, const wire::SetAliasRequest& request) {
  TANDEM_RETURN_IF_ERROR(CheckName("alias", request.alias()));
  return catalog_->MoveAlias(request.model(), request.alias(), request.version(), caller.name,
                             request.why().empty() ? "set by hand" : request.why());
}

absl::StatusOr<std::string> ModelsService::FileOf(std::string_view model, std::string_view alias, int32_t version) {
  TANDEM_ASSIGN_OR_RETURN(registry::Version found, registry_->Resolve(model, alias, version));
  TANDEM_ASSIGN_OR_RETURN(std::filesystem::path path, artifacts_->PathOf(found.sha256));
  return path.string();
}

absl::Status ModelsService::CheckNoJobUses(std::string_view model, int32_t version) const {
  for (const jobs::JobRecord& record : jobs_->List()) {
    if (jobs::IsEnd(record.state)) continue;
    absl::StatusOr<spec::TrainSpec> spec = spec::ParseTrainSpec(record.spec, "job");
    if (!spec.ok() || spec->model.from.empty()) continue;
    absl::StatusOr<spec::ModelRef> ref = spec::ParseModelRef(spec->model.from);
    if (ref.ok() && ref->name == model && (version == 0 || ref->version == version)) {
      return FailedPrecondition("model '", model, "' version ", ref->version, " is in use: job ", record.id,
                                " starts from it; wait for the job, or cancel it");
    }
  }
  return absl::OkStatus();
}

absl::Status ModelsService::Delete(const api::Caller&, std::string_view model, int32_t version) {
  TANDEM_RETURN_IF_ERROR(CheckNoJobUses(model, version));
  if (repository_ != nullptr) {
    TANDEM_ASSIGN_OR_RETURN(registry::Model record, registry_->Get(model));
    TANDEM_RETURN_IF_ERROR(CheckNotInRepository(record, version));
  }
  TANDEM_RETURN_IF_ERROR(version == 0 ? registry_->DeleteModel(model) : registry_->DeleteVersion(model, version));
  catalog_->Sync(std::string(model));
  return absl::OkStatus();
}

absl::Status ModelsService::SetEnabled(const api::Caller&, std::string_view name, bool enabled) {
  if (enabled && repository_ != nullptr) {
    TANDEM_ASSIGN_OR_RETURN(bool loaded, repository_->Load(name));
    if (loaded) return absl::OkStatus();
  }
  TANDEM_ASSIGN_OR_RETURN(registry::Model model, registry_->Get(name));
  TANDEM_RETURN_IF_ERROR(registry_->SetEnabled(name, enabled));
  TANDEM_ASSIGN_OR_RETURN(registry::Version version, registry_->Resolve(name, "", 0));
  if (enabled && model.aliases.empty()) TANDEM_RETURN_IF_ERROR(registry_->SetWanted(name, version.version, true));
  if (enabled && version.quarantined)
    TANDEM_RETURN_IF_ERROR(registry_->SetQuarantine(name, version.version, false, ""));
  catalog_->Sync(std::string(name));
  return enabled ? serving_->WaitUntilReady(name, version.version, kReadyTimeoutSeconds) : absl::OkStatus();
}

absl::StatusOr<wire::ModelVersion> ModelsService::ShowVersion(const std::string& name, int32_t version) const {
  TANDEM_ASSIGN_OR_RETURN(registry::Model model, registry_->Get(name));
  TANDEM_ASSIGN_OR_RETURN(registry::Version record, registry_->GetVersion(name, version));
  return ToWire(model, record, serving_->States());
}

wire::Model ModelsService::ToWire(const registry::Model& model,
                                  const std::vector<serving::VersionStatus>& loaded) const {
  wire::Model out;
  out.set_name(model.name);
  out.set_created_ms(static_cast<double>(model.created_ms));
  for (const auto& [alias, version] : model.aliases) (*out.mutable_aliases())[alias] = version;
  for (const registry::Version& version : model.versions) *out.add_versions() = ToWire(model, version, loaded);
  for (wire::AliasMove& move : registry_->History(model.name)) *out.add_history() = std::move(move);
  out.set_config(model.config);
  if (model.split.canary != 0 || model.split.shadow != 0) *out.mutable_split() = SplitToWire(model);
  return out;
}

wire::ModelVersion ModelsService::ToWire(const registry::Model& model, const registry::Version& version,
                                         const std::vector<serving::VersionStatus>& loaded) const {
  wire::ModelVersion out;
  out.set_model(version.model);
  out.set_version(version.version);
  auto [state, reason] = catalog_->StateOf(model, version, loaded);
  out.set_state(state);
  out.set_reason(reason);
  out.set_sha256(version.sha256);
  out.set_bytes(static_cast<double>(version.bytes));
  out.set_created_ms(static_cast<double>(version.created_ms));
  out.set_source(version.source);
  out.set_job(version.job);
  out.set_created_by(version.created_by);
  out.set_precision(version.precision);
  out.set_deploy(version.deploy);
  out.set_deploy_reason(version.deploy_reason);
  out.set_approval(version.approval);
  out.set_approval_who(version.approval_who);
  out.set_approval_comment(version.approval_comment);
  out.set_approval_ms(static_cast<double>(version.approval_ms));
  out.set_engine_report(version.engine_report);
  out.set_format(version.format);
  FillMetrics(version.metrics_json, out.mutable_metrics());
  for (const auto& [alias, number] : model.aliases) {
    if (number == version.version) out.add_aliases(alias);
  }
  absl::StatusOr<serving::ModelHandle> handle = serving_->Find(version.model, StrCat(version.version));
  if (handle.ok()) {
    out.set_engine((*handle)->engine());
    AddSignature((*handle)->inputs(), out.mutable_inputs());
    AddSignature((*handle)->outputs(), out.mutable_outputs());
  }
  return out;
}

}  // namespace tandem::daemon
