#pragma once
// Which engine serves a version that leaves it open: all that are there prepare and run it, their outputs are compared,
// and the fastest right one is kept. A version is served by the default engine meanwhile, and from the start; one that
// the default engine cannot load is served by one that can. What was found is stored with the version.
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "daemon/engine_choice_measuring.h"
#include "daemon/model_catalog.h"
#include "jobs/job_store.h"
#include "registry/registry.h"
#include "serving/serving.h"

namespace tandem::daemon {

// All outlive EngineChoice.
struct ChoiceParts {
  Clock* clock = nullptr;
  registry::Registry* registry = nullptr;
  accounting::Accounting* accounting = nullptr;
  jobs::JobStore* jobs = nullptr;  // null = no version comes from a job
  ModelCatalog* catalog = nullptr;
  serving::Serving* serving = nullptr;
  engine::SpawnFunction spawn;                               // children of the lowest class
  std::function<std::vector<engine::EngineInfo>()> engines;  // those that may be chosen; called once, on the thread
  std::filesystem::path run_folder;
  double prepare_timeout_s = 600;
  double measure_timeout_s = 120;
  double load_timeout_s = 660;
};

// One background thread. Thread-safe.
class EngineChoice {
 public:
  // Attaches itself to the catalogue.
  explicit EngineChoice(ChoiceParts parts);
  ~EngineChoice();
  EngineChoice(const EngineChoice&) = delete;
  EngineChoice& operator=(const EngineChoice&) = delete;

  // Something may be to be measured.
  void Notify();
  // What is being measured is given up once its child has ended (Children::Abort); nothing more is begun.
  void Stop();

  // Measures a version, whatever was measured before, and waits for it. version 0: the champion, else the newest.
  absl::Status Measure(const std::string& model, int32_t version);
  // The catalogue's hook: see ChooserHooks.
  absl::Status FindOther(const std::string& model, int32_t version, const absl::Status& failure);

 private:
  struct Order {
    ChoosableVersion version;
    bool anyway = false;  // although there is a report
    std::promise<absl::Status> done;
  };

  absl::Status Await(ChoosableVersion version, bool anyway);
  void Work();
  // The next order; nothing if there is other work. False when stopped.
  bool WaitForWork(std::optional<Order>* order);
  void Step();
  // Of those that should be served, what is to be settled next: what nobody can load comes first.
  std::optional<ChoosableVersion> Next();
  bool IsDue(const ChoosableVersion& version) const;
  // The report without the chosen engine, where it was measured as now and yet the load failed on that engine.
  static std::optional<EngineReport> ReportWithoutFailed(const ChoosableVersion& version,
                                                         const serving::VersionStatus* status);
  // Measures what is due, passes over an engine that failed; lets serving follow.
  absl::Status Settle(const ChoosableVersion& version);
  // Measures, chooses beside `former`, stores, and lets serving follow.
  absl::Status Process(const ChoosableVersion& version, const EngineReport& former);
  absl::Status Store(const ChoosableVersion& version, const EngineReport& report);
  std::optional<wire::Dataset> DatasetOf(const registry::Version& version) const;
  // Removes what was prepared for engines that were not chosen. False while a swap is not complete yet.
  bool RemoveLosers();
  std::string KeyFor(const ChoosableVersion& version) const;

  const ChoiceParts parts_;
  // The thread's own.
  std::vector<engine::EngineInfo> engines_;
  std::map<std::string, std::string>
      tried_;  // "model/version" -> content and key of the last try, which is not repeated
  int next_folder_ = 1;
  bool untidy_ = false;

  std::mutex mutex_;
  std::condition_variable wake_;
  bool work_ = true, stop_ = false;  // guarded by mutex_
  std::deque<Order> orders_;         // guarded by mutex_
  std::thread thread_;               // last: it uses all of the above
};

}  // namespace tandem::daemon
