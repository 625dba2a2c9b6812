#include "spec/sharing_spec.h"

#include <algorithm>
#include <cmath>

#include "base/status.h"
#include "base/text.h"
#include "spec/document.h"
#include "spec/fields.h"
#include "spec/sharing_node.h"

namespace tandem::spec {
namespace {

constexpr size_t kMaxWindows = 64;
constexpr size_t kMaxHolidays = 256;
constexpr double kDay = 86400;
constexpr double kDefaultRatioSeconds = 10;

// A field of a part as a field of the whole.
template <typename T, typename V>
Field<T> Within(V T::*part, Field<V> field) {
  return {field.key, field.described, field.help,
          [part, read = std::move(field.read)](const Node& node, const std::string& path, T& out) {
            return read(node, path, out.*part);
          },
          [part, write = std::move(field.write)](const T& in) { return write(in.*part); }};
}

// A field that WriteSplit or ToYaml writes, not the table.
template <typename T>
Field<T> ReadOnly(std::string_view key, std::string_view help,
                  std::function<absl::Status(const Node&, const std::string&, T&)> read) {
  return {key, "a map of keys", help, std::move(read), [](const T&) -> std::optional<Node> { return std::nullopt; }};
}

const FieldTable<SplitSpec>& RatioFields() {
  static const FieldTable<SplitSpec> table = {
      MakeField("training", &SplitSpec::ratio_training, Share(0), "Part of each period in which training may run."),
      MakeField("every", &SplitSpec::ratio_every_s, Seconds(0.1, kDay), "The period."),
  };
  return table;
}

absl::Status ReadRatio(const Node& node, const std::string& path, SplitSpec& split) {
  split.ratio_training = split.ratio_every_s = 0;
  if (node.kind == Node::Kind::kScalar && node.text == "none") return absl::OkStatus();
  if (node.kind != Node::Kind::kMap) return WrongValue(node, path, "none, or a map like {training: 70%, every: 10s}");
  split.ratio_every_s = kDefaultRatioSeconds;
  TANDEM_RETURN_IF_ERROR(ReadFields(node, path, RatioFields(), split));
  if (node.Find("training") != nullptr) return absl::OkStatus();
  return ErrorAt(node.where, StrCat(path, ".training is missing; give training's part, like 70%"));
}

// Reads on top of what the side has already.
Field<SplitSpec> SideField(std::string_view key, SideSpec SplitSpec::*side, std::string_view help) {
  return ReadOnly<SplitSpec>(key, help, [side](const Node& node, const std::string& path, SplitSpec& split) {
    return ReadFields(node, path, SideFields(), split.*side);
  });
}

FieldTable<SplitSpec> SplitFields() {
  return {
      SideField("serving", &SplitSpec::serving, "What serving is sure of."),
      SideField("training", &SplitSpec::training, "What training is sure of."),
      ReadOnly<SplitSpec>("lend", "Whether a side may use what the other leaves idle.",
                          MakeField("lend", &SplitSpec::lend, TrueOrFalse(), "").read),
      ReadOnly<SplitSpec>("ratio", "Part of each period in which training may run.", ReadRatio),
  };
}

const FieldTable<WindowOfSharing>& WindowFields() {
  static const FieldTable<WindowOfSharing> table = [] {
    auto when = [](Field<WindowSpec> field) { return Within(&WindowOfSharing::when, std::move(field)); };
    FieldTable<WindowOfSharing> fields = {
        MakeField("name", &WindowOfSharing::name, Name("window name"), "Jobs may ask for it."),
        when(OptionalField("days", &WindowSpec::days, Texts(), "mon to sun, weekdays, weekend, daily, holidays.")),
        when(MakeField("from", &WindowSpec::from, Text(), "Like 22:00.")),
        when(MakeField("to", &WindowSpec::to, Text(), "Not after `from`: on the next day.")),
        ReadOnly<WindowOfSharing>("time_zone", "Without it, that of the document.",
                                  when(MakeField("time_zone", &WindowSpec::time_zone, TimeZone(), "")).read),
        OptionalField("over", &WindowOfSharing::over, Texts(), "Windows below that it wins against."),
    };
    for (Field<SplitSpec>& field : SplitFields()) {
      fields.push_back(Within(&WindowOfSharing::split, std::move(field)));
    }
    return fields;
  }();
  return table;
}

absl::Status ReadTargets(const Node& node, const std::string& path, SharingSpec& sharing) {
  if (node.kind != Node::Kind::kMap) return WrongValue(node, path, "a map of model: milliseconds, like {fashion: 5}");
  for (const Node::Entry& entry : node.entries) {
    std::string key = Join(path, Escaped(entry.key));
    TANDEM_RETURN_IF_ERROR(Annotate(CheckName("model name", entry.key), StrCat(entry.where, ": ", path)));
    TANDEM_ASSIGN_OR_RETURN(sharing.slo_ms[entry.key], Number(0.001, 3'600'000).read(entry.value, key));
  }
  return absl::OkStatus();
}

std::optional<Node> WriteTargets(const SharingSpec& sharing) {
  if (sharing.slo_ms.empty()) return std::nullopt;
  Node map = Node::Map();
  for (const auto& [model, ms] : sharing.slo_ms) map.Set(model, Node::Scalar(NumberText(ms)));
  return map;
}

// Not written while it is on: so the text of a document from before there was this key stays the same.
Field<SharingSpec> GateField() {
  Field<SharingSpec> field =
      MakeField("gate", &SharingSpec::gate, TrueOrFalse(), "Whether threads are taken back while requests need them.");
  field.write = [write = std::move(field.write)](const SharingSpec& sharing) {
    return sharing.gate ? std::nullopt : write(sharing);
  };
  return field;
}

const FieldTable<SharingSpec>& SharingFields() {
  static const FieldTable<SharingSpec> table = [] {
    FieldTable<SharingSpec> fields = {
        MakeField("policy", &SharingSpec::policy, OneOf(PolicyNames()), "How the shares are used."),
        MakeField("automatic", &SharingSpec::automatic, TrueOrFalse(), "Whether the training share adjusts itself."),
        MakeField("training_share", &SharingSpec::training_share, Share(0.01), "Where latency_first begins."),
        MakeField("min_training", &SharingSpec::min_training, Share(0), "latency_first never leaves training less."),
        GateField(),
        OptionalField("time_zone", &SharingSpec::time_zone, TimeZone(), "Of windows that give none."),
        OptionalField("holidays", &SharingSpec::holidays, Texts(), "Dates that count as no other day."),
        Field<SharingSpec>{"slo_ms", "a map of model: milliseconds", "Target p99 of models.", ReadTargets,
                           WriteTargets},
        ReadOnly<SharingSpec>("windows", "Shares by time.",
                              [](const Node&, const std::string&, SharingSpec&) { return absl::OkStatus(); }),
    };
    for (Field<SplitSpec>& field : SplitFields()) fields.push_back(Within(&SharingSpec::split, std::move(field)));
    return fields;
  }();
  return table;
}

// --- reading ---

const Node* FindIn(const Node& level, std::string_view side, std::string_view key) {
  const Node* map = level.Find(side);
  return map == nullptr ? nullptr : map->Find(key);
}

bool IsOverride(const Node* value) { return value != nullptr && value->where.starts_with("--set "); }

// The cpu share of one side alone gives the other one the rest; so does that of one side over a document with both.
void GiveRest(const Node& level, SplitSpec& split) {
  const Node *serving = FindIn(level, "serving", "cpu"), *training = FindIn(level, "training", "cpu");
  if (IsOverride(serving) && !IsOverride(training)) training = nullptr;
  if (IsOverride(training) && !IsOverride(serving)) serving = nullptr;
  auto rest = [](double share) { return std::round((1 - share) * 1e9) / 1e9; };
  if (serving != nullptr && training == nullptr) split.training.cpu = rest(split.serving.cpu);
  if (training != nullptr && serving == nullptr) split.serving.cpu = rest(split.training.cpu);
}

absl::StatusOr<WindowOfSharing> ReadWindow(const Node& node, const std::string& path, const SharingSpec& outer) {
  WindowOfSharing window;
  window.split = outer.split;
  window.when.time_zone = outer.time_zone;
  window.when.holidays = outer.holidays;
  TANDEM_RETURN_IF_ERROR(ReadFields(node, path, WindowFields(), window));
  if (window.name.empty()) return ErrorAt(node.where, StrCat(path, ".name is missing; give the window a name"));
  for (std::string_view side : {"serving", "training"}) {
    const Node* area = FindIn(node, side, "disk_area");
    if (area == nullptr) continue;
    return ErrorAt(area->where, StrCat(path, ".", side, ".disk_area holds at all times; give it outside the windows"));
  }
  GiveRest(node, window.split);
  absl::StatusOr<CalendarWindow> calendar = CalendarWindow::Create(window.when);
  if (!calendar.ok()) {  // the message begins with the key
    std::string_view message = MessageOf(calendar.status());
    const Node* key = node.Find(message.substr(0, message.find(':')));
    return ErrorAt(key == nullptr ? node.where : key->where, StrCat(path, ".", message));
  }
  window.window = *std::move(calendar);
  return window;
}

absl::Status ReadWindows(const Node& list, const std::string& path, SharingSpec& sharing) {
  if (list.kind != Node::Kind::kList || list.items.size() > kMaxWindows) {
    return WrongValue(list, path, StrCat("a list of up to ", kMaxWindows, " windows"));
  }
  for (size_t i = 0; i < list.items.size(); ++i) {
    TANDEM_ASSIGN_OR_RETURN(WindowOfSharing window, ReadWindow(list.items[i], StrCat(path, ".", i), sharing));
    sharing.windows.push_back(std::move(window));
  }
  return absl::OkStatus();
}

// --- writing ---

Node WriteRatio(const SplitSpec& split) {
  return split.ratio_every_s > 0 ? WriteFields(RatioFields(), split) : Node::Scalar("none");
}

// What differs from `base`. The shares of both sides are written together, since one alone gives the other the rest.
void WriteSplit(const SplitSpec& split, const SplitSpec& base, Node& map) {
  bool shares = split.serving.cpu != base.serving.cpu || split.training.cpu != base.training.cpu;
  auto write_side = [&](std::string_view key, const SideSpec& side, const SideSpec& base_side) {
    Node out = Node::Map();
    for (const Field<SideSpec>& field : SideFields()) {
      Node value = *field.write(side);
      bool same = value.text == field.write(base_side)->text;
      if (field.key == "cpu" ? shares : !same) out.Set(field.key, std::move(value));
    }
    if (!out.entries.empty()) map.Set(key, std::move(out));
  };
  write_side("serving", split.serving, base.serving);
  write_side("training", split.training, base.training);
  if (split.lend != base.lend) map.Set("lend", TrueOrFalse().write(split.lend));
  if (RatioText(split) != RatioText(base)) map.Set("ratio", WriteRatio(split));
}

Node WriteWindow(const WindowOfSharing& window, const SharingSpec& sharing) {
  Node map = WriteFields(WindowFields(), window);
  if (window.when.time_zone != sharing.time_zone) map.Set("time_zone", Node::Scalar(window.when.time_zone));
  WriteSplit(window.split, sharing.split, map);
  return map;
}

}  // namespace

const std::vector<std::string>& PolicyNames() {
  static const auto* const kNames = new std::vector<std::string>{"latency_first", "windows", "static_split"};
  return *kNames;
}

const FieldTable<SideSpec>& SideFields() {
  static const FieldTable<SideSpec> table = {
      MakeField("cpu", &SideSpec::cpu, Share(0), "Of the usable CPUs."),
      MakeField("memory", &SideSpec::memory, Share(0), "Of the machine's memory; 0 = not stated."),
      MakeField("disk_write", &SideSpec::disk_write_bytes_per_s, Rate(), "Of the disk of the side's folder."),
      MakeField("disk_read", &SideSpec::disk_read_bytes_per_s, Rate(), "Of the disk of the side's folder."),
      MakeField("disk_iops", &SideSpec::disk_iops, WholeNumber(0, 1'000'000'000), "Operations a second."),
      MakeField("disk_area", &SideSpec::disk_area_bytes, Bytes(0, int64_t{1} << 50),
                "The greatest size of the side's folder."),
  };
  return table;
}

std::string RatioText(const SplitSpec& split) {
  if (split.ratio_every_s == 0) return "none";
  return StrCat(ShareText(split.ratio_training), " every ", Seconds(0, kDay).write(split.ratio_every_s).text);
}

absl::StatusOr<SharingSpec> ReadSharing(const Node& root, const std::string& path) {
  SharingSpec sharing;
  TANDEM_RETURN_IF_ERROR(ReadFields(root, path, SharingFields(), sharing));
  GiveRest(root, sharing.split);
  if (const Node* holidays = root.Find("holidays")) {
    if (sharing.holidays.size() > kMaxHolidays) {
      return ErrorAt(holidays->where, StrCat("more than ", kMaxHolidays, " holidays; leave out those that are past"));
    }
    absl::Status dates = CalendarWindow::Create({.holidays = sharing.holidays}).status();
    if (!dates.ok()) return Annotate(dates, holidays->where);
  }
  if (const Node* windows = root.Find("windows")) {
    TANDEM_RETURN_IF_ERROR(ReadWindows(*windows, Join(path, "windows"), sharing));
  }
  TANDEM_RETURN_IF_ERROR(CheckSharing(root, path, sharing));
  return sharing;
}

absl::StatusOr<SharingSpec> ParseSharing(std::string_view yaml, std::string_view source,
                                         const std::vector<std::string>& overrides) {
  TANDEM_ASSIGN_OR_RETURN(Node root, ParseDocument(yaml, source));
  if (root.kind != Node::Kind::kMap) {
    return ErrorAt(root.where, "a sharing document is a map of keys, like 'serving: {cpu: 70%}'");
  }
  for (const std::string& assignment : overrides) TANDEM_RETURN_IF_ERROR(ApplyOverride(assignment, {}, root));
  return ReadSharing(root, "");
}

std::string ToYaml(const SharingSpec& sharing) {
  Node root = WriteFields(SharingFields(), sharing);
  SplitSpec nothing;
  nothing.serving.cpu = -1;  // writes the shares in any case
  nothing.lend = !sharing.split.lend;
  WriteSplit(sharing.split, nothing, root);
  if (!sharing.windows.empty()) {
    Node list = Node::List({});
    for (const WindowOfSharing& window : sharing.windows) list.items.push_back(WriteWindow(window, sharing));
    root.Set("windows", std::move(list));
  }
  return EmitYaml(root);
}

}  // namespace tandem::spec
