#pragma once
// `tandem bench colocation`: what training beside serving costs the requests here, and what training gets. Plain data
// that one part fills (bench_colocation_run.cc) and others show (bench_colocation_report.cc, bench_colocation_plot.cc).
// docs/benchmarks.md says what is measured and how to read it.
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "tandem/host_meter.h"

namespace tandem::cli {

// One way of running the same load.
struct ColocationMode {
  std::string_view name;
  int jobs;       // training jobs beside it
  bool warm;      // the CPUs are kept awake by threads of the idle class
  bool isolated;  // with tandem's isolation; without: isolation.rung is off
  std::string_view description;
};
const std::vector<ColocationMode>& ColocationModes();
// Null if there is none of that name.
const ColocationMode* FindColocationMode(std::string_view name);

// How much is measured.
struct ColocationAmount {
  int rounds = 9;
  double beyond = 1000;      // requests beyond p99, of all rounds of a mode and load together
  bool beyond_each = false;  // of each window instead
  int64_t requests = 0;      // of a window; 0 = what `beyond` asks for
  double window_s = 3;       // no window is shorter
  double capacity_s = 2;     // three times so long
  double max_minutes = 0;    // no round begins that would not end in time; 0 = no limit
  bool quick = false;        // said in every result
};

struct ColocationOptions {
  std::string model;                              // ONNX file; empty = a small residual network
  std::string dataset;                            // folder or file to train on; empty = made-up images
  std::vector<double> loads = {0.05, 0.25, 0.5};  // of the capacity
  std::vector<const ColocationMode*> modes;
  std::string rung = "auto";  // isolation.rung of the isolated modes
  double slo_ms = 0;          // target of the SLO figures; 0 = twice the p99 of alone_warm (alone) at that load
  uint64_t seed = 1;
  int connections = 32;
  int client_threads = 0;   // 0 = one for every four CPUs
  int client_priority = 2;  // of SCHED_FIFO; 0 = normal class
  bool check_bytes = true;
  ColocationAmount amount;
};
// Requests of one window at `rate` per second.
int64_t WindowRequests(const ColocationAmount& amount, double rate);
// All rounds, in seconds, with what stands around the windows.
double EstimateSeconds(const ColocationOptions& options, double capacity);

struct ColocationWindow {
  std::string mode;
  double load = 0;
  int round = 0;  // from 0
  double p50_ms = 0, p99_ms = 0, p999_ms = 0, max_ms = 0;
  int64_t sent = 0, failures = 0, waited = 0;
  double offered_per_s = 0, answered_per_s = 0;
  double delay_p50_us = 0, delay_p99_us = 0;  // the client's own
  double client = 0;                          // its CPU time, as a fraction of all CPUs'
  HostWindow host;
  double images_per_s = -1;         // of all jobs; -1 without
  std::vector<float> latencies_ms;  // sorted; not in the JSON
};

struct ColocationModeFacts {
  std::string rung, isolation;               // as the daemon says
  std::vector<std::string> run_delay_lines;  // of its /metrics, if it has them
};

// The same job alone and beside a load: is every byte of the model the same?
struct BytesCheck {
  bool done = false;
  int steps = 0;
  std::string alone_sha256, beside_sha256;
  std::string alone_loss_bits, beside_loss_bits;  // of the final loss, a double in hex
  double alone_s = 0, beside_s = 0;
  bool same() const { return done && alone_sha256 == beside_sha256 && alone_loss_bits == beside_loss_bits; }
};

struct ColocationResult {
  ColocationOptions options;
  HostFacts host;
  std::string model;               // in words
  std::vector<double> capacities;  // requests per second, of each measurement
  double capacity = 0;             // their median
  bool client_realtime = false;
  std::map<std::string, ColocationModeFacts> modes;
  std::vector<ColocationWindow> windows;
  int rejected = 0;  // windows that were thrown away for stolen CPU time, and done again
  int lost = 0;      // that never came out clean
  int rounds_done = 0;
  bool interrupted = false;  // before all rounds were done
  double seconds = 0;
  BytesCheck bytes;
};

inline constexpr double kMostSteal = 0.01;

// Runs it all. `say` gets one line about what goes on, now and then. Cancelled after Ctrl-C. Whatever was started has
// ended, and the temporary folder is gone, when it returns.
absl::StatusOr<ColocationResult> RunColocation(const ColocationOptions& options,
                                               const std::function<void(std::string_view)>& say);

}  // namespace tandem::cli
