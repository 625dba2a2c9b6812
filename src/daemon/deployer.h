#pragma once
// The deploy rule: what happens to a version that a job made. Loads it beside what serves, evaluates both through the
// serving engine on the validation split, compares, promotes or keeps. A pending version is durable: after a crash the
// rule begins again.
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "daemon/job_runner.h"
#include "daemon/model_catalog.h"
#include "registry/registry.h"
#include "serving/serving.h"

namespace tandem::daemon {

// What a job asked for; stored with the pending version as JSON.
struct DeployRule {
  std::string alias = "champion";
  bool conditional = false;  // false: promote once it serves
  std::string metric = "accuracy";
  std::string better_than;  // a number or an alias
  std::string dataset;
};
std::string ToJson(const DeployRule& rule);
absl::StatusOr<DeployRule> DeployRuleFromJson(std::string_view json);

// The comparison alone. Pure. `baseline` is absent when the alias to beat does not exist.
struct Verdict {
  bool promote = false;
  std::string reason;
};
Verdict Compare(const DeployRule& rule, double candidate, std::optional<double> baseline,
                std::string_view baseline_name);

// Works on one version at a time, on a thread of its own. Notify is thread-safe.
class Deployer {
 public:
  // `on_change` is told the job of each version whose deploy state changed. All outlive this.
  Deployer(registry::Registry* registry, ModelCatalog* catalog, serving::Serving* serving,
           isolation::Isolation* isolation, std::string log_folder, std::function<void(int32_t job)> on_change);
  ~Deployer();

  // There may be a pending version.
  void Notify();
  // Lets the one in work end soon, unfinished; it stays pending.
  void Stop();

 private:
  void Work();
  std::optional<registry::Version> NextPending();
  // False: what became of it could not be written, and it is still pending.
  bool Deploy(const registry::Version& version);
  absl::StatusOr<Verdict> Judge(const registry::Version& version, const DeployRule& rule);
  // Metrics of each version on the rule's validation split, by version.
  absl::StatusOr<std::map<int32_t, std::map<std::string, double>>> Evaluate(const registry::Version& version,
                                                                            const DeployRule& rule,
                                                                            const std::vector<int32_t>& versions);
  wire::EvalAnswer RunBatch(const std::string& model, const wire::EvalBatch& batch);
  absl::Status Conclude(const registry::Version& version, const DeployRule& rule, const Verdict& verdict);

  registry::Registry* const registry_;
  ModelCatalog* const catalog_;
  serving::Serving* const serving_;
  isolation::Isolation* const isolation_;
  const std::string log_folder_;
  const std::function<void(int32_t)> on_change_;

  std::mutex mutex_;
  std::condition_variable wake_;
  bool work_ = true, stop_ = false;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace tandem::daemon
