#pragma once
#include "absl/status/statusor.h"
#include "tandem/bench_colocation.h"
#include "tandem/command.h"
#include "tandem/session.h"

namespace tandem::cli {

// The words of the command line, as they were given.
struct ColocationWords {
  std::string model, dataset, loads = "5,25,50", modes, rung = "auto", out, plot;
  double rounds = 0, beyond = 1000, requests = 0, max_minutes = 0, slo_ms = 0, seed = 1;  // 0 = not given
  double connections = 32, client_threads = 0;
  std::string client_priority = "2";
  bool beyond_each = false, quick = false, deterministic_check = false, no_deterministic_check = false;
};
// Usage errors name the option and the word.
absl::StatusOr<ColocationOptions> ParseColocation(const ColocationWords& words);

// bench colocation
void AddColocationBench(Command& bench, Session& session);

}  // namespace tandem::cli
