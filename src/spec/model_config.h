#pragma once
// How one model is served: batching, queue, instances, engine, versions. One document per model, kept with it.
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace tandem::spec {

// What a version may be served in: "f32", "bf16", "f16".
inline const std::vector<std::string> kServedPrecisions = {"f32", "bf16", "f16"};
absl::Status CheckServedPrecision(std::string_view precision);

// Sequence batching: requests that carry one id keep their state between them.
struct SequenceConfig {
  std::string strategy;  // "" = none, "direct": a sequence keeps its slot of a batch, "oldest": batches of the oldest
  int max_candidates = 64;    // sequences that are open at the same time, 1..4096; one more is refused
  double max_idle_s = 60;     // a sequence that was silent this long is ended
  struct Control {            // an input that tells the model where it is in a sequence
    std::string input, kind;  // kind: "start", "end", "ready", "id"
    bool operator==(const Control&) const = default;
  };
  std::vector<Control> controls;
  struct State {  // an output that comes back as an input of the sequence's next request; zeros at its start
    std::string input, output;
    bool operator==(const State&) const = default;
  };
  std::vector<State> states;
  bool operator==(const SequenceConfig&) const = default;
};

// A version that takes a part of the requests, and when it is given up by itself.
struct CanaryConfig {
  double max_error_rate = 0.01;  // above the champion's, 0..1
  double max_p99_ratio = 1.5;    // against the champion's p99 of the same time, >= 1
  int min_requests = 200;        // before it is judged
  bool operator==(const CanaryConfig&) const = default;
};

struct ModelConfig {
  // Engine.
  std::string engine = "auto";       // "auto" = the best that was measured, or a plug-in's name
  std::string device = "CPU";        // as the engine names it: CPU, GPU, NPU, AUTO
  std::string isolation = "thread";  // "thread": in the daemon; "process": in a child of its own
  double run_timeout_s = 30;         // of one run in a child; it is replaced then
  int instances = 0;                 // 1..64; 0 = as many as help, inside the serving share
  int max_instances = 0;             // of instances: 0; 0 = one a request thread
  int threads = 1;                   // of one instance, 1..64

  // Batching. Rows are the first dimension of every input and output.
  int max_batch_size = 0;  // 1..4096 rows; 0 = requests are not merged, and clients send whole shapes
  std::vector<int> preferred_batch_sizes;
  double max_queue_delay_ms = 0;  // how long a request may wait for others; 0 = only while no instance is idle
  bool pad = false;               // fill a batch up to the next preferred size with zeros

  // Queue.
  int priority = 5;               // among models, 1 (most urgent) .. 10
  int priority_levels = 0;        // levels of requests within the model, 0..16; 0 = none
  int default_priority = 0;       // of a request that names none: 1..priority_levels; 0 = the middle
  int queue_limit = 256;          // waiting requests
  int64_t queue_bytes = 1 << 28;  // of their inputs
  double timeout_ms = 0;          // of a request that names none; 0 = the server's
  double slo_ms = 0;              // wanted p99; 0 = the server's

  bool response_cache = false;
  bool lazy = false;                     // loaded by its first request, unloaded when memory is short
  std::vector<int> warm_up_batch_sizes;  // run before a version is put into service; empty = 1 and batches'

  // Versions served beside those that aliases point to: "" = none, "all", "latest:N", or "1,4".
  std::string versions;
  bool approval = false;  // a version needs an operator's word before champion moves to it
  CanaryConfig canary;
  SequenceConfig sequence;
  // Names of classes per output, for the classification extension: index -> name.
  std::map<std::string, std::vector<std::string>> labels;

  bool operator==(const ModelConfig&) const = default;
};

// YAML (or JSON) with the keys above; "" is all defaults. Messages carry `source`, line and column. `overrides` are
// "key.path=value", applied after the text ("canary.min_requests=50"; nothing after the '=' takes the key away).
absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view text, std::string_view source,
                                             const std::vector<std::string>& overrides = {});
// What ParseModelConfig reads back to the same; only keys that differ from the default, "" if none does.
std::string ToYaml(const ModelConfig& config);
// The table of keys of docs/serving.md.
std::string ModelConfigMarkdown();

// Which of the existing versions the key `versions` of a parsed configuration names, ascending.
std::vector<int32_t> VersionsServed(std::string_view versions, std::vector<int32_t> existing);

}  // namespace tandem::spec
