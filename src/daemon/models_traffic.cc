// ModelsService: which version the requests of a model get, and how it is served.
#include <algorithm>

#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "base/status.h"
#include "base/text.h"
#include "daemon/models_service.h"
#include "engine/engine.h"
#include "telemetry/log.h"

namespace tandem::daemon {
namespace {

using registry::SplitPart;

constexpr double kReadyTimeoutSeconds = 660;
constexpr std::string_view kChampion = "champion";
// Threads of a model for each usable CPU. Above one, for runs may wait for something else than a CPU; far above it they
// only take turns, and memory.
constexpr int kMostThreadsPerCpu = 8;

std::string SignatureText(const TensorSignature& signature) {
  return StrCat("'", signature.name, "' ", ProtocolName(signature.dtype), " ", ToString(signature.shape));
}

// What differs first: "input 'x' FP32 [-1,4] of version 3 where version 2 has ...".
absl::Status CheckSame(std::string_view what, const std::vector<TensorSignature>& champion,
                       const std::vector<TensorSignature>& other) {
  for (size_t i = 0; i < std::max(champion.size(), other.size()); ++i) {
    std::string mine = i < champion.size() ? SignatureText(champion[i]) : "nothing";
    std::string its = i < other.size() ? SignatureText(other[i]) : "nothing";
    if (mine != its) return FailedPrecondition("its ", what, " ", i, " is ", its, ", champion's is ", mine);
  }
  return absl::OkStatus();
}

absl::Status CheckInterchangeable(const serving::LoadedVersion& champion, const serving::LoadedVersion& other) {
  absl::Status same = CheckSame("input", champion.inputs(), other.inputs());
  if (same.ok()) same = CheckSame("output", champion.outputs(), other.outputs());
  return Annotate(same,
                  StrCat("version ", other.version(), " cannot stand in for champion, version ", champion.version()));
}

// Labels of an output that no version in service has would never be seen. While none is in service nothing is known.
absl::Status CheckLabels(std::string_view source, std::string_view model, const spec::ModelConfig& config,
                         const serving::Serving& serving) {
  std::vector<std::string> versions, outputs;
  for (int32_t version : serving.ReadyVersions(model)) {
    absl::StatusOr<serving::ModelHandle> handle = serving.Find(model, StrCat(version));
    if (!handle.ok()) continue;  // it went meanwhile
    versions.push_back(StrCat(version));
    for (const TensorSignature& output : (*handle)->outputs()) {
      if (std::ranges::find(outputs, output.name) == outputs.end()) outputs.push_back(output.name);
    }
  }
  if (versions.empty()) return absl::OkStatus();
  for (const auto& [output, names] : config.labels) {
    if (std::ranges::find(outputs, output) != outputs.end()) continue;
    return InvalidArgument(source, ": labels names the output '", output, "', which no version in service has (",
                           absl::StrJoin(versions, ", "), "); there is ", absl::StrJoin(outputs, ", "),
                           "; rename it, or take it out of labels", DidYouMean(output, outputs));
  }
  return absl::OkStatus();
}

// More threads than the CPUs could ever run well, of one model.
absl::Status CheckThreads(std::string_view source, const spec::ModelConfig& config, int usable_cpus) {
  const int most = kMostThreadsPerCpu * usable_cpus;
  const std::string there =
      StrCat("there are ", usable_cpus, " usable CPUs, for which at most ", most, " threads of one model are taken");
  if (config.threads > most) {
    return InvalidArgument(source, ": threads is ", config.threads, ", but ", there, "; give ", usable_cpus,
                           " or less");
  }
  for (auto [field, instances] :
       {std::pair("instances", config.instances), std::pair("max_instances", config.max_instances)}) {
    if (instances * config.threads <= most) continue;
    return InvalidArgument(source, ": ", field, " is ", instances, " of ", config.threads,
                           config.threads == 1 ? " thread" : " threads", " each, but ", there, "; give ",
                           std::max(1, usable_cpus / config.threads), ", or 0 for as many as help");
  }
  return absl::OkStatus();
}

void Fill(const serving::CanarySide& side, wire::SplitSide* out) {
  out->set_version(side.version);
  out->set_requests(static_cast<double>(side.requests));
  out->set_failures(static_cast<double>(side.failures));
  out->set_p99_ms(side.p99_us / 1000);
}

void Fill(const serving::ShadowReport& report, wire::ShadowFigures* out) {
  out->set_champion(report.champion);
  out->set_shadow(report.shadow);
  out->set_seconds(report.seconds);
  out->set_equal(static_cast<double>(report.equal));
  out->set_different(static_cast<double>(report.different));
  out->set_failed(static_cast<double>(report.failed));
  out->set_dropped(static_cast<double>(report.dropped));
  out->set_rows(static_cast<double>(report.rows));
  out->set_same_class(static_cast<double>(report.same_class));
  out->set_max_absolute(report.max_absolute);
  out->set_max_relative(report.max_relative);
  out->set_problem(report.problem);
}

}  // namespace

absl::Status ModelsService::PutInService(const std::string& name, const std::string& alias, int32_t version,
                                         std::string_view who, std::string_view why) {
  if (alias == kChampion) {  // before the work of loading it
    TANDEM_ASSIGN_OR_RETURN(std::string lacking, catalog_->ApprovalLacking(name, version));
    if (!lacking.empty()) return FailedPrecondition(lacking);
  }
  return LoadThenMove(name, version, [&] { return catalog_->MoveAlias(name, alias, version, who, why); });
}

absl::Status ModelsService::LoadThenMove(const std::string& name, int32_t version,
                                         const std::function<absl::Status()>& move) {
  absl::Status done = catalog_->LoadCandidate(name, version);
  if (done.ok()) done = registry_->SetEnabled(name, true);
  if (done.ok()) done = move();
  catalog_->DropCandidate(name, version);
  return done;
}

absl::StatusOr<wire::ModelVersion> ModelsService::Promote(const api::Caller& caller,
                                                          const wire::PromoteRequest& request) {
  TANDEM_ASSIGN_OR_RETURN(registry::Model model, registry_->Get(request.model()));
  int32_t version = request.version() != 0 ? request.version() : model.split.canary;
  if (version == 0) {
    return InvalidArgument("model '", model.name, "' has no canary; say which version: tandem models promote ",
                           model.name, " VERSION");
  }
  TANDEM_RETURN_IF_ERROR(registry_->GetVersion(model.name, version).status());
  std::string why = request.why();
  if (why.empty()) why = version == model.split.canary ? "canary promoted" : "promoted by hand";
  TANDEM_RETURN_IF_ERROR(PutInService(model.name, std::string(kChampion), version, caller.name, why));
  return ShowVersion(model.name, version);
}

// ---- Canary and shadow

absl::StatusOr<wire::TrafficSplit> ModelsService::SetCanary(const api::Caller& caller,
                                                            const wire::SplitRequest& request) {
  return SetSplit(SplitPart::kCanary, caller, request);
}

absl::StatusOr<wire::TrafficSplit> ModelsService::SetShadow(const api::Caller& caller,
                                                            const wire::SplitRequest& request) {
  return SetSplit(SplitPart::kShadow, caller, request);
}

absl::StatusOr<wire::TrafficSplit> ModelsService::SetSplit(SplitPart part, const api::Caller& caller,
                                                           const wire::SplitRequest& request) {
  TANDEM_ASSIGN_OR_RETURN(registry::Model model, registry_->Get(request.model()));
  if (request.percent() == 0) {
    std::string text = request.why().empty() ? "ended" : StrCat("ended: ", request.why());
    TANDEM_RETURN_IF_ERROR(catalog_->EndSplit(part, model.name, request.version(), caller.name, text));
  } else {
    wire::SplitRequest wanted = request;
    if (wanted.version() == 0) {
      wanted.set_version(part == SplitPart::kCanary ? model.split.canary : model.split.shadow);
    }
    if (wanted.version() == 0) {
      return InvalidArgument("model '", model.name, "' has no ", registry::PartName(part),
                             "; say which version: tandem ", "models ", registry::PartName(part), " ", model.name,
                             " VERSION --percent ", request.percent());
    }
    TANDEM_RETURN_IF_ERROR(LoadBeside(part, model, wanted, caller.name));
  }
  TANDEM_ASSIGN_OR_RETURN(model, registry_->Get(request.model()));
  return SplitToWire(model);
}

absl::Status ModelsService::LoadBeside(SplitPart part, const registry::Model& model, const wire::SplitRequest& request,
                                       std::string_view who) {
  TANDEM_RETURN_IF_ERROR(registry::CheckSplit(model, part, request.version(), request.percent()));
  if (!model.enabled) {
    return FailedPrecondition("model '", model.name, "' is unloaded; put it into service first: tandem models deploy ",
                              model.name);
  }
  const int32_t champion = model.aliases.find(std::string(kChampion))->second;
  absl::Status started = [&]() -> absl::Status {
    TANDEM_RETURN_IF_ERROR(catalog_->LoadCandidate(model.name, request.version()));
    TANDEM_RETURN_IF_ERROR(
        Annotate(serving_->WaitUntilReady(model.name, champion, kReadyTimeoutSeconds), "the champion"));
    TANDEM_ASSIGN_OR_RETURN(serving::ModelHandle old_one, serving_->Find(model.name, StrCat(champion)));
    TANDEM_ASSIGN_OR_RETURN(serving::ModelHandle new_one, serving_->Find(model.name, StrCat(request.version())));
    TANDEM_RETURN_IF_ERROR(CheckInterchangeable(*old_one, *new_one));
    return catalog_->StartSplit(part, model.name, request.version(), request.percent(), who, request.why());
  }();
  catalog_->DropCandidate(model.name, request.version());
  return started;
}

wire::TrafficSplit ModelsService::SplitToWire(const registry::Model& model) const {
  wire::TrafficSplit out;
  out.set_canary(model.split.canary);
  out.set_canary_percent(model.split.canary_percent);
  out.set_canary_since_ms(static_cast<double>(model.split.canary_since_ms));
  out.set_shadow(model.split.shadow);
  out.set_shadow_percent(model.split.shadow_percent);
  out.set_shadow_since_ms(static_cast<double>(model.split.shadow_since_ms));
  absl::StatusOr<serving::CanaryReport> canary = serving_->ReadCanary(model.name);
  if (model.split.canary != 0 && canary.ok() && canary->canary.version == model.split.canary) {
    wire::CanaryFigures* now = out.mutable_canary_now();
    Fill(canary->champion, now->mutable_champion());
    Fill(canary->canary, now->mutable_canary());
    now->set_seconds(canary->seconds);
    now->set_problem(canary->problem);
  }
  absl::StatusOr<serving::ShadowReport> shadow = serving_->ReadShadow(model.name);
  if (model.split.shadow != 0 && shadow.ok() && shadow->shadow == model.split.shadow) {
    Fill(*shadow, out.mutable_shadow_now());
  }
  return out;
}

// ---- Approval

absl::StatusOr<wire::ModelVersion> ModelsService::Approve(const api::Caller& caller,
                                                          const wire::ApproveRequest& request, bool approved) {
  if (request.comment().empty()) return InvalidArgument("comment is missing; say why, for whoever reads it later");
  TANDEM_ASSIGN_OR_RETURN(registry::Version version, registry_->GetVersion(request.model(), request.version()));
  TANDEM_ASSIGN_OR_RETURN(std::string lacking, catalog_->ApprovalLacking(version.model, version.version));
  TANDEM_RETURN_IF_ERROR(registry_->SetApproval(version.model, version.version, approved ? "approved" : "rejected",
                                                caller.name, request.comment()));
  Log(LogLevel::kInfo, approved ? "version approved" : "version rejected",
      {{"model", version.model}, {"version", version.version}, {"who", caller.name}, {"comment", request.comment()}});
  if (version.deploy == "awaiting_approval") {
    TANDEM_RETURN_IF_ERROR(Decide(version, lacking, caller.name, request.comment(), approved));
  }
  return ShowVersion(version.model, version.version);
}

absl::Status ModelsService::Decide(const registry::Version& version, std::string_view lacking, std::string_view who,
                                   std::string_view comment, bool approved) {
  absl::string_view reason = AbslView(version.deploy_reason);
  absl::ConsumeSuffix(&reason, StrCat("; ", lacking));
  std::string word = StrCat(StdView(reason), approved ? "; approved by " : "; rejected by ", who,
                            comment.empty() ? "" : ": ", comment);
  if (approved) {
    TANDEM_RETURN_IF_ERROR(
        Annotate(PutInService(version.model, std::string(kChampion), version.version, who, word),
                 StrCat("the approval is kept, but version ", version.version, " could not be put into service")));
  }
  return registry_->SetDeploy(version.model, version.version, approved ? "promoted" : "kept", word);
}

// ---- Configuration

absl::StatusOr<wire::ServingConfig> ModelsService::Config(std::string_view name) {
  TANDEM_ASSIGN_OR_RETURN(registry::Model model, registry_->Get(name));
  wire::ServingConfig out;
  out.set_model(model.name);
  out.set_text(model.config);
  for (const wire::ModelEvent& event : registry_->Events(name)) {
    if (event.kind() != "config") continue;
    out.set_who(event.who());
    out.set_when_ms(event.when_ms());
    out.set_why(event.text());
    break;
  }
  return out;
}

absl::StatusOr<wire::ServingConfig> ModelsService::Configure(const api::Caller& caller,
                                                             const wire::ConfigureRequest& request) {
  std::lock_guard lock(configure_mutex_);
  TANDEM_ASSIGN_OR_RETURN(registry::Model model, registry_->Get(request.model()));
  const bool whole = !request.text().empty() || request.replace();
  if (!whole && request.overrides().empty()) {
    return InvalidArgument("nothing to configure: give the whole text, or overrides like max_batch_size=8");
  }
  std::string source = request.source();
  if (!whole || source.empty()) source = StrCat("configuration of '", model.name, "'");
  TANDEM_ASSIGN_OR_RETURN(spec::ModelConfig config,
                          spec::ParseModelConfig(whole ? request.text() : model.config, source,
                                                 {request.overrides().begin(), request.overrides().end()}));
  if (config.engine != "auto" && config.isolation == "thread") {
    TANDEM_RETURN_IF_ERROR(Annotate(engine::OpenEngine(config.engine).status(), StrCat(source, ": engine")));
  }
  TANDEM_RETURN_IF_ERROR(CheckThreads(source, config, usable_cpus_));
  TANDEM_RETURN_IF_ERROR(CheckLabels(source, model.name, config, *serving_));
  std::string text = spec::ToYaml(config);
  TANDEM_RETURN_IF_ERROR(registry_->SetConfig(model.name, text, caller.name, request.why()));
  Log(LogLevel::kInfo, "model configured", {{"model", model.name}, {"who", caller.name}, {"why", request.why()}});
  catalog_->Sync(model.name);
  for (int32_t version : serving_->ReadyVersions(model.name)) {
    TANDEM_RETURN_IF_ERROR(serving_->WaitUntilReady(model.name, version, kReadyTimeoutSeconds));
  }
  return Config(model.name);
}

}  // namespace tandem::daemon
