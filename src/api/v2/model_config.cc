#include "api/v2/model_config.h"

#include <algorithm>
#include <functional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "api/v2/message_reader.h"
#include "base/status.h"
#include "spec/fields.h"

namespace tandem::api::v2 {
namespace {

using spec::Node;

constexpr int64_t kMostRows = 4096, kMostInstances = 64;

absl::StatusOr<bool> Flag(const Node& node, const std::string& path) { return spec::TrueOrFalse().read(node, path); }

// Whether it is [0, 1] in any of the ways to write that.
bool IsFalseTrue(const Node& list) {
  auto is = [](const Node& item, std::string_view word, double wanted) {
    double number = -1;
    return item.text == word || (absl::SimpleAtod(item.text, &number) && number == wanted);
  };
  return list.items.size() == 2 && is(list.items[0], "false", 0) && is(list.items[1], "true", 1);
}

class Translator : private MessageReader {
 public:
  absl::Status Read(const Node& root);
  TranslatedConfig Take() {
    out_.ignored = TakeIgnored();
    return std::move(out_);
  }

 private:
  absl::Status ReadInputs(const Node& value, const std::string& path);
  absl::Status ReadOutput(const Node& value, const std::string& path);
  absl::Status ReadVersionPolicy(const Node& value, const std::string& path);
  absl::Status ReadPreferredSizes(const Node& value, const std::string& path);
  absl::Status ReadDynamicBatching(const Node& value, const std::string& path);
  absl::Status ReadQueuePolicy(const Node& value, const std::string& path);
  absl::Status ReadSequenceBatching(const Node& value, const std::string& path);
  absl::Status ReadStrategy(const Node& value, const std::string& path);
  absl::Status ReadControlInput(const Node& value, const std::string& path);
  absl::Status ReadControl(const Node& value, const std::string& path, spec::SequenceConfig::Control* control);
  absl::Status ReadState(const Node& value, const std::string& path);
  absl::Status ReadInstanceGroup(const Node& value, const std::string& path);
  absl::Status ReadWarmUp(const Node& value, const std::string& path);
  absl::Status ReadParameters(const Node& value, const std::string& path);
  absl::Status ReadTransactionPolicy(const Node& value, const std::string& path);
  absl::Status Finish();

  TranslatedConfig out_;
  std::vector<std::string> overrides_;
};

// The file says them; what changes how a client must send them cannot be had.
absl::Status Translator::ReadInputs(const Node& value, const std::string& path) {
  return ForEach(value, path, [this](const Node& input, const std::string& at) {
    return ReadMap(input, at, {{"name", Accept}, {"data_type", Accept}, {"dims", Accept}, {"format", Accept}});
  });
}

absl::Status Translator::ReadOutput(const Node& value, const std::string& path) {
  std::string name, labels;
  TANDEM_RETURN_IF_ERROR(
      ReadMap(value, path,
              {{"name", Text(&name)}, {"label_filename", Text(&labels)}, {"data_type", Accept}, {"dims", Accept}}));
  if (!labels.empty()) out_.label_files[name] = labels;
  return absl::OkStatus();
}

absl::Status Translator::ReadVersionPolicy(const Node& value, const std::string& path) {
  std::string& versions = out_.config.versions;
  auto latest = [&](const Node& node, const std::string& at) {
    versions = "latest:1";
    return ReadMap(node, at, {{"num_versions", [&](const Node& count, const std::string& count_path) -> absl::Status {
                                 TANDEM_ASSIGN_OR_RETURN(int64_t n, Whole(count, count_path, 1, 1'000'000'000));
                                 versions = StrCat("latest:", n);
                                 return absl::OkStatus();
                               }}});
  };
  auto specific = [&](const Node& node, const std::string& at) {
    std::vector<int64_t> numbers;
    auto add = [&](const Node& version, const std::string& version_path) -> absl::Status {
      TANDEM_ASSIGN_OR_RETURN(numbers.emplace_back(), Whole(version, version_path, 1, 1'000'000'000));
      return absl::OkStatus();
    };
    absl::Status status = ReadMap(
        node, at, {{"versions", [&](const Node& list, const std::string& p) { return ForEach(list, p, add); }}});
    versions = absl::StrJoin(numbers, ",");
    return status;
  };
  auto all = [&](const Node&, const std::string&) {
    versions = "all";
    return absl::OkStatus();
  };
  return ReadMap(value, path, {{"latest", latest}, {"all", all}, {"specific", specific}});
}

absl::Status Translator::ReadPreferredSizes(const Node& value, const std::string& path) {
  std::vector<int>& sizes = out_.config.preferred_batch_sizes;
  TANDEM_RETURN_IF_ERROR(ForEach(value, path, [&](const Node& item, const std::string& at) -> absl::Status {
    TANDEM_ASSIGN_OR_RETURN(int64_t size, Whole(item, at, 1, kMostRows));
    sizes.push_back(static_cast<int>(size));
    return absl::OkStatus();
  }));
  std::ranges::sort(sizes);
  sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
  return absl::OkStatus();
}

absl::Status Translator::ReadDynamicBatching(const Node& value, const std::string& path) {
  spec::ModelConfig& config = out_.config;
  return ReadMap(value, path,
                 {{"preferred_batch_size", std::bind_front(&Translator::ReadPreferredSizes, this)},
                  {"max_queue_delay_microseconds", Millis(&config.max_queue_delay_ms)},
                  {"priority_levels", Number(0, 16, &config.priority_levels)},
                  {"default_priority_level", Number(0, 16, &config.default_priority)},
                  {"default_queue_policy", std::bind_front(&Translator::ReadQueuePolicy, this)}});
}

absl::Status Translator::ReadQueuePolicy(const Node& value, const std::string& path) {
  int64_t limit = 0;
  auto timeout_action = [this](const Node& action, const std::string& at) {
    if (action.text != "REJECT") Ignore(action, at);
    return absl::OkStatus();
  };
  TANDEM_RETURN_IF_ERROR(ReadMap(value, path,
                                 {{"default_timeout_microseconds", Millis(&out_.config.timeout_ms)},
                                  {"max_queue_size", Number(0, 1'000'000, &limit)},
                                  {"allow_timeout_override", Accept},
                                  {"timeout_action", timeout_action}}));
  // 0 is "no limit" there; every queue has one here.
  if (limit > 0) out_.config.queue_limit = static_cast<int>(limit);
  return absl::OkStatus();
}

absl::Status Translator::ReadSequenceBatching(const Node& value, const std::string& path) {
  spec::SequenceConfig& sequence = out_.config.sequence;
  auto idle = [&](const Node& node, const std::string& at) -> absl::Status {
    double millis = 0;
    TANDEM_RETURN_IF_ERROR(Millis(&millis)(node, at));
    if (millis > 0) sequence.max_idle_s = millis / 1000;
    return absl::OkStatus();
  };
  auto strategy = [&](std::string_view name) {
    return [this, &sequence, name](const Node& node, const std::string& at) {
      sequence.strategy = name;
      return ReadStrategy(node, at);
    };
  };
  auto controls = [this](const Node& node, const std::string& at) {
    return ForEach(node, at, std::bind_front(&Translator::ReadControlInput, this));
  };
  auto states = [this](const Node& node, const std::string& at) {
    return ForEach(node, at, std::bind_front(&Translator::ReadState, this));
  };
  sequence.strategy = "direct";
  return ReadMap(value, path,
                 {{"max_sequence_idle_microseconds", idle},
                  {"direct", strategy("direct")},
                  {"oldest", strategy("oldest")},
                  {"control_input", controls},
                  {"state", states}});
}

absl::Status Translator::ReadStrategy(const Node& value, const std::string& path) {
  spec::ModelConfig& config = out_.config;
  return ReadMap(value, path,
                 {{"max_candidate_sequences", Number(1, 4096, &config.sequence.max_candidates)},
                  {"max_queue_delay_microseconds", Millis(&config.max_queue_delay_ms)},
                  {"preferred_batch_size", std::bind_front(&Translator::ReadPreferredSizes, this)}});
}

absl::Status Translator::ReadControlInput(const Node& value, const std::string& path) {
  spec::SequenceConfig::Control control;
  auto read_control = [&](const Node& node, const std::string& at) {
    return ForEach(node, at, [&](const Node& item, const std::string& p) { return ReadControl(item, p, &control); });
  };
  TANDEM_RETURN_IF_ERROR(ReadMap(value, path, {{"name", Text(&control.input)}, {"control", read_control}}));
  if (control.kind.empty()) return spec::ErrorAt(value.where, StrCat(path, " has no control with a kind"));
  out_.config.sequence.controls.push_back(std::move(control));
  return absl::OkStatus();
}

absl::Status Translator::ReadControl(const Node& value, const std::string& path,
                                     spec::SequenceConfig::Control* control) {
  static const std::map<std::string_view, std::string_view> kKinds = {{"CONTROL_SEQUENCE_START", "start"},
                                                                      {"CONTROL_SEQUENCE_END", "end"},
                                                                      {"CONTROL_SEQUENCE_READY", "ready"},
                                                                      {"CONTROL_SEQUENCE_CORRID", "id"}};
  auto kind = [&](const Node& node, const std::string& at) -> absl::Status {
    auto found = kKinds.find(node.text);
    if (found == kKinds.end()) {
      return spec::WrongValue(node, at, "CONTROL_SEQUENCE_START, _END, _READY or _CORRID");
    }
    control->kind = found->second;
    return absl::OkStatus();
  };
  auto false_true = [](const Node& node, const std::string& at) -> absl::Status {
    if (node.items.empty() || IsFalseTrue(node)) return absl::OkStatus();
    return spec::ErrorAt(node.where, StrCat(at, " must be [0, 1]: other values cannot be given to a model here"));
  };
  // The first kind of the enum is what a document leaves out.
  control->kind = "start";
  return ReadMap(value, path,
                 {{"kind", kind},
                  {"int32_false_true", false_true},
                  {"fp32_false_true", false_true},
                  {"bool_false_true", false_true},
                  {"data_type", Accept}});
}

absl::Status Translator::ReadState(const Node& value, const std::string& path) {
  spec::SequenceConfig::State state;
  auto initial = [](const Node& node, const std::string& at) -> absl::Status {
    const Node* file = node.Find("data_file");
    if (file == nullptr || IsDefault(*file)) return absl::OkStatus();
    return spec::ErrorAt(file->where, StrCat(at, " is a file, but a state begins with zeros here"));
  };
  auto initials = [&](const Node& node, const std::string& at) { return ForEach(node, at, initial); };
  TANDEM_RETURN_IF_ERROR(ReadMap(value, path,
                                 {{"input_name", Text(&state.input)},
                                  {"output_name", Text(&state.output)},
                                  {"data_type", Accept},
                                  {"dims", Accept},
                                  {"use_same_buffer_for_input_output", Accept},
                                  {"initial_state", initials}}));
  out_.config.sequence.states.push_back(std::move(state));
  return absl::OkStatus();
}

absl::Status Translator::ReadInstanceGroup(const Node& value, const std::string& path) {
  int64_t count = 1;
  auto kind = [this](const Node& node, const std::string& at) {
    if (node.text == "KIND_GPU") Ignore(node, at);
    return absl::OkStatus();
  };
  TANDEM_RETURN_IF_ERROR(
      ReadMap(value, path, {{"count", Number(0, kMostInstances, &count)}, {"kind", kind}, {"name", Accept}}));
  out_.config.instances += static_cast<int>(std::max<int64_t>(count, 1));
  if (out_.config.instances <= kMostInstances) return absl::OkStatus();
  return spec::ErrorAt(value.where, StrCat("instance_group has ", out_.config.instances, " instances in all, at most ",
                                           kMostInstances, " can be had"));
}

absl::Status Translator::ReadWarmUp(const Node& value, const std::string& path) {
  int64_t rows = 0;
  TANDEM_RETURN_IF_ERROR(ReadMap(value, path, {{"batch_size", Number(0, kMostRows, &rows)}, {"name", Accept}}));
  std::vector<int>& sizes = out_.config.warm_up_batch_sizes;
  const int size = static_cast<int>(std::max<int64_t>(rows, 1));
  if (std::ranges::find(sizes, size) == sizes.end()) sizes.push_back(size);
  return absl::OkStatus();
}

absl::Status Translator::ReadParameters(const Node& value, const std::string& path) {
  constexpr std::string_view kPrefix = "tandem.";
  if (value.kind != Node::Kind::kMap) return spec::WrongValue(value, path, "a map of keys");
  for (const Node::Entry& entry : value.entries) {
    const std::string key_path = spec::Join(path, entry.key);
    if (!entry.key.starts_with(kPrefix)) {
      Ignore(entry.value, key_path);
      continue;
    }
    std::string text;
    TANDEM_RETURN_IF_ERROR(ReadMap(entry.value, key_path, {{"string_value", Text(&text)}}));
    overrides_.push_back(StrCat(entry.key.substr(kPrefix.size()), "=", text));
  }
  return absl::OkStatus();
}

absl::Status Translator::ReadTransactionPolicy(const Node& value, const std::string& path) {
  return ReadMap(value, path, {{"decoupled", [](const Node& node, const std::string& at) -> absl::Status {
                                  TANDEM_ASSIGN_OR_RETURN(bool decoupled, Flag(node, at));
                                  if (!decoupled) return absl::OkStatus();
                                  return spec::ErrorAt(node.where, StrCat(at,
                                                                          ": decoupled models cannot be served; a "
                                                                          "request has exactly one answer here"));
                                }}});
}

absl::Status Translator::Read(const Node& root) {
  spec::ModelConfig& config = out_.config;
  auto each = [this](absl::Status (Translator::*read)(const Node&, const std::string&)) -> Reader {
    return [this, read](const Node& value, const std::string& path) {
      return ForEach(value, path, std::bind_front(read, this));
    };
  };
  auto cache = [&](const Node& value, const std::string& path) {
    return ReadMap(value, path, {{"enable", [&](const Node& node, const std::string& at) -> absl::Status {
                                    TANDEM_ASSIGN_OR_RETURN(config.response_cache, Flag(node, at));
                                    return absl::OkStatus();
                                  }}});
  };
  auto ensemble = [](const Node& value, const std::string& path) -> absl::Status {
    if (IsDefault(value)) return absl::OkStatus();
    return spec::ErrorAt(value.where, StrCat(path, ": ensembles cannot be served; serve their models one by one"));
  };
  TANDEM_RETURN_IF_ERROR(
      ReadMap(root, "",
              {{"name", Text(&out_.name)},
               {"platform", Text(&out_.platform)},
               {"backend", Text(&out_.backend)},
               {"default_model_filename", Text(&out_.default_model_filename)},
               {"max_batch_size", Number(0, kMostRows, &config.max_batch_size)},
               {"input", std::bind_front(&Translator::ReadInputs, this)},
               {"output", each(&Translator::ReadOutput)},
               {"version_policy", std::bind_front(&Translator::ReadVersionPolicy, this)},
               {"dynamic_batching", std::bind_front(&Translator::ReadDynamicBatching, this)},
               {"sequence_batching", std::bind_front(&Translator::ReadSequenceBatching, this)},
               {"instance_group", each(&Translator::ReadInstanceGroup)},
               {"model_warmup", each(&Translator::ReadWarmUp)},
               {"parameters", std::bind_front(&Translator::ReadParameters, this)},
               {"model_transaction_policy", std::bind_front(&Translator::ReadTransactionPolicy, this)},
               {"response_cache", cache},
               {"ensemble_scheduling", ensemble}}));
  return Finish();
}

// The rules over several keys, and the parameters that are tandem's own.
absl::Status Translator::Finish() {
  TANDEM_ASSIGN_OR_RETURN(out_.config,
                          spec::ParseModelConfig(spec::ToYaml(out_.config), "as tandem reads it", overrides_));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TranslatedConfig> TranslateModelConfig(const spec::Node& root) {
  Translator translator;
  TANDEM_RETURN_IF_ERROR(translator.Read(root));
  return translator.Take();
}

absl::StatusOr<TranslatedConfig> TranslateModelConfigJson(std::string_view json, std::string_view source) {
  TANDEM_ASSIGN_OR_RETURN(spec::Node root, spec::ParseDocument(json, source));
  return TranslateModelConfig(root);
}

}  // namespace tandem::api::v2
