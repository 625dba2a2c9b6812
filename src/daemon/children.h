#pragma once
// Short-lived helper processes of the daemon: engine hosts that check and prepare models. Long jobs are job_runner's.
#include <atomic>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "isolation/isolation.h"

namespace tandem::daemon {

// An executable beside this one ("tandem-trainer").
std::filesystem::path BesideSelf(std::string_view name);

// Starts helpers at the lowest class and waits for them. Thread-safe.
class Children {
 public:
  // `run_folder` holds their output while they run. `isolation` outlives this.
  Children(isolation::Isolation* isolation, std::filesystem::path run_folder)
      : isolation_(isolation), run_folder_(std::move(run_folder)) {}

  // Runs argv to its end, or kills it after timeout_s or when Abort was called.
  absl::StatusOr<engine::ChildResult> Run(const std::vector<std::string>& argv, double timeout_s);
  // The same; an exit other than 0 is InvalidArgument with what the helper wrote, without its "error: ".
  absl::Status RunChecked(const std::vector<std::string>& argv, double timeout_s);
  // Ends all that run, and lets no new one begin.
  void Abort() { aborted_ = true; }

 private:
  isolation::Isolation* const isolation_;
  const std::filesystem::path run_folder_;
  std::atomic<uint64_t> next_{1};
  std::atomic<bool> aborted_{false};
};

}  // namespace tandem::daemon
