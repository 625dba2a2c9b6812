#pragma once
// The training side of `tandem bench colocation`: real jobs, submitted, awaited, watched and cancelled over the API.
#include <sys/types.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "tandem/private_daemon.h"

namespace tandem::cli {

inline constexpr int kBenchBatch = 128;

// Jobs that train resnet8 for ever, on the data set `dataset`, which the daemon knows. `threads` 0 = as many as there
// are.
absl::StatusOr<std::vector<int32_t>> StartEndlessJobs(client::Client& client, const std::string& dataset, int count,
                                                      int threads);
// Waits until every job is past its first steps. Gives the trainers' process ids.
absl::StatusOr<std::vector<pid_t>> AwaitSteady(client::Client& client, const std::vector<int32_t>& jobs);
// Cancels them, waits until they are over, and forgets them.
absl::Status CancelJobs(client::Client& client, const std::vector<int32_t>& jobs);

struct ShortJobEnd {
  std::string sha256;     // of the exported model
  std::string loss_bits;  // the final loss, a double in hex
  double seconds = 0;     // from the first step to the end, as the server saw it
};
// Trains a job of `steps` steps to its end and exports the model that it made to `file`.
absl::StatusOr<ShortJobEnd> RunShortJob(client::Client& client, const std::string& dataset, int steps,
                                        const std::string& file);

// Follows one job's steps from a thread and a connection of its own. Starts at once, stops when destroyed.
class StepWatch {
 public:
  StepWatch(const std::string& address, int32_t job);
  ~StepWatch();
  // Images per second between the first and the last report of new steps that it saw; -1 if it saw fewer than two.
  // REQUIRES: called once, last.
  double ImagesPerSecond();

 private:
  void Run(const std::string& address, int32_t job);

  std::atomic<bool> stop_{false};
  int64_t first_nanos_ = 0, last_nanos_ = 0;
  int first_step_ = -1, last_step_ = -1;
  std::thread thread_;
};

}  // namespace tandem::cli
