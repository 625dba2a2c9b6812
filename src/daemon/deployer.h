#pragma once
// The deploy rule: what happens to a version that a job made. Loads it beside what serves, evaluates both through the
// serving engine on the validation split, compares, promotes or keeps. A pending version is durable: after a crash the
// rule begins again.
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/evaluation.h"
#include "daemon/model_catalog.h"
#include "isolation/isolation.h"
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

// All outlive the deployer.
struct DeployerParts {
  registry::Registry* registry;
  ModelCatalog* catalog;
  serving::Serving* serving;
  isolation::Isolation* isolation;
  std::string log_folder;
  // How long an evaluation may go without a batch asked for or answered; the model's run_timeout_s comes on top.
  double patience_s = 600;
  std::function<void(int32_t job)> on_change;  // is told the job of each version whose deploy state changed
};

// Works on one version at a time, on a thread of its own. Notify is thread-safe.
class Deployer {
 public:
  explicit Deployer(DeployerParts parts);
  ~Deployer();

  // There may be a pending version.
  void Notify();
  // Lets the one in work end soon, unfinished; it stays pending.
  void Stop();
  // Stops, and waits for that. Whether an engine in this process is still in a run that was given up: its version can
  // never be unloaded. From one thread.
  bool StopAndTellHang();

 private:
  void Work();
  std::optional<registry::Version> NextPending();
  // False: what became of it could not be written, and it is still pending.
  bool Deploy(const registry::Version& version);
  absl::StatusOr<Verdict> Judge(const registry::Version& version, const DeployRule& rule);
  absl::StatusOr<VersionMetrics> Evaluate(const registry::Model& model, const registry::Version& version,
                                          const DeployRule& rule, const std::vector<int32_t>& versions);
  absl::Status Conclude(const registry::Version& version, const DeployRule& rule, const Verdict& verdict);

  bool stopping();

  const DeployerParts parts_;
  const std::shared_ptr<std::atomic<int>> left_behind_ = std::make_shared<std::atomic<int>>(0);

  std::mutex mutex_;
  std::condition_variable wake_;
  bool work_ = true, stop_ = false;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace tandem::daemon
