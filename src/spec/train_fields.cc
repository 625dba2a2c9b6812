// The keys of a training spec, and the types that only it has.
#include "spec/train_fields.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/calendar.h"
#include "base/status.h"
#include "base/text.h"
#include "spec/model_config.h"

namespace tandem::spec {
namespace {

constexpr int64_t kMaxCount = 1'000'000'000;
constexpr double kMaxSeconds = 10.0 * 365 * 86400;
constexpr int64_t kMaxBatch = 1'000'000;

// --- types of this spec alone ---

// [1, 28, 28] or "1x28x28".
Type<std::vector<int64_t>> SampleShape() {
  constexpr std::string_view kDescribed = "1 to 4 sizes from 1 to 65536, like 1x28x28 or [1, 28, 28]";
  return {std::string(kDescribed),
          [=](const Node& node, const std::string& path) -> absl::StatusOr<std::vector<int64_t>> {
            std::vector<std::string> parts;
            if (node.kind == Node::Kind::kScalar) parts = absl::StrSplit(node.text, 'x');
            for (const Node& item : node.items) parts.push_back(item.text);
            std::vector<int64_t> shape;
            for (const std::string& part : parts) {
              int64_t size = 0;
              if (!absl::SimpleAtoi(part, &size) || size < 1 || size > 65536) return WrongValue(node, path, kDescribed);
              shape.push_back(size);
            }
            if (shape.empty() || shape.size() > 4) return WrongValue(node, path, kDescribed);
            return shape;
          },
          [](const std::vector<int64_t>& shape) {
            Node list = Node::List({});
            for (int64_t size : shape) list.items.push_back(Node::Scalar(StrCat(size)));
            return list;
          }};
}

// A number, or "batch" (-1 until the batch is known).
Type<int64_t> MicroBatch() {
  Type<int64_t> number = WholeNumber(1, kMaxBatch);
  std::string described = StrCat("batch, or ", number.described);
  return {described,
          [=](const Node& node, const std::string& path) -> absl::StatusOr<int64_t> {
            if (node.kind == Node::Kind::kScalar && node.text == "batch") return -1;
            absl::StatusOr<int64_t> value = number.read(node, path);
            return value.ok() ? value : WrongValue(node, path, described);
          },
          number.write};
}

// Checked at an instant that is always the same, so that a spec does not go bad with time.
Type<std::string> CronText() {
  constexpr std::string_view kDescribed = "a cron expression, like 30 2 * * mon-fri, or @daily";
  constexpr int64_t kSomeTimeMs = 1'767'225'600'000;  // 2026-01-01
  return {std::string(kDescribed),
          [=](const Node& node, const std::string& path) -> absl::StatusOr<std::string> {
            if (node.kind != Node::Kind::kScalar) return WrongValue(node, path, kDescribed);
            absl::StatusOr<Cron> cron = Cron::Parse(node.text, absl::UTCTimeZone());
            if (!cron.ok()) return Annotate(cron.status(), StrCat(node.where, ": ", path));
            if (cron->Next(kSomeTimeMs)) return node.text;
            return ErrorAt(node.where,
                           StrCat(path, " is ", Quoted(node.text), ", which never comes; correct the date"));
          },
          [](const std::string& text) { return Node::Scalar(text); }};
}

Type<std::string> VersionReference() {
  return {"a registered version, like name, name@alias or name/3",
          [](const Node& node, const std::string& path) -> absl::StatusOr<std::string> {
            if (node.kind != Node::Kind::kScalar)
              return WrongValue(node, path, "a version, like name@champion or name/3");
            absl::Status valid = ParseModelRef(node.text).status();
            if (!valid.ok()) return Annotate(valid, StrCat(node.where, ": ", path));
            return node.text;
          },
          [](const std::string& text) { return Node::Scalar(text); }};
}

// "flip", {crop: {padding: 4}}.
const FieldTable<AugmentSpec>& CropFields() {
  static const FieldTable<AugmentSpec> table = {
      MakeField("padding", &AugmentSpec::padding, WholeNumber(1, 1024), "Pixels of zero padding on each side."),
  };
  return table;
}

absl::StatusOr<AugmentSpec> ReadAugment(const Node& node, const std::string& path) {
  bool map = node.kind == Node::Kind::kMap && node.entries.size() == 1;
  Node name = map ? Node::Scalar(node.entries[0].key) : node;
  name.where = node.where;
  AugmentSpec augment;
  TANDEM_ASSIGN_OR_RETURN(augment.name, OneOf({"flip", "crop"}).read(name, path));
  if (!map) return augment;
  const Node& parameters = node.entries[0].value;
  if (augment.name == "flip") return ErrorAt(parameters.where, StrCat(path, ": flip takes no parameters"));
  TANDEM_RETURN_IF_ERROR(ReadFields(parameters, StrCat(path, ".crop"), CropFields(), augment));
  return augment;
}

Type<std::vector<AugmentSpec>> Augments() {
  constexpr std::string_view kDescribed = "a list of steps, like [flip, {crop: {padding: 4}}]";
  return {std::string(kDescribed),
          [=](const Node& node, const std::string& path) -> absl::StatusOr<std::vector<AugmentSpec>> {
            if (node.kind != Node::Kind::kList) return WrongValue(node, path, kDescribed);
            std::vector<AugmentSpec> augments;
            for (const Node& item : node.items) {
              TANDEM_ASSIGN_OR_RETURN(AugmentSpec augment, ReadAugment(item, path));
              if (std::ranges::find(augments, augment.name, &AugmentSpec::name) != augments.end()) {
                return ErrorAt(item.where, StrCat(path, ": ", augment.name, " is given twice"));
              }
              augments.push_back(std::move(augment));
            }
            return augments;
          },
          [](const std::vector<AugmentSpec>& augments) {
            Node list = Node::List({});
            for (const AugmentSpec& augment : augments) {
              Node item = Node::Scalar(augment.name);
              if (augment.name == "crop") {
                item = Node::Map();
                item.Set("crop", WriteFields(CropFields(), augment));
              }
              list.items.push_back(std::move(item));
            }
            return list;
          }};
}

Type<std::string> Alias() {
  Type<std::string> type = Name("alias");
  type.read = [read = std::move(type.read)](const Node& node, const std::string& path) -> absl::StatusOr<std::string> {
    TANDEM_ASSIGN_OR_RETURN(std::string alias, read(node, path));
    TANDEM_RETURN_IF_ERROR(Annotate(CheckAlias(alias), StrCat(node.where, ": ", path)));
    return alias;
  };
  return type;
}

// A number, or an alias.
Type<std::string> Bound() {
  return {"a number, or an alias like champion",
          [](const Node& node, const std::string& path) -> absl::StatusOr<std::string> {
            if (node.kind != Node::Kind::kScalar) return WrongValue(node, path, "a number, or an alias like champion");
            double number = 0;
            if (absl::SimpleAtod(node.text, &number) && std::isfinite(number)) return node.text;
            return Name("alias").read(node, path);
          },
          [](const std::string& text) { return Node::Scalar(text); }};
}

// --- the tables ---

const FieldTable<ModelSpec>& ModelFields() {
  static const FieldTable<ModelSpec> table = {
      OptionalField("architecture", &ModelSpec::architecture,
                    OneOf({"mlp", "lenet", "resnet8", "resnet20", "resnet18"}),
                    "A network that tandem makes, with fresh weights."),
      OptionalField("onnx", &ModelSpec::onnx, Text(), "An ONNX file on the server's machine to start from."),
      OptionalField("from", &ModelSpec::from, VersionReference(), "A registered version to start from."),
      OptionalField("input", &ModelSpec::input, SampleShape(), "Shape of one sample; without it, the data set's."),
      OptionalField("classes", &ModelSpec::classes, WholeNumber(1, 1'000'000),
                    "Without it, as many as the data set has."),
  };
  return table;
}

// Fields that belong to some variants (an optimizer's, a schedule's) are refused and left out in the others.
template <typename T>
Field<T> OnlyFor(std::vector<std::string> names, Field<T> field) {
  auto applies = [names = std::move(names)](const T& value) {
    return std::ranges::find(names, value.name) != names.end();
  };
  field.read = [=, read = std::move(field.read)](const Node& node, const std::string& path, T& out) -> absl::Status {
    if (!applies(out)) return ErrorAt(node.where, StrCat(path, " has no effect with ", out.name, "; remove it"));
    return read(node, path, out);
  };
  field.write = [=, write = std::move(field.write)](const T& in) -> std::optional<Node> {
    if (!applies(in)) return std::nullopt;
    return write(in);
  };
  return field;
}

const FieldTable<OptimizerSpec>& OptimizerFields() {
  static const FieldTable<OptimizerSpec> table = {
      MakeField("name", &OptimizerSpec::name, OneOf({"sgd", "adamw"}), "The update rule."),
      MakeField("lr", &OptimizerSpec::lr, Number(1e-12, 1000), "Peak learning rate: 0.05 for sgd, 0.001 for adamw."),
      OnlyFor<OptimizerSpec>({"sgd"}, MakeField("momentum", &OptimizerSpec::momentum, Number(0, 0.99999), "Momentum.")),
      OnlyFor<OptimizerSpec>(
          {"sgd"}, MakeField("nesterov", &OptimizerSpec::nesterov, TrueOrFalse(), "Nesterov's form; needs momentum.")),
      MakeField("weight_decay", &OptimizerSpec::weight_decay, Number(0, 100), "0.0005 for sgd, 0.01 for adamw."),
      OnlyFor<OptimizerSpec>({"adamw"},
                             MakeField("beta1", &OptimizerSpec::beta1, Number(0, 0.999999), "First moment.")),
      OnlyFor<OptimizerSpec>({"adamw"},
                             MakeField("beta2", &OptimizerSpec::beta2, Number(0, 0.99999999), "Second moment.")),
      OnlyFor<OptimizerSpec>({"adamw"}, MakeField("eps", &OptimizerSpec::eps, Number(1e-300, 1), "Added to the root.")),
  };
  return table;
}

std::string NameIn(const Node& map) {
  const Node* name = map.Find("name");
  return name == nullptr ? "" : name->text;
}

void PrepareOptimizer(const Node& map, OptimizerSpec& optimizer) {
  if (NameIn(map) == "adamw") {
    optimizer.name = "adamw";
    optimizer.lr = 0.001;
    optimizer.weight_decay = 0.01;
  }
  const Node* momentum = map.Find("momentum");
  double value = 0;
  bool none = momentum != nullptr && absl::SimpleAtod(momentum->text, &value) && value == 0;
  if (none) optimizer.nesterov = false;
}

const FieldTable<ScheduleSpec>& ScheduleFields() {
  static const FieldTable<ScheduleSpec> table = {
      MakeField("name", &ScheduleSpec::name, OneOf({"constant", "one_cycle", "cosine"}),
                "How lr moves over the steps."),
      MakeField("warmup_fraction", &ScheduleSpec::warmup_fraction, Number(0, 0.99),
                "Part of all steps in which lr rises; 0, and 0.3 for one_cycle."),
      OnlyFor<ScheduleSpec>({"one_cycle", "cosine"},
                            MakeField("final_fraction", &ScheduleSpec::final_fraction, Number(0, 1),
                                      "Last lr as a part of lr; 0 for cosine, 0.0001 for one_cycle.")),
  };
  return table;
}

void PrepareSchedule(const Node& map, ScheduleSpec& schedule) {
  std::string name = NameIn(map);
  if (name == "constant") schedule.name = name;
  if (name == "one_cycle") schedule = {.name = name, .warmup_fraction = 0.3, .final_fraction = 1e-4};
}

const FieldTable<CheckpointSpec>& CheckpointFields() {
  static const FieldTable<CheckpointSpec> table = {
      OptionalField("every_steps", &CheckpointSpec::every_steps, WholeNumber(1, kMaxCount), "Steps between two."),
      OptionalField("every_seconds", &CheckpointSpec::every_seconds, Seconds(0.1, kMaxSeconds),
                    "Time between two; 30 s if neither is given."),
  };
  return table;
}

const FieldTable<PromoteIf>& PromoteFields() {
  static const FieldTable<PromoteIf> table = {
      MakeField("metric", &PromoteIf::metric, OneOf({"accuracy", "loss"}), "Judged on the validation split."),
      OptionalField("better_than", &PromoteIf::better_than, Bound(),
                    "A number, or the alias to beat; without it, the alias that would move."),
  };
  return table;
}

const FieldTable<RegisterSpec>& RegisterFields() {
  static const FieldTable<RegisterSpec> table = {
      OptionalField("model", &RegisterSpec::model, Name("model name"), "The model that gets a new version."),
      MakeField("alias", &RegisterSpec::alias, Alias(), "Moved to the new version."),
      OptionalField("promote_if", &RegisterSpec::promote_if, Struct(PromoteFields()),
                    "Moves the alias only if this holds; else 'challenger' is moved."),
      MakeField("precision", &RegisterSpec::precision, OneOf(kServedPrecisions), "What the version is served in."),
  };
  return table;
}

const FieldTable<ResourceSpec>& ResourceFields() {
  static const FieldTable<ResourceSpec> table = {
      OptionalField("threads", &ResourceSpec::threads, WholeNumber(1, 4096), "Without it, all that training may use."),
      OptionalField("memory", &ResourceSpec::memory_bytes, Bytes(1'000'000, int64_t{1} << 50),
                    "Without it, estimated before the start."),
      OptionalField("cpu", &ResourceSpec::cpu, Number(0, 4096), "A cap, in CPUs; 0 = none."),
      OptionalField("processes", &ResourceSpec::processes, WholeNumber(0, 4'194'304),
                    "Processes and threads at the same time; 0 = no limit."),
      OptionalField("disk_write", &ResourceSpec::disk_write_bytes_per_s, Rate(), "Of the disk of `training.folder`."),
      OptionalField("disk_read", &ResourceSpec::disk_read_bytes_per_s, Rate(), "Of the disk of `training.folder`."),
      OptionalField("disk_iops", &ResourceSpec::disk_iops, WholeNumber(0, 1'000'000'000),
                    "Operations a second; 0 = no limit."),
  };
  return table;
}

const FieldTable<RecurringSpec>& RecurringFields() {
  static const FieldTable<RecurringSpec> table = {
      OptionalField("cron", &RecurringSpec::cron, CronText(), "Minute, hour, day, month, day of the week."),
      OptionalField("time_zone", &RecurringSpec::time_zone, TimeZone(), "Without it, the server's."),
      MakeField("catch_up", &RecurringSpec::catch_up, OneOf({"none", "one", "all"}),
                "Which of the runs that were missed are made up for."),
      MakeField("overlap", &RecurringSpec::overlap, OneOf({"skip", "queue", "cancel"}),
                "What happens when the former run has not ended: skip this one, queue it, or cancel the former."),
  };
  return table;
}

}  // namespace

const FieldTable<TrainSpec>& TrainFields() {
  static const FieldTable<TrainSpec> table = {
      OptionalField("name", &TrainSpec::name, Name("job name"), "Without it, the model's name or architecture."),
      MakeField("kind", &TrainSpec::kind, OneOf({"train"}), "What the job does."),
      MakeField("model", &TrainSpec::model, Struct(ModelFields()), "Exactly one of architecture, onnx, from."),
      OptionalField("dataset", &TrainSpec::dataset, Name("data set name"), "A data set that the server knows."),
      OptionalField("epochs", &TrainSpec::epochs, WholeNumber(1, kMaxCount), "Length; 5 if no length is given."),
      OptionalField("steps", &TrainSpec::steps, WholeNumber(1, kMaxCount), "Length in optimizer steps."),
      OptionalField("time_budget", &TrainSpec::time_budget_s, Seconds(0.001, kMaxSeconds), "Length in time."),
      MakeField("batch", &TrainSpec::batch, WholeNumber(1, kMaxBatch), "Samples in one optimizer step."),
      OptionalField("micro_batch", &TrainSpec::micro_batch, MicroBatch(),
                    "Samples that one thread takes at a time; the smaller of batch and 32 if not given."),
      MakeField("optimizer", &TrainSpec::optimizer, Struct<OptimizerSpec>(OptimizerFields(), "name", PrepareOptimizer),
                "The update rule and its numbers."),
      MakeField("schedule", &TrainSpec::schedule, Struct<ScheduleSpec>(ScheduleFields(), "name", PrepareSchedule),
                "The learning rate over time."),
      MakeField("precision", &TrainSpec::precision, OneOf({"auto", "fp32", "bf16", "fp64"}),
                "auto takes bf16 where the CPU has it."),
      OptionalField("augment", &TrainSpec::augment, Augments(), "Random changes to each training image."),
      MakeField("seed", &TrainSpec::seed, Unsigned64(), "Begins every random stream of the run."),
      MakeField("label_smoothing", &TrainSpec::label_smoothing, Number(0, 0.99), "Of the cross-entropy."),
      OptionalField("train", &TrainSpec::train, Texts(), "Patterns (* and ?): only these weights are trained."),
      OptionalField("freeze", &TrainSpec::freeze, Texts(), "Patterns (* and ?): these weights are not trained."),
      OptionalField("tie", &TrainSpec::tie, TextLists(), "Groups of weights that stay equal."),
      MakeField("priority", &TrainSpec::priority, WholeNumber(-100, 100), "Higher starts first."),
      MakeField("resources", &TrainSpec::resources, Struct(ResourceFields()), "What the job may take."),
      MakeField("checkpoint", &TrainSpec::checkpoint, Struct(CheckpointFields()), "How often state is saved."),
      OptionalField("register", &TrainSpec::register_as, Struct<RegisterSpec>(RegisterFields(), "model"),
                    "Makes the result a version of a model."),
      OptionalField("window", &TrainSpec::window, Name("window name"), "Trains only while this window is open."),
      OptionalField("recurring", &TrainSpec::recurring, Struct<RecurringSpec>(RecurringFields(), "cron"),
                    "When the job is submitted, again and again."),
      OptionalField("time_limit", &TrainSpec::time_limit_s, Seconds(0, kMaxSeconds),
                    "Running time of all attempts together, after which it ends as timed out; 0 = none."),
  };
  return table;
}

}  // namespace tandem::spec
