#include "spec/train_spec.h"

#include <algorithm>
#include <array>
#include <limits>

#include "absl/strings/numbers.h"
#include "base/status.h"
#include "spec/document.h"
#include "spec/train_fields.h"

namespace tandem::spec {
namespace {

constexpr int64_t kDefaultMicroBatch = 32;
constexpr int64_t kDefaultEpochs = 5;
constexpr double kMinCpus = 0.01;      // the kernel's least quota is 1 ms in 100
constexpr int64_t kMinProcesses = 16;  // threads of a trainer that do not compute

constexpr std::array<std::string_view, 3> kLengths = {"epochs", "steps", "time_budget"};
constexpr std::array<std::string_view, 3> kSources = {"architecture", "onnx", "from"};
constexpr std::array<std::string_view, 2> kCheckpoints = {"every_steps", "every_seconds"};

// At most one of `keys` may be in `map`.
template <size_t n>
absl::Status CheckAtMostOne(const Node* map, std::string_view in, const std::array<std::string_view, n>& keys) {
  std::string_view first;
  for (std::string_view key : keys) {
    const Node* value = map == nullptr ? nullptr : map->Find(key);
    if (value == nullptr) continue;
    if (!first.empty()) {
      return ErrorAt(value->where, StrCat(in, "'", first, "' and '", key, "' exclude each other; keep one"));
    }
    first = key;
  }
  return absl::OkStatus();
}

absl::Status CheckGroups(const Node& root, const TrainSpec& spec) {
  const Node* model = root.Find("model");
  TANDEM_RETURN_IF_ERROR(CheckAtMostOne(&root, "", kLengths));
  TANDEM_RETURN_IF_ERROR(CheckAtMostOne(model, "model: ", kSources));
  TANDEM_RETURN_IF_ERROR(CheckAtMostOne(root.Find("checkpoint"), "checkpoint: ", kCheckpoints));
  if (spec.model.architecture.empty() && spec.model.onnx.empty() && spec.model.from.empty()) {
    return ErrorAt(model == nullptr ? root.where : model->where,
                   "the model is missing; give one of model.architecture, model.onnx, model.from");
  }
  if (spec.dataset.empty()) {
    return ErrorAt(root.where, "'dataset' is missing; give the name of one that 'tandem dataset list' shows");
  }
  if (spec.recurring && spec.recurring->cron.empty()) {
    return ErrorAt(root.Find("recurring")->where, "recurring.cron is missing; give the times, like 0 2 * * *");
  }
  if (spec.register_as && spec.register_as->model.empty()) {
    return ErrorAt(root.Find("register")->where, "register.model is missing; give the model's name");
  }
  return absl::OkStatus();
}

absl::Status CheckNumbers(const Node& root, const TrainSpec& spec) {
  if (spec.micro_batch > spec.batch) {
    return ErrorAt(root.Find("micro_batch")->where,
                   StrCat("micro_batch is ", spec.micro_batch, ", more than the batch of ", spec.batch));
  }
  if (spec.optimizer.name == "sgd" && spec.optimizer.nesterov && spec.optimizer.momentum == 0) {
    return ErrorAt(root.Find("optimizer")->where, "optimizer.nesterov needs a momentum above 0");
  }
  const ResourceSpec& resources = spec.resources;
  if (resources.cpu > 0 && resources.cpu < kMinCpus) {
    return ErrorAt(root.Find("resources")->where,
                   StrCat("resources.cpu is ", resources.cpu, "; the least cap is ", kMinCpus, " CPUs, 0 is none"));
  }
  if (resources.processes > 0 && resources.processes < kMinProcesses + resources.threads) {
    return ErrorAt(root.Find("resources")->where,
                   StrCat("resources.processes is ", resources.processes, "; threads count too, and a trainer needs ",
                          kMinProcesses, " besides resources.threads; 0 is no limit"));
  }
  const std::optional<RegisterSpec>& target = spec.register_as;
  double bound = 0;
  bool number = target && target->promote_if && absl::SimpleAtod(target->promote_if->better_than, &bound);
  double most = number && target->promote_if->metric == "accuracy" ? 1 : std::numeric_limits<double>::max();
  if (number && (bound < 0 || bound > most)) {
    return ErrorAt(root.Find("register")->where, StrCat("register.promote_if.better_than is ", bound,
                                                        "; an accuracy is from 0 to 1, a loss 0 or more"));
  }
  return absl::OkStatus();
}

std::string DefaultName(const TrainSpec& spec) {
  if (spec.register_as) return spec.register_as->model;
  if (!spec.model.architecture.empty()) return spec.model.architecture;
  if (!spec.model.from.empty()) return ParseModelRef(spec.model.from)->name;
  return "train";
}

void FillDefaults(TrainSpec& spec) {
  if (spec.epochs == 0 && spec.steps == 0 && spec.time_budget_s == 0) spec.epochs = kDefaultEpochs;
  if (spec.micro_batch == 0) spec.micro_batch = std::min(spec.batch, kDefaultMicroBatch);
  if (spec.micro_batch < 0) spec.micro_batch = spec.batch;
  if (spec.register_as && spec.register_as->promote_if && spec.register_as->promote_if->better_than.empty()) {
    spec.register_as->promote_if->better_than = spec.register_as->alias;
  }
  if (spec.name.empty()) spec.name = DefaultName(spec);
}

// An override of one key of an exclusive group takes the others of the file away: "--set steps=10" wins over "epochs".
absl::Status ApplyOverrides(const std::vector<std::string>& overrides, Node& root) {
  static const std::vector<ShortForm> kShortForms = {
      {"optimizer", "name"}, {"schedule", "name"}, {"register", "model"}, {"recurring", "cron"}};
  auto exclude = [](Node* map, std::string_view kept, const auto& keys) {
    if (map == nullptr || map->Find(kept) == nullptr || std::ranges::find(keys, kept) == keys.end()) return;
    for (std::string_view key : keys) {
      if (key != kept) map->Erase(key);
    }
  };
  for (const std::string& assignment : overrides) {
    TANDEM_RETURN_IF_ERROR(ApplyOverride(assignment, kShortForms, root));
    std::string_view path = std::string_view(assignment).substr(0, assignment.find('='));
    std::string_view last = path.substr(path.rfind('.') + 1);
    if (path == last) exclude(&root, last, kLengths);
    if (path.starts_with("model.")) exclude(root.Find("model"), last, kSources);
    if (path.starts_with("checkpoint.")) exclude(root.Find("checkpoint"), last, kCheckpoints);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TrainSpec> ParseTrainSpec(std::string_view yaml, std::string_view source,
                                         const std::vector<std::string>& overrides) {
  TANDEM_ASSIGN_OR_RETURN(Node root, ParseDocument(yaml, source));
  if (root.kind != Node::Kind::kMap) {
    return ErrorAt(root.where, "a job spec is a map of keys, like 'dataset: fashion'");
  }
  TANDEM_RETURN_IF_ERROR(ApplyOverrides(overrides, root));
  const Node* schedule = root.Find("schedule");
  if (const Node* cron = schedule == nullptr ? nullptr : schedule->Find("cron")) {
    return ErrorAt(cron->where, "schedule is the learning rate over time; write the times of a job under 'recurring'");
  }
  TrainSpec spec;
  TANDEM_RETURN_IF_ERROR(ReadFields(root, "", TrainFields(), spec));
  TANDEM_RETURN_IF_ERROR(CheckGroups(root, spec));
  TANDEM_RETURN_IF_ERROR(CheckNumbers(root, spec));
  FillDefaults(spec);
  return spec;
}

std::string ToYaml(const TrainSpec& spec) { return EmitYaml(WriteFields(TrainFields(), spec)); }

}  // namespace tandem::spec
