#include "daemon/deployer.h"

#include <chrono>
#include <cstring>
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

Deployer::Deployer(registry::Registry* registry, ModelCatalog* catalog, serving::Serving* serving,
                   isolation::Isolation* isolation, std::string log_folder, std::function<void(int32_t job)> on_change)
    : registry_(registry),
      catalog_(catalog),
      serving_(serving),
      isolation_(isolation),
      log_folder_(std::move(log_folder)),
      on_change_(std::move(on_change)),
      thread_([this] { Work(); }) {}

Deployer::~Deployer() {
  Stop();
  thread_.join();
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
  for (const registry::Model& model : registry_->List()) {
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
    TANDEM_RETURN_IF_ERROR(catalog_->LoadCandidate(version.model, version.version));
    TANDEM_ASSIGN_OR_RETURN(Verdict verdict, Judge(version, rule));
    return Conclude(version, rule, verdict);
  }();
  bool stopping, kept = true;
  {
    std::lock_guard lock(mutex_);
    stopping = stop_;
  }
  if (!done.ok() && !stopping) {
    Log(LogLevel::kError, "a version was not deployed",
        {{"model", version.model}, {"version", version.version}, {"error", MessageOf(done)}});
    absl::Status written = registry_->SetDeploy(version.model, version.version, "failed", MessageOf(done));
    if (!written.ok()) Log(LogLevel::kError, "the registry could not be written", {{"error", MessageOf(written)}});
    kept = written.ok();
  }
  if (candidate) catalog_->DropCandidate(version.model, version.version);
  on_change_(version.job);
  return kept;
}

absl::StatusOr<Verdict> Deployer::Judge(const registry::Version& version, const DeployRule& rule) {
  TANDEM_ASSIGN_OR_RETURN(registry::Model model, registry_->Get(version.model));
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
  if (versions.size() == 2) TANDEM_RETURN_IF_ERROR(serving_->WaitUntilReady(version.model, rival->second, 60));

  TANDEM_ASSIGN_OR_RETURN(auto metrics, Evaluate(version, rule, versions));
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
  TANDEM_RETURN_IF_ERROR(registry_->SetMetrics(version.model, version.version, record.dump()));

  if (is_number) return Compare(rule, candidate, bound, "the bound");
  if (versions.size() == 1) return Compare(rule, candidate, std::nullopt, rule.better_than);
  TANDEM_ASSIGN_OR_RETURN(double baseline, value(rival->second));
  return Compare(rule, candidate, baseline, StrCat(rule.better_than, ", version ", rival->second));
}

absl::StatusOr<std::map<int32_t, std::map<std::string, double>>> Deployer::Evaluate(
    const registry::Version& version, const DeployRule& rule, const std::vector<int32_t>& versions) {
  wire::Assignment assignment;
  assignment.set_job(version.job);
  assignment.set_kind("evaluate");
  TANDEM_ASSIGN_OR_RETURN(*assignment.mutable_dataset(), registry_->GetDataset(rule.dataset));
  assignment.set_split("val");
  assignment.set_batch(32);
  assignment.set_threads(1);
  for (int32_t number : versions) assignment.add_versions(StrCat(number));

  std::mutex mutex;
  std::condition_variable ended;
  std::optional<JobOutcome> outcome;
  JobHooks hooks;
  hooks.on_eval_batch = [&](const wire::EvalBatch& batch) { return RunBatch(version.model, batch); };
  hooks.on_end = [&](const JobOutcome& end) {
    std::lock_guard lock(mutex);
    outcome = end;
    ended.notify_all();
  };
  std::string log = StrCat(log_folder_, "/evaluate-", version.model, "-", version.version, ".log");
  TANDEM_ASSIGN_OR_RETURN(auto runner, JobRunner::Start(assignment, isolation_, {}, log, hooks));
  {
    std::unique_lock lock(mutex);
    while (!ended.wait_for(lock, std::chrono::milliseconds(100), [&] { return outcome.has_value(); })) {
      std::lock_guard own(mutex_);
      if (stop_) break;
    }
  }
  runner.reset();  // kills it if the daemon stops
  if (outcome->kind != JobOutcome::Kind::kFinished) return Internal("evaluation: ", outcome->error);
  std::map<int32_t, std::map<std::string, double>> metrics;
  for (int32_t number : versions) {
    auto found = outcome->finished.versions().find(StrCat(number));
    if (found == outcome->finished.versions().end()) return Internal("evaluation: no answer for version ", number);
    metrics[number] = std::map<std::string, double>(found->second.metrics().begin(), found->second.metrics().end());
  }
  return metrics;
}

wire::EvalAnswer Deployer::RunBatch(const std::string& model, const wire::EvalBatch& batch) {
  wire::EvalAnswer answer;
  absl::Status ran = [&]() -> absl::Status {
    TANDEM_ASSIGN_OR_RETURN(serving::ModelHandle handle, serving_->Find(model, batch.version()));
    if (handle->inputs().size() != 1)
      return InvalidArgument("evaluation needs a model of one input, this has ", handle->inputs().size());
    AlignedBuffer data(batch.data().size());
    memcpy(data.data(), batch.data().data(), batch.data().size());
    engine::InputView view{DType::kFloat32, Shape(batch.shape().begin(), batch.shape().end()), data.data(),
                           data.size()};
    std::vector<Tensor> outputs;
    TANDEM_RETURN_IF_ERROR(handle->RunInBackground({{handle->inputs()[0].name, view}}, &outputs));
    if (outputs.empty() || outputs[0].dtype != DType::kFloat32)
      return InvalidArgument("the model's first output is not float32");
    for (int64_t dim : outputs[0].shape) answer.add_shape(dim);
    answer.set_logits(std::string(outputs[0].bytes()));
    return absl::OkStatus();
  }();
  if (!ran.ok()) answer.set_error(std::string(MessageOf(ran)));
  return answer;
}

absl::Status Deployer::Conclude(const registry::Version& version, const DeployRule& rule, const Verdict& verdict) {
  std::string who = StrCat("job ", version.job);
  std::string lacking;
  if (verdict.promote && rule.alias == "champion") {
    TANDEM_ASSIGN_OR_RETURN(lacking, catalog_->ApprovalLacking(version.model, version.version));
  }
  if (!lacking.empty()) {
    TANDEM_RETURN_IF_ERROR(
        catalog_->MoveAlias(version.model, "challenger", version.version, who, verdict.reason + "; not approved yet"));
    TANDEM_RETURN_IF_ERROR(registry_->SetApproval(version.model, version.version, "pending", who, verdict.reason));
    return registry_->SetDeploy(version.model, version.version, "awaiting_approval",
                                StrCat(verdict.reason, "; ", lacking));
  }
  std::string alias = verdict.promote ? rule.alias : "challenger";
  TANDEM_RETURN_IF_ERROR(catalog_->MoveAlias(version.model, alias, version.version, who, verdict.reason));
  return registry_->SetDeploy(version.model, version.version, verdict.promote ? "promoted" : "kept", verdict.reason);
}

}  // namespace tandem::daemon
