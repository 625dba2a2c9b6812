#pragma once
// What needs doing now and then, on a thread of the background class: accounts every 10 s, disk areas every minute,
// decisions written down.
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "accounting/accounting.h"
#include "base/clock.h"
#include "daemon/control_loop.h"
#include "daemon/governor.h"
#include "daemon/paths.h"
#include "jobs/job_store.h"
#include "serving/serving.h"

namespace tandem::daemon {

struct HousekeeperParts {  // all outlive it
  Clock* clock;
  isolation::Isolation* isolation;
  accounting::Accounting* accounting;
  Governor* governor;
  PolicyBook* book;
  ControlLoop* loop;
  jobs::JobStore* jobs;
  serving::Serving* serving;
};

// One side's part of the disk.
struct DiskArea {
  std::string side;
  std::filesystem::path root;               // the folder that its files lie below
  int64_t used_bytes = 0, limit_bytes = 0;  // limit 0 = none
};

// Thread-safe.
class Housekeeper {
 public:
  Housekeeper(const HousekeeperParts& parts, Paths paths);
  ~Housekeeper();

  // Adds what was used since the last call to the accounts. What cannot be written is added to the next time.
  void Account();
  // Used as last measured, limited as the rules say now; none before the first measurement, moments after the start.
  std::vector<DiskArea> Areas() const;
  // What a request thread waits for a CPU beside busy children, as measured after the start; nothing before.
  std::optional<isolation::RunDelay> MeasuredRunDelay() const;
  // ResourceExhausted when the side's area is full: names it, the sizes and what to do.
  absl::Status CheckArea(std::string_view side) const;
  // Sentences about areas that are almost full, for the status.
  std::vector<std::string> Warnings() const;

 private:
  struct AreaUse {
    int64_t serving_bytes, training_bytes;
  };

  void Loop();
  void MeasureAreas();
  void MeasureRunDelay();
  std::vector<accounting::Entry> Collect(double elapsed_s);
  void CollectJobs(double elapsed_s, std::vector<accounting::Entry>* entries);
  // Gives what models took within this process, which used `own_cpu_seconds` since the last call.
  accounting::Amount CollectModels(double elapsed_s, double own_cpu_seconds, std::vector<accounting::Entry>* entries);

  const HousekeeperParts parts_;
  const Paths paths_;

  std::mutex account_mutex_;
  int64_t accounted_nanos_ = 0;                        // guarded by account_mutex_
  std::map<int32_t, isolation::Usage> job_usage_;      // guarded by account_mutex_
  std::map<std::string, serving::VersionUse> models_;  // guarded by account_mutex_; as last read
  double server_cpu_seconds_ = 0;                      // guarded by account_mutex_
  std::vector<accounting::Entry> unwritten_;           // guarded by account_mutex_

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;                         // guarded by mutex_
  std::optional<isolation::RunDelay> run_delay_;  // guarded by mutex_
  std::optional<AreaUse> area_use_;               // guarded by mutex_
  std::thread thread_;
};

}  // namespace tandem::daemon
