#pragma once
// An open-loop load on one model over HTTP/1.1: requests leave when a Poisson process says so, whatever the answers do,
// and latency counts from the scheduled arrival to the last byte of the answer (no coordinated omission). One thread a
// few cores, epoll over kept connections, so that the client takes little from what it measures; what it takes, and
// how late it was itself, is part of the result.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace tandem::cli {

struct LoadSettings {
  std::string address;     // HOST:PORT, numbers
  std::string request;     // InferRequest()
  double rate = 0;         // requests per second; 0 = closed loop: every connection sends again at once
  int64_t requests = 0;    // that count (open loop)
  double seconds = 0;      // that count (closed loop)
  double lead_in_s = 0.5;  // sent before those that count
  int connections = 32;
  int threads = 1;
  uint64_t seed = 0;
  int fifo_priority = 1;  // of its threads, where they may; 0 = normal class
  double timeout_s = 10;  // of one answer, then it is a failure
};

struct LoadResult {
  std::vector<float> latencies_ms;  // of good answers; sorted
  std::vector<float> delays_us;     // the client's own: from the scheduled arrival, with a connection free, until the
                                    // request was sent; sorted
  int64_t sent = 0, failures = 0;   // that count
  int64_t waited = 0;               // that found no connection free: their latency has the wait in it
  double seconds = 0;               // from the first scheduled arrival that counts to the last answer
  double client_cpu_s = 0;          // of all its threads, lead-in too
  bool realtime = true;             // its threads had SCHED_FIFO
  std::string first_error;
};

// A load that runs in the background. Stops and joins when destroyed. Thread-compatible.
class LoadClient {
 public:
  // Connects, and starts. The load begins a few milliseconds later.
  static absl::StatusOr<std::unique_ptr<LoadClient>> Start(const LoadSettings& settings);
  virtual ~LoadClient() = default;
  // When the requests that count begin, and when the last is due, as monotonic nanoseconds.
  virtual int64_t begin_nanos() const = 0;
  virtual int64_t end_nanos() const = 0;
  virtual bool Done() const = 0;
  // No more requests are sent.
  virtual void Stop() = 0;
  // Waits for the last answer. REQUIRES: called once.
  virtual LoadResult Finish() = 0;
};

}  // namespace tandem::cli
