#pragma once
// Helper processes of the daemon: short-lived engine hosts that check and prepare models, and long-lived ones that
// serve. Jobs are job_runner's.
#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "base/fd.h"
#include "base/paced_writer.h"
#include "base/sync.h"
#include "engine/engine.h"
#include "engine/remote.h"
#include "isolation/isolation.h"

namespace tandem::daemon {

// An executable beside this one ("tandem-trainer").
std::filesystem::path BesideSelf(std::string_view name);

struct ChildrenParts {
  isolation::Isolation* isolation;   // outlives them
  std::filesystem::path run_folder;  // of their output while they run
  std::filesystem::path models;      // the folder whose disk serving's limits are for
  PacedWriter* serving_pace;         // of what the daemon itself writes of models; outlives them
  PacedWriter* training_pace;        // of what it writes for training; outlives them
};

// Starts helpers and waits for them. Thread-safe; make it on a thread of the normal class.
class Children {
 public:
  // Whose disk limits a helper has.
  enum class Disk { kServing, kTraining };

  // Outlives what Serve gave.
  explicit Children(ChildrenParts parts);
  ~Children();

  // Runs argv at the lowest class to its end, or kills it after timeout_s, when Abort was called (Unavailable), or
  // within 100 ms of *stop, which outlives the call (Cancelled).
  absl::StatusOr<engine::ChildResult> Run(const std::vector<std::string>& argv, double timeout_s,
                                          Disk disk = Disk::kServing, const std::atomic<bool>* stop = nullptr);
  // The same; an exit other than 0 is InvalidArgument with what the helper wrote, without its "error: ".
  absl::Status RunChecked(const std::vector<std::string>& argv, double timeout_s, Disk disk = Disk::kServing,
                          const std::atomic<bool>* stop = nullptr);
  // The same, and gives all that it wrote.
  absl::StatusOr<std::string> RunForOutput(const std::vector<std::string>& argv, double timeout_s,
                                           Disk disk = Disk::kServing, const std::atomic<bool>* stop = nullptr);
  // Serving's disk limits (the others are ignored), also of helpers that run: they have them together. Gives what is
  // not enforced of them.
  std::vector<std::string> SetServingDisk(const isolation::GroupLimits& limits);
  // Of what the daemon itself writes for training; 0 = no limit. Training's groups are limited by SetSideLimits.
  void SetTrainingRate(double bytes_per_s);
  PacedWriter* serving_pace() { return parts_.serving_pace; }
  // An engine::SpawnService. The child stands where the daemon stands (its group, nice 0), writes where it writes, and
  // its threads for requests get SCHED_FIFO on the rung "realtime" where the daemon has CAP_SYS_NICE. Elsewhere, also
  // with an RTPRIO limit alone (which tandem-launch takes from the child), they stay normal threads.
  absl::StatusOr<std::unique_ptr<engine::Service>> Serve(const std::vector<std::string>& argv, int socket);
  // Ends all that Run runs, and lets no new one begin. Who waits for the rate of a pace waits no longer.
  void Abort();

 private:
  // One that runs.
  struct Helper {
    Disk disk;
    UniqueFd socket;  // takes it new rates, and tells it of the daemon's end
    std::unique_ptr<isolation::ResourceGroup> group;
  };
  // Gives it its group, and a part of serving's rate if it is serving's.
  absl::Status Begin(const std::string& name, Helper* helper);
  void End(const Helper& helper);
  absl::StatusOr<engine::ChildResult> RunIn(const Helper& helper, UniqueFd child_socket,
                                            const std::vector<std::string>& argv, double timeout_s,
                                            const std::atomic<bool>* stop);
  // Bytes a second that it may write itself; 0 = no limit.
  double RateOf(const Helper& helper);
  // Both REQUIRE disk_mutex_ held.
  double ServingPart() const;
  void TellParts();

  const ChildrenParts parts_;
  std::mutex disk_mutex_;
  isolation::GroupLimits serving_disk_;  // guarded by disk_mutex_
  std::set<const Helper*> serving_;      // guarded by disk_mutex_: the helpers that share serving's rate
  std::atomic<uint64_t> next_{1};
  std::atomic<bool> aborted_{false};
  // A child gets the nice value of the thread that starts it, and only a privileged process could take it back: the
  // loader's is 19, so services are started by this thread.
  BoundedQueue<std::function<void()>> orders_{16};
  std::thread starter_;
};

}  // namespace tandem::daemon
