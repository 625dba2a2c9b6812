#pragma once
// The daemon's settings. Each is declared once, in settings_table.cc: key, flag, type, limits and help; from that come
// the command line, `tandem.yaml`, messages and documentation. Defaults are the initialisers here.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "spec/sharing_spec.h"

namespace tandem::spec {

struct HttpSettings {
  std::string address = "127.0.0.1:8000";  // port 0 = any free one
  std::string token_file;                  // empty = none; needed for an address other than loopback
  int64_t io_threads = 0;                  // 0 = one per usable CPU
  int64_t max_body_bytes = 256'000'000;    // of one request
  int64_t max_connections = 4096;
  double read_timeout_s = 30;
  double idle_timeout_s = 300;
};

struct LogSection {
  std::string level = "info";  // debug, info, warning, error
  std::string file;            // empty = stderr
  bool json = false;
};

struct ServingSection {
  std::string folder;         // of models' files; empty = the data folder
  int64_t instances = 0;      // of each version; 0 = one per data-plane thread
  int64_t queue_limit = 256;  // waiting requests per version
  int64_t memory_bytes = 0;   // of all loaded versions; 0 = no limit
  double prepare_timeout_s = 600;
  std::string engine = "auto";
  double slo_ms = 0;                        // target p99 of every model that has none of its own; 0 = none
  int64_t response_cache_bytes = 64 << 20;  // of all models that keep answers
  std::string model_repository;             // folder of models to serve; empty = none
  std::string model_control = "poll";       // of that folder: "poll" or "explicit"
  double poll_interval_s = 5;
};

struct TrainingSection {
  std::string folder;        // of checkpoints and copied data sets; empty = the data folder
  int64_t threads = 0;       // 0 = all usable CPUs
  int64_t memory_bytes = 0;  // 0 = 80 % of the machine's
  int64_t max_jobs = 1;      // at the same time
  int64_t max_attempts = 3;  // of one job before it fails for good
};

struct IsolationSection {
  std::string rung = "auto";  // auto, or the best rung to climb to: realtime, cgroup-weight, autogroup, nice, off
  double budget_ms = 100;     // a latency-class thread that runs longer without a wait is demoted
};

struct TelemetrySection {
  std::string otlp_endpoint;  // of a collector of traces, "http://host:port/path"; empty = none
  double trace_ratio = 0;     // of the requests that come without a trace
  std::string service_name = "tandem";
};

// Plain data; thread-compatible.
struct Settings {
  std::string data = "~/.local/share/tandem";
  std::string config;      // the file that was read; empty = none
  std::string ready_file;  // written when all is ready; empty = none
  std::string grpc = "127.0.0.1:8001";
  std::string metrics = "127.0.0.1:8002";
  std::string policy = "latency_first";  // short for sharing.policy, and always equal to it
  double stop_timeout_s = 10;
  HttpSettings http;
  LogSection log;
  ServingSection serving;
  TrainingSection training;
  IsolationSection isolation;
  TelemetrySection telemetry;
  SharingSpec sharing;         // key `sharing`: the document of `tandem policy set`
  bool sharing_given = false;  // `sharing` or `policy` was given in the file or on the command line
};

// Reads the settings of a daemon started with `args` (without the program's name): defaults, then the file of
// --config, then flags and --set in their order. Paths are made absolute and "~/" is replaced by `home`.
absl::StatusOr<Settings> LoadSettings(const std::vector<std::string>& args, std::string_view home);

// The text of `tandemd --help`, and the page of all settings.
std::string SettingsHelp();
std::string SettingsMarkdown();

}  // namespace tandem::spec
