#pragma once
// An open-loop stream of real test samples: arrivals follow their own clock (Poisson), whatever the answers do, and
// latency counts from the scheduled arrival, so that a stalled server shows (no coordinated omission).
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/client.h"
#include "data/dataset.h"

namespace tandem::cli {

struct StreamSettings {
  client::Endpoint endpoint;
  std::string model;
  double rate = 100;   // requests per second
  double seconds = 0;  // 0 = until `stop` says so
  int connections = 4;
  uint64_t seed = 0;
};

struct StreamRecord {
  double unix_ms = 0;     // scheduled arrival
  double latency_ms = 0;  // from the scheduled arrival to the whole answer
  bool ok = false;
  bool correct = false;  // the largest logit is the label's
  std::string version;   // that answered
  std::string error;
};

// Sends samples of `dataset` in a random order until the time is over or stop() is true; `on_record` is called from
// several threads, one at a time. InvalidArgument when model and data do not fit.
absl::Status RunStream(const StreamSettings& settings, const data::Dataset& dataset, const std::function<bool()>& stop,
                       const std::function<void(const StreamRecord&)>& on_record);

}  // namespace tandem::cli
