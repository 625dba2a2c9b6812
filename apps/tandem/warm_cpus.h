#pragma once
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"

namespace tandem::cli {

// Keeps every usable CPU awake: one thread of the idle class on each, which runs only when nobody else wants to. An
// idle virtual CPU takes 40 us and more to come back; beside a trainer it never is idle, so "alone" has to be measured
// like this to be compared fairly. Ends when destroyed.
class WarmCpus {
 public:
  // Unavailable if a thread could not become of the idle class: it would take CPU time from others.
  static absl::StatusOr<std::unique_ptr<WarmCpus>> Start();
  ~WarmCpus();

 private:
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

}  // namespace tandem::cli
