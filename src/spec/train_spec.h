#pragma once
// A training job as its owner wrote it: the YAML of `tandem train`, parsed, checked, with defaults.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace tandem::spec {

struct ModelSpec {             // exactly one of architecture, onnx, from
  std::string architecture;    // mlp, lenet, resnet8, resnet20, resnet18
  std::string onnx;            // a file on the server's machine
  std::string from;            // a registered version: "name", "name@alias", "name/3"
  std::vector<int64_t> input;  // C, H, W (or features); empty = as the data set
  int64_t classes = 0;         // 0 = as the data set
  bool operator==(const ModelSpec&) const = default;
};

struct OptimizerSpec {
  std::string name = "sgd";                       // sgd, adamw
  double lr = 0.05;                               // default 0.05 for sgd, 0.001 for adamw
  double momentum = 0.9;                          // sgd
  bool nesterov = true;                           // sgd
  double weight_decay = 5e-4;                     // default 5e-4 for sgd, 0.01 for adamw
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;  // adamw
  bool operator==(const OptimizerSpec&) const = default;
};

struct ScheduleSpec {
  std::string name = "cosine";  // constant, one_cycle, cosine
  double warmup_fraction =
      0;  // of all steps, linear from 0 (cosine, constant); for one_cycle the rising part (default 0.3)
  double final_fraction = 0;  // last lr as a fraction of lr (cosine: 0, one_cycle: 1e-4)
  bool operator==(const ScheduleSpec&) const = default;
};

struct AugmentSpec {
  std::string name;     // flip (horizontal, probability 1/2), crop (random shift)
  int64_t padding = 4;  // crop: pixels of zero padding on each side
  bool operator==(const AugmentSpec&) const = default;
};

struct CheckpointSpec {  // both 0 = every 30 s
  int64_t every_steps = 0;
  double every_seconds = 0;
  bool operator==(const CheckpointSpec&) const = default;
};

struct PromoteIf {
  std::string metric = "accuracy";  // accuracy (higher is better), loss (lower is better)
  std::string better_than;          // a number, or an alias; not given = the alias that would move
  bool operator==(const PromoteIf&) const = default;
};

struct RegisterSpec {
  std::string model;  // name
  std::string alias =
      "champion";  // moved on success; with promote_if only if the bound is passed, else "challenger" is
  std::optional<PromoteIf> promote_if;
  std::string precision = "f32";  // the version is served in: kServedPrecisions
  bool operator==(const RegisterSpec&) const = default;
};

struct ResourceSpec {        // 0 = no limit, but for the first two
  int64_t threads = 0;       // 0 = as many as the training side has
  int64_t memory_bytes = 0;  // 0 = estimated
  double cpu = 0;            // CPUs' worth, a cap
  int64_t processes = 0;     // threads count too
  int64_t disk_write_bytes_per_s = 0, disk_read_bytes_per_s = 0, disk_iops = 0;
  bool operator==(const ResourceSpec&) const = default;
};

struct RecurringSpec {
  std::string cron;              // five fields, or @daily
  std::string time_zone;         // "" = the machine's
  std::string catch_up = "one";  // none, one, all: runs missed while the server was down or the recurring job paused
  std::string overlap = "skip";  // skip, queue, cancel: when the former run has not ended
  bool operator==(const RecurringSpec&) const = default;
};

// Length: exactly one of epochs, steps, time_budget_s is > 0.
struct TrainSpec {
  std::string name;
  std::string kind = "train";
  ModelSpec model;
  std::string dataset;
  int64_t epochs = 0;
  int64_t steps = 0;
  double time_budget_s = 0;
  int64_t batch = 128;
  int64_t micro_batch = 0;  // 0 = min(batch, 32); equal to batch = PyTorch's BatchNorm semantics ("batch" in YAML)
  OptimizerSpec optimizer;
  ScheduleSpec schedule;
  std::string precision = "auto";  // auto, fp32, bf16, fp64 (checks only)
  std::vector<AugmentSpec> augment;
  uint64_t seed = 0;
  double label_smoothing = 0;
  std::vector<std::string> train;   // patterns (* and ?) of initialiser names: only these are trained
  std::vector<std::string> freeze;  // patterns of initialiser names: these are not
  std::vector<std::vector<std::string>> tie;
  int64_t priority = 0;  // higher first, -100..100
  ResourceSpec resources;
  CheckpointSpec checkpoint;
  std::optional<RegisterSpec> register_as;  // YAML key: register
  std::string window;                       // trains only while this window of the policy is open; "" = always
  std::optional<RecurringSpec> recurring;   // submitted at these times, instead of now
  double time_limit_s = 0;                  // of all attempts together; then it ends as timed_out; 0 = none
  bool operator==(const TrainSpec&) const = default;
};

// Parses YAML. `source` names the text in messages ("job.yaml:3:5: unknown key 'epoch'; did you mean 'epochs'?").
// `overrides` are "key.path=value", applied after the text. Fills in defaults; the result is complete and consistent.
absl::StatusOr<TrainSpec> ParseTrainSpec(std::string_view yaml, std::string_view source,
                                         const std::vector<std::string>& overrides = {});

// Canonical YAML, every key present; ParseTrainSpec of it gives the same spec.
std::string ToYaml(const TrainSpec& spec);

// A reference to a registered version: "name", "name@alias", "name/3", and MLflow's "models:/name/3",
// "models:/name@alias".
struct ModelRef {
  std::string name;
  std::string alias;    // or
  int32_t version = 0;  // 0 = not given
};
absl::StatusOr<ModelRef> ParseModelRef(std::string_view text);

}  // namespace tandem::spec
