#include "spec/model_config.h"

#include <algorithm>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "base/text.h"
#include "spec/document.h"
#include "spec/fields.h"

namespace tandem::spec {
namespace {

constexpr int kMaxRows = 4096;
constexpr size_t kMaxSizes = 64;
constexpr int kMaxVersionNumber = 1'000'000'000;
constexpr size_t kMaxListedVersions = 1024;
constexpr double kMaxMillis = 3'600'000;
constexpr size_t kMaxParts = 256;  // controls and states of a sequence model

// WholeNumber for a member that is an int.
Type<int> Int(int min, int max) {
  Type<int64_t> whole = WholeNumber(min, max);
  return {whole.described,
          [read = whole.read](const Node& node, const std::string& path) -> absl::StatusOr<int> {
            TANDEM_ASSIGN_OR_RETURN(int64_t value, read(node, path));
            return static_cast<int>(value);
          },
          [](const int& value) { return Node::Scalar(StrCat(value)); }};
}

template <typename V>
Type<std::vector<V>> ListOf(Type<V> item, size_t max, std::string described) {
  return {described,
          [item, max, described](const Node& node, const std::string& path) -> absl::StatusOr<std::vector<V>> {
            if (node.kind != Node::Kind::kList || node.items.size() > max) return WrongValue(node, path, described);
            std::vector<V> values;
            for (size_t i = 0; i < node.items.size(); ++i) {
              TANDEM_ASSIGN_OR_RETURN(V value, item.read(node.items[i], StrCat(path, ".", i)));
              values.push_back(std::move(value));
            }
            return values;
          },
          [write = item.write](const std::vector<V>& values) {
            Node list = Node::List({});
            for (const V& value : values) list.items.push_back(write(value));
            return list;
          }};
}

Type<std::vector<int>> BatchSizes() {
  return ListOf<int>(Int(1, kMaxRows), kMaxSizes,
                     StrCat("a list of up to ", kMaxSizes, " numbers of rows from 1 to ", kMaxRows, ", like [4, 8]"));
}

// --- versions ---

constexpr std::string_view kVersionsDescribed = "none, all, latest:N (the N newest), or version numbers like [1, 4]";

std::optional<int> VersionNumber(std::string_view text) {
  int number = 0;
  if (!absl::SimpleAtoi(AbslView(text), &number) || number < 1 || number > kMaxVersionNumber) return std::nullopt;
  return number;
}

// The numbers of "1,4", ascending; nothing if one is none.
std::optional<std::set<int>> ListedVersions(std::string_view text) {
  std::set<int> numbers;
  for (absl::string_view piece : absl::StrSplit(AbslView(text), ',')) {
    std::optional<int> number = VersionNumber(StdView(piece));
    if (!number) return std::nullopt;
    numbers.insert(*number);
  }
  if (numbers.size() > kMaxListedVersions) return std::nullopt;
  return numbers;
}

std::optional<std::string> CanonicalVersions(std::string_view text) {
  constexpr std::string_view kLatest = "latest:";
  if (text == "none") return "";
  if (text == "all") return "all";
  if (text == "latest") return "latest:1";
  if (text.starts_with(kLatest)) {
    std::optional<int> count = VersionNumber(text.substr(kLatest.size()));
    return count ? std::optional(StrCat(kLatest, *count)) : std::nullopt;
  }
  std::optional<std::set<int>> numbers = ListedVersions(text);
  return numbers ? std::optional<std::string>(absl::StrJoin(*numbers, ",")) : std::nullopt;
}

Type<std::string> Versions() {
  return {std::string(kVersionsDescribed),
          [](const Node& node, const std::string& path) -> absl::StatusOr<std::string> {
            std::string text = node.text;
            if (node.kind == Node::Kind::kList) {
              std::vector<std::string> items;
              for (const Node& item : node.items) items.push_back(item.text);
              text = items.empty() ? "none" : absl::StrJoin(items, ",");
            }
            std::optional<std::string> versions;
            if (node.kind == Node::Kind::kList || node.kind == Node::Kind::kScalar) versions = CanonicalVersions(text);
            if (!versions) return WrongValue(node, path, kVersionsDescribed);
            return *std::move(versions);
          },
          [](const std::string& text) -> Node {
            if (text.empty()) return Node::Scalar("none");
            std::optional<std::set<int>> numbers = ListedVersions(text);
            if (!numbers) return Node::Scalar(text);
            Node list = Node::List({});
            for (int number : *numbers) list.items.push_back(Node::Scalar(StrCat(number)));
            return list;
          }};
}

// --- the parts ---

const FieldTable<CanaryConfig>& CanaryFields() {
  static const FieldTable<CanaryConfig> table = {
      MakeField("max_error_rate", &CanaryConfig::max_error_rate, Share(0),
                "A canary that fails more often than the champion by this is rolled back."),
      MakeField("max_p99_ratio", &CanaryConfig::max_p99_ratio, Number(1, 1000),
                "So is one whose p99 is more than this times the champion's of the same time."),
      MakeField("min_requests", &CanaryConfig::min_requests, Int(1, 1'000'000'000),
                "Requests of the canary before it is judged."),
  };
  return table;
}

const FieldTable<SequenceConfig::Control>& ControlFields() {
  using Control = SequenceConfig::Control;
  static const FieldTable<Control> table = {
      OptionalField("input", &Control::input, Text(), "The model's input."),
      OptionalField("kind", &Control::kind, OneOf({"start", "end", "ready", "id"}), "What it is told."),
  };
  return table;
}

const FieldTable<SequenceConfig::State>& StateFields() {
  using State = SequenceConfig::State;
  static const FieldTable<State> table = {
      OptionalField("input", &State::input, Text(), "The input that gets the state; zeros at the start."),
      OptionalField("output", &State::output, Text(), "The output that is the state of the next request."),
  };
  return table;
}

const FieldTable<SequenceConfig>& SequenceFields() {
  static const FieldTable<SequenceConfig> table = {
      OptionalField("strategy", &SequenceConfig::strategy, OneOf({"direct", "oldest"}),
                    "direct: a sequence keeps its slot of a batch; oldest: batches of the oldest."),
      MakeField("max_candidates", &SequenceConfig::max_candidates, Int(1, 4096), "Sequences open at the same time."),
      MakeField("max_idle_s", &SequenceConfig::max_idle_s, Number(0.001, 86'400),
                "A sequence that was silent this long is ended."),
      OptionalField("controls", &SequenceConfig::controls,
                    ListOf(Struct(ControlFields()), kMaxParts, "a list like [{input: START, kind: start}]"),
                    "Inputs that tell the model where it is: start, end, ready, id."),
      OptionalField("states", &SequenceConfig::states,
                    ListOf(Struct(StateFields()), kMaxParts, "a list like [{input: h_in, output: h_out}]"),
                    "Outputs that come back as inputs of the sequence's next request."),
  };
  return table;
}

// YAML keeps longer keys, and those with control characters, in another form than it reads them.
bool CanBeKey(std::string_view text) {
  return !text.empty() && text.size() <= 512 &&
         std::ranges::none_of(text, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

Type<std::map<std::string, std::vector<std::string>>> Labels() {
  using Map = std::map<std::string, std::vector<std::string>>;
  std::string described = "a map of output: list of class names";
  Type<std::vector<std::string>> names = ListOf(Text(), kMaxNodes, "a list of class names");
  return {described,
          [described, names](const Node& node, const std::string& path) -> absl::StatusOr<Map> {
            if (node.kind != Node::Kind::kMap) return WrongValue(node, path, described);
            Map map;
            for (const Node::Entry& entry : node.entries) {
              if (!CanBeKey(entry.key)) {
                return ErrorAt(node.where, StrCat(path, " has the output '", Escaped(entry.key),
                                                  "'; write 1 to 512 bytes without control characters"));
              }
              TANDEM_ASSIGN_OR_RETURN(map[entry.key], names.read(entry.value, Join(path, Escaped(entry.key))));
            }
            return map;
          },
          [names](const Map& map) {
            Node out = Node::Map();
            for (const auto& [output, list] : map) out.Set(output, names.write(list));
            return out;
          }};
}

FieldTable<ModelConfig> EngineFields() {
  return {
      MakeField("engine", &ModelConfig::engine, Name("engine"),
                "auto: the best that was measured, else the server's; or an engine's name."),
      MakeField("device", &ModelConfig::device, Text(), "As the engine names it: CPU, GPU, NPU, AUTO."),
      MakeField("isolation", &ModelConfig::isolation, OneOf({"thread", "process"}),
                "thread: in the daemon; process: in a child of its own."),
      MakeField("run_timeout_s", &ModelConfig::run_timeout_s, Number(0.001, 86'400),
                "Of one run in a child, which is replaced then."),
      MakeField("instances", &ModelConfig::instances, Int(0, 64),
                "Requests that run at the same time; 0: as many as help, inside the serving share."),
      MakeField("max_instances", &ModelConfig::max_instances, Int(0, 64),
                "Of instances: 0; 0: one for each request thread."),
      MakeField("threads", &ModelConfig::threads, Int(1, 64), "Of one instance."),
  };
}

FieldTable<ModelConfig> BatchFields() {
  return {
      MakeField("max_batch_size", &ModelConfig::max_batch_size, Int(0, kMaxRows),
                "Rows that are run together; 0: requests are not merged."),
      MakeField("preferred_batch_sizes", &ModelConfig::preferred_batch_sizes, BatchSizes(),
                "Ascending, at most max_batch_size."),
      MakeField("max_queue_delay_ms", &ModelConfig::max_queue_delay_ms, Number(0, 60'000),
                "How long a request may wait for others; 0: only while no instance is idle."),
      MakeField("pad", &ModelConfig::pad, TrueOrFalse(), "Fill a batch up to the next preferred size with zeros."),
  };
}

FieldTable<ModelConfig> QueueFields() {
  return {
      MakeField("priority", &ModelConfig::priority, Int(1, 10), "Among models; 1 is most urgent."),
      MakeField("priority_levels", &ModelConfig::priority_levels, Int(0, 16),
                "Levels of requests within the model; 0: none."),
      MakeField("default_priority", &ModelConfig::default_priority, Int(0, 16),
                "Level of a request that names none; 0: the middle."),
      MakeField("queue_limit", &ModelConfig::queue_limit, Int(1, 1'000'000),
                "Requests that may wait; 256: the server's."),
      MakeField("queue_bytes", &ModelConfig::queue_bytes, Bytes(1'000'000, int64_t{1} << 40), "Bytes of their inputs."),
      MakeField("timeout_ms", &ModelConfig::timeout_ms, Number(0, kMaxMillis),
                "Of a request that names none; 0: 30 s."),
      MakeField("slo_ms", &ModelConfig::slo_ms, Number(0, kMaxMillis), "Wanted p99; 0: the server's."),
      MakeField("response_cache", &ModelConfig::response_cache, TrueOrFalse(),
                "Equal requests are answered from memory."),
      MakeField("lazy", &ModelConfig::lazy, TrueOrFalse(),
                "Loaded by its first request, unloaded when memory is short."),
      MakeField("warm_up_batch_sizes", &ModelConfig::warm_up_batch_sizes, BatchSizes(),
                "Run before a version serves; none: 1 and, unless lazy, in 2 s at most the sizes of batches."),
  };
}

FieldTable<ModelConfig> VersionFields() {
  return {
      MakeField("versions", &ModelConfig::versions, Versions(), "Served beside those that aliases point to."),
      MakeField("approval", &ModelConfig::approval, TrueOrFalse(),
                "A version becomes champion only once an operator approved it."),
      MakeField("canary", &ModelConfig::canary, Struct(CanaryFields()), "When a canary is rolled back by itself."),
      MakeField("sequence", &ModelConfig::sequence, Struct(SequenceFields(), "strategy"),
                "Requests with one id keep their state between them."),
      MakeField("labels", &ModelConfig::labels, Labels(), "Names of classes, for the classification extension."),
  };
}

const FieldTable<ModelConfig>& ConfigFields() {
  static const FieldTable<ModelConfig> table = [] {
    FieldTable<ModelConfig> all;
    for (FieldTable<ModelConfig> part : {EngineFields(), BatchFields(), QueueFields(), VersionFields()}) {
      std::ranges::move(part, std::back_inserter(all));
    }
    return all;
  }();
  return table;
}

// --- rules over several keys; each message stands at the key that is to be changed ---

std::string WhereOf(const Node& root, std::string_view key) {
  const Node* value = root.Find(key);
  return value == nullptr ? root.where : value->where;
}

absl::Status CheckBatching(const Node& root, const ModelConfig& config) {
  const std::vector<int>& preferred = config.preferred_batch_sizes;
  const std::string where = WhereOf(root, "preferred_batch_sizes");
  for (size_t i = 0; i < preferred.size(); ++i) {
    if (i > 0 && preferred[i] <= preferred[i - 1]) {
      return ErrorAt(where, StrCat("preferred_batch_sizes has ", preferred[i], " after ", preferred[i - 1],
                                   "; write them ascending, each once"));
    }
    if (preferred[i] > config.max_batch_size) {
      return ErrorAt(where, StrCat("preferred_batch_sizes has ", preferred[i], ", above max_batch_size, which is ",
                                   config.max_batch_size, "; raise that, or take the size away"));
    }
  }
  if (config.pad && preferred.empty()) {
    return ErrorAt(WhereOf(root, "pad"),
                   "pad is true, but there are no preferred_batch_sizes to fill up to; give them");
  }
  for (int size : config.warm_up_batch_sizes) {
    if (config.max_batch_size == 0 || size <= config.max_batch_size) continue;
    return ErrorAt(WhereOf(root, "warm_up_batch_sizes"),
                   StrCat("warm_up_batch_sizes has ", size, ", above max_batch_size, which is ", config.max_batch_size,
                          "; no batch is that large"));
  }
  return absl::OkStatus();
}

absl::Status CheckInstances(const Node& root, const ModelConfig& config) {
  if (config.default_priority > config.priority_levels) {
    return ErrorAt(WhereOf(root, "default_priority"),
                   StrCat("default_priority is ", config.default_priority, ", above priority_levels, which is ",
                          config.priority_levels, "; 1 is the most urgent level, priority_levels the least"));
  }
  if (config.instances > 0 && config.max_instances > 0) {
    return ErrorAt(WhereOf(root, "max_instances"),
                   StrCat("max_instances is ", config.max_instances, ", but instances is fixed at ", config.instances,
                          "; take one of the two away"));
  }
  return absl::OkStatus();
}

// Names the key that is empty or was given before.
absl::Status CheckOnce(const Node& node, const std::string& path, const std::string& value,
                       std::set<std::string>* seen) {
  if (value.empty()) return ErrorAt(node.where, StrCat(path, " is missing"));
  if (seen->insert(value).second) return absl::OkStatus();
  return ErrorAt(node.where, StrCat(path, " is ", Quoted(value), ", which stands before it already"));
}

absl::Status CheckSequence(const Node& root, const SequenceConfig& sequence) {
  const Node* node = root.Find("sequence");
  if (node == nullptr) return absl::OkStatus();
  if (sequence.strategy.empty() && !(sequence.controls.empty() && sequence.states.empty())) {
    return ErrorAt(node->where, "sequence.strategy is missing; give direct or oldest");
  }
  std::set<std::string> inputs, kinds, outputs;
  for (size_t i = 0; i < sequence.controls.size(); ++i) {
    const std::string path = StrCat("sequence.controls.", i);
    const Node& at = node->Find("controls")->items[i];
    TANDEM_RETURN_IF_ERROR(CheckOnce(at, path + ".input", sequence.controls[i].input, &inputs));
    TANDEM_RETURN_IF_ERROR(CheckOnce(at, path + ".kind", sequence.controls[i].kind, &kinds));
  }
  for (size_t i = 0; i < sequence.states.size(); ++i) {
    const std::string path = StrCat("sequence.states.", i);
    const Node& at = node->Find("states")->items[i];
    TANDEM_RETURN_IF_ERROR(CheckOnce(at, path + ".input", sequence.states[i].input, &inputs));
    TANDEM_RETURN_IF_ERROR(CheckOnce(at, path + ".output", sequence.states[i].output, &outputs));
  }
  return absl::OkStatus();
}

// --- writing ---

bool Same(const Node& a, const Node& b) {
  return a.kind == b.kind && a.text == b.text &&
         std::ranges::equal(a.items, b.items, [](const Node& x, const Node& y) { return Same(x, y); }) &&
         std::ranges::equal(a.entries, b.entries, [](const Node::Entry& x, const Node::Entry& y) {
           return x.key == y.key && Same(x.value, y.value);
         });
}

// The entries of `map` that `base` lacks or has otherwise.
Node Changed(const Node& map, const Node& base) {
  Node out = Node::Map();
  for (const Node::Entry& entry : map.entries) {
    const Node* before = base.Find(entry.key);
    if (before != nullptr && Same(entry.value, *before)) continue;
    bool maps = before != nullptr && entry.value.kind == Node::Kind::kMap && before->kind == Node::Kind::kMap;
    out.Set(entry.key, maps ? Changed(entry.value, *before) : entry.value);
  }
  return out;
}

template <typename T>
void AddRows(const FieldTable<T>& table, const T& defaults, std::string_view prefix, std::string* out) {
  for (const Field<T>& field : table) {
    std::optional<Node> value = field.write(defaults);
    bool plain = value && value->kind == Node::Kind::kScalar;
    StrAppend(out, "| `", prefix, field.key, "` | ", field.described, " | ", plain ? value->text : std::string("none"),
              " | ", field.help, " |\n");
  }
}

}  // namespace

absl::Status CheckServedPrecision(std::string_view precision) {
  if (std::ranges::find(kServedPrecisions, precision) != kServedPrecisions.end()) return absl::OkStatus();
  return InvalidArgument("precision is '", precision, "', must be one of ", absl::StrJoin(kServedPrecisions, ", "));
}

absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view text, std::string_view source,
                                             const std::vector<std::string>& overrides) {
  TANDEM_ASSIGN_OR_RETURN(Node root, ParseDocument(text, source));
  if (root.kind != Node::Kind::kMap) {
    return ErrorAt(root.where, "a model's configuration is a map of keys, like 'max_batch_size: 8'");
  }
  for (const std::string& assignment : overrides) {
    TANDEM_RETURN_IF_ERROR(ApplyOverride(assignment, {{"sequence", "strategy"}}, root));
  }
  ModelConfig config;
  TANDEM_RETURN_IF_ERROR(ReadFields(root, "", ConfigFields(), config));
  TANDEM_RETURN_IF_ERROR(CheckBatching(root, config));
  TANDEM_RETURN_IF_ERROR(CheckInstances(root, config));
  TANDEM_RETURN_IF_ERROR(CheckSequence(root, config.sequence));
  return config;
}

std::string ToYaml(const ModelConfig& config) {
  Node changed = Changed(WriteFields(ConfigFields(), config), WriteFields(ConfigFields(), ModelConfig()));
  return changed.entries.empty() ? "" : EmitYaml(changed);
}

std::string ModelConfigMarkdown() {
  std::string out = "| key | value | default | |\n|---|---|---|---|\n";
  FieldTable<ModelConfig> scalars = ConfigFields();
  std::erase_if(scalars, [](const auto& field) { return field.key == "canary" || field.key == "sequence"; });
  AddRows(scalars, ModelConfig(), "", &out);
  AddRows(CanaryFields(), CanaryConfig(), "canary.", &out);
  AddRows(SequenceFields(), SequenceConfig(), "sequence.", &out);
  return out;
}

std::vector<int32_t> VersionsServed(std::string_view versions, std::vector<int32_t> existing) {
  std::ranges::sort(existing);
  if (versions == "all") return existing;
  constexpr std::string_view kLatest = "latest:";
  if (versions.starts_with(kLatest)) {
    size_t count = static_cast<size_t>(VersionNumber(versions.substr(kLatest.size())).value_or(0));
    if (existing.size() > count) existing.erase(existing.begin(), existing.end() - static_cast<ptrdiff_t>(count));
    return existing;
  }
  std::set<int> listed = versions.empty() ? std::set<int>() : ListedVersions(versions).value_or(std::set<int>());
  std::erase_if(existing, [&](int32_t version) { return !listed.contains(version); });
  return existing;
}

}  // namespace tandem::spec
