#include "daemon/deployer.h"

#include <chrono>
#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "base/background_class.h"
#include "base/status.h"
#include "telemetry/log.h"

namespace tandem::daemon {
namespace {

constexpr auto kUnwrittenPause = std::chrono::seconds(5);

bool HigherIsBetter(std::string_view metric) { return metric != "loss"; }

std::string Number(double value) { return absl::StrFormat("%.4f", value); }

}  // namespace

std::string ToJson(const DeployRule& rule) {
  nlohmann::json json = {{"alias", rule.alias},
                         {"conditional", rule.conditional},
                         {"metric", rule.metric},
                         {"better_than", rule.better_than},
                         {"dataset", rule.dataset}};
  return json.dump();
}

absl::StatusOr<DeployRule> DeployRuleFromJson(std::string_view text) {
  return CatchToStatus("deploy rule", [&]() -> absl::StatusOr<DeployRule> {
    nlohmann::json json = nlohmann::json::parse(text);
    DeployRule rule;
    rule.alias = json.at("alias");
    rule.conditional = json.at("conditional");
    rule.metric = json.at("metric");
    rule.better_than = json.at("better_than");
    rule.dataset = json.at("dataset");
    return rule;
  });
}

Verdict Compare(const DeployRule& rule, double candidate, std::optional<double> baseline,
                std::string_view baseline_name) {
  if (!baseline)
    return {true, StrCat("there is no ", baseline_name, " to beat; ", rule.metric, " ", Number(candidate))};
  // A NaN on either side compares false: it never promotes.
  bool better = HigherIsBetter(rule.metric) ? candidate > *baseline : candidate < *baseline;
  std::string_view relation = better ? "is better than" : candidate == *baseline ? "ties with" : "is not better than";
  return {better, StrCat(rule.metric, " ", Number(candidate), " ", relation, " ", Number(*baseline), " (",
                         baseline_name, "), on the validation split")};
}

Deployer::Deployer(DeployerParts parts) : parts_(std::move(parts)), thread_([this] { Work(); }) {}

Deployer::~Deployer() { StopAndTellHang(); }

bool Deployer::StopAndTellHang() {
  Stop();
  if (thread_.joinable()) thread_.join();
  return *left_behind_ > 0;
}

bool Deployer::stopping() {
  std::lock_guard lock(mutex_);
  return stop_;
}

void Deployer::Notify() {
  std::lock_guard lock(mutex_);
  work_ = true;
  wake_.notify_all();
}

void Deployer::Stop() {
  std::lock_guard lock(mutex_);
  stop_ = true;
  wake_.notify_all();
}

void Deployer::Work() {
  EnterBackgroundClass();
  while (true) {
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return work_ || stop_; });
      if (stop_) return;
      work_ = false;
    }
    while (std::optional<registry::Version> version = NextPending()) {
      const bool kept = Deploy(*version);
      std::unique_lock lock(mutex_);
      // Nothing is judged again and again while the registry cannot be written.
      if (!kept) wake_.wait_for(lock, kUnwrittenPause, [&] { return stop_; });
      if (stop_) return;
    }
  }
}

std::optional<registry::Version> Deployer::NextPending() {
  for (const registry::Model& model : parts_.registry->List()) {
    for (const registry::Version& version : model.versions) {
      if (version.deploy == "pending") return version;
    }
  }
  return std::nullopt;
}

bool Deployer::Deploy(const registry::Version& version) {
  bool candidate = false;
  absl::Status done = [&]() -> absl::Status {
    TANDEM_ASSIGN_OR_RETURN(DeployRule rule, DeployRuleFromJson(version.promote_json));
    candidate = true;
    TANDEM_RETURN_IF_ERROR(parts_.catalog->LoadCandidate(version.model, version.version));
    TANDEM_ASSIGN_OR_RETURN(Verdict verdict, Judge(version, rule));
    return Conclude(version, rule, verdict);
  }();
  bool kept = true;
  if (!done.ok() && !stopping()) {
    Log(LogLevel::kError, "a version was not deployed",
        {{"model", version.model}, {"version", version.version}, {"error", MessageOf(done)}});
    absl::Status written = parts_.registry->SetDeploy(version.model, version.version, "failed", MessageOf(done));
    if (!written.ok()) Log(LogLevel::kError, "the registry could not be written", {{"error", MessageOf(written)}});
    kept = written.ok();
  }
  if (candidate) parts_.catalog->DropCandidate(version.model, version.version);
  parts_.on_change(version.job);
  return kept;
}

absl::StatusOr<Verdict> Deployer::Judge(const registry::Version& version, const DeployRule& rule) {
  TANDEM_ASSIGN_OR_RETURN(registry::Model model, parts_.registry->Get(version.model));
  auto alias = model.aliases.find(rule.alias);
  if (alias != model.aliases.end() && alias->second == version.version) {
    return Verdict{true, "it was promoted before the server ended"};
  }
  if (!rule.conditional) return Verdict{true, "the job asks for no comparison"};

  double bound = 0;
  bool is_number = absl::SimpleAtod(rule.better_than, &bound);
  auto rival = model.aliases.find(rule.better_than);
  std::vector<int32_t> versions = {version.version};
  if (!is_number && rival != model.aliases.end()) versions.push_back(rival->second);
  if (versions.size() == 2) TANDEM_RETURN_IF_ERROR(parts_.serving->WaitUntilReady(version.model, rival->second, 60));

  absl::StatusOr<VersionMetrics> evaluated = Evaluate(model, version, rule, versions);
  if (absl::IsDeadlineExceeded(evaluated.status())) {
    return Verdict{false, StrCat("not compared: ", MessageOf(evaluated.status()), "; 'tandem models deploy ",
                                 version.model, "/", version.version, "' lets it serve all the same")};
  }
  TANDEM_ASSIGN_OR_RETURN(VersionMetrics metrics, std::move(evaluated));
  auto value = [&](int32_t number) -> absl::StatusOr<double> {
    const auto& of = metrics[number];
    auto found = of.find(rule.metric);
    if (found == of.end())
      return InvalidArgument("promote_if: the evaluation has no metric '", rule.metric, "'; it has accuracy and loss");
    return found->second;
  };
  TANDEM_ASSIGN_OR_RETURN(double candidate, value(version.version));
  nlohmann::json record = nlohmann::json::parse(version.metrics_json, nullptr, false);
  if (record.is_discarded() || !record.is_object()) record = nlohmann::json::object();
  for (const auto& [name, number] : metrics[version.version]) record["served_" + name] = number;
  TANDEM_RETURN_IF_ERROR(parts_.registry->SetMetrics(version.model, version.version, record.dump()));

  if (is_number) return Compare(rule, candidate, bound, "the bound");
  if (versions.size() == 1) return Compare(rule, candidate, std::nullopt, rule.better_than);
  TANDEM_ASSIGN_OR_RETURN(double baseline, value(rival->second));
  return Compare(rule, candidate, baseline, StrCat(rule.better_than, ", version ", rival->second));
}

absl::StatusOr<VersionMetrics> Deployer::Evaluate(const registry::Model& model, const registry::Version& version,
                                                  const DeployRule& rule, const std::vector<int32_t>& versions) {
  TANDEM_ASSIGN_OR_RETURN(wire::Dataset dataset, parts_.registry->GetDataset(rule.dataset));
  return EvaluateVersions(
      {.serving = parts_.serving,
       .isolation = parts_.isolation,
       .stopped = [this] { return stopping(); },
       .left_behind = left_behind_},
      {.model = version.model,
       .versions = versions,
       .job = version.job,
       .dataset = std::move(dataset),
       .log_file = StrCat(parts_.log_folder, "/evaluate-", version.model, "-", version.version, ".log"),
       .patience_s = parts_.patience_s + ConfigOf(model).run_timeout_s});
}

absl::Status Deployer::Conclude(const registry::Version& version, const DeployRule& rule, const Verdict& verdict) {
  std::string who = StrCat("job ", version.job);
  std::string lacking;
  if (verdict.promote && rule.alias == "champion") {
    TANDEM_ASSIGN_OR_RETURN(lacking, parts_.catalog->ApprovalLacking(version.model, version.version));
  }
  if (!lacking.empty()) {
    TANDEM_RETURN_IF_ERROR(parts_.catalog->MoveAlias(version.model, "challenger", version.version, who,
                                                     verdict.reason + "; not approved yet"));
    TANDEM_RETURN_IF_ERROR(
        parts_.registry->SetApproval(version.model, version.version, "pending", who, verdict.reason));
    return parts_.registry->SetDeploy(version.model, version.version, "awaiting_approval",
                                      StrCat(verdict.reason, "; ", lacking));
  }
  std::string alias = verdict.promote ? rule.alias : "challenger";
  TANDEM_RETURN_IF_ERROR(parts_.catalog->MoveAlias(version.model, alias, version.version, who, verdict.reason));
  return parts_.registry->SetDeploy(version.model, version.version, verdict.promote ? "promoted" : "kept",
                                    verdict.reason);
}

}  // namespace tandem::daemon
