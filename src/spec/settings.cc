#include "spec/settings.h"

#include <filesystem>

#include "absl/strings/str_format.h"
#include "base/files.h"
#include "base/status.h"
#include "base/text.h"
#include "spec/fields.h"
#include "spec/settings_table.h"

namespace tandem::spec {
namespace {

const std::vector<ShortForm>& ShortForms() {
  static const std::vector<ShortForm> kForms = {{"http", "address"}};
  return kForms;
}

const Setting* FindKey(std::string_view key) {
  for (const Setting& setting : SettingsTable()) {
    if (setting.key == key) return &setting;
  }
  return nullptr;
}

const Setting* FindFlag(std::string_view flag) {
  for (const Setting& setting : SettingsTable()) {
    if (setting.flag == flag) return &setting;
  }
  return nullptr;
}

// The keys one level under `path`.
std::vector<std::string> KeysUnder(std::string_view path) {
  std::vector<std::string> keys;
  std::string prefix = path.empty() ? "" : StrCat(path, ".");
  for (const Setting& setting : SettingsTable()) {
    if (!setting.key.starts_with(prefix)) continue;
    std::string_view rest = setting.key.substr(prefix.size());
    std::string key(rest.substr(0, rest.find('.')));
    if (keys.empty() || keys.back() != key) keys.push_back(key);
  }
  return keys;
}

absl::Status ReadMap(const Node& map, const std::string& path, Settings& settings);

absl::Status ReadEntry(const Node::Entry& entry, const std::string& path, Settings& settings) {
  std::string key = Join(path, entry.key);
  if (const Setting* setting = FindKey(key)) return setting->read(entry.value, settings);
  if (KeysUnder(key).empty()) return UnknownKey(entry, path, KeysUnder(path));
  for (const ShortForm& form : ShortForms()) {
    if (form.path == key && entry.value.kind == Node::Kind::kScalar) {
      return FindKey(Join(key, form.key))->read(entry.value, settings);
    }
  }
  return ReadMap(entry.value, key, settings);
}

absl::Status ReadMap(const Node& map, const std::string& path, Settings& settings) {
  if (map.kind != Node::Kind::kMap) return WrongValue(map, path.empty() ? "the document" : path, "a map of keys");
  for (const Node::Entry& entry : map.entries) TANDEM_RETURN_IF_ERROR(ReadEntry(entry, path, settings));
  return absl::OkStatus();
}

// Settings while they are read. The sharing document is kept as a tree until all is known, so that --set changes single
// keys of what the file says.
struct Draft {
  Settings settings;
  Node sharing = Node::Map();  // {sharing: ...}
  std::string policy_where;    // of the last `policy` outside the document; empty = none
};

Node* SharedPolicy(Draft& draft) {
  Node* document = draft.sharing.Find("sharing");
  return document == nullptr ? nullptr : document->Find("policy");
}

absl::Status ReadFileInto(const std::string& path, Draft& draft) {
  absl::StatusOr<std::string> text = ReadFile(path, kMaxDocumentBytes);
  if (!text.ok()) return Annotate(text.status(), "--config");
  TANDEM_ASSIGN_OR_RETURN(Node root, ParseDocument(*text, path));
  if (const Node* config = root.Find("config")) {
    return ErrorAt(config->where, "'config' can only be given on the command line");
  }
  if (const Node* policy = root.Find("policy")) draft.policy_where = policy->where;
  if (const Node* sharing = root.Find("sharing")) {
    draft.sharing.Set("sharing", *sharing);
    root.Erase("sharing");
  }
  return ReadMap(root, "", draft.settings);
}

absl::Status UnknownFlag(std::string_view flag) {
  std::vector<std::string> flags = {"--set"};
  for (const Setting& setting : SettingsTable()) {
    if (!setting.flag.empty()) flags.emplace_back(setting.flag);
  }
  std::string nearest = DidYouMean(flag, flags);
  return InvalidArgument("unknown option ", Quoted(flag), nearest.empty() ? "; --help lists all" : nearest);
}

// One flag of the command line with its value.
struct Argument {
  const Setting* setting = nullptr;  // null: --set
  std::string value;
};

absl::StatusOr<std::vector<Argument>> ParseArguments(const std::vector<std::string>& args) {
  std::vector<Argument> arguments;
  for (size_t i = 0; i < args.size(); ++i) {
    std::string_view arg = args[i];
    if (!arg.starts_with("--")) return InvalidArgument("unexpected argument ", Quoted(arg), "; options begin with --");
    size_t equals = arg.find('=');
    std::string_view flag = arg.substr(0, equals);
    const Setting* setting = FindFlag(flag);
    if (setting == nullptr && flag != "--set") return UnknownFlag(flag);
    if (equals != std::string_view::npos) {
      arguments.push_back({setting, std::string(arg.substr(equals + 1))});
    } else if (setting != nullptr && setting->is_switch) {
      arguments.push_back({setting, "true"});
    } else if (i + 1 < args.size()) {
      arguments.push_back({setting, args[++i]});
    } else {
      return InvalidArgument(flag, " needs a value: ", setting == nullptr ? "key.path=value" : setting->described);
    }
  }
  return arguments;
}

// The last of `policy` and `sharing.policy` on the command line wins over what was said before.
absl::Status ApplySet(const std::string& assignment, Draft& draft) {
  std::string_view path = std::string_view(assignment).substr(0, assignment.find('='));
  if (path == "sharing" || path.starts_with("sharing.")) {
    TANDEM_RETURN_IF_ERROR(ApplyOverride(assignment, {}, draft.sharing));
    bool names_policy = (path == "sharing" || path == "sharing.policy") && SharedPolicy(draft) != nullptr;
    if (names_policy) draft.policy_where.clear();
    return absl::OkStatus();
  }
  Node tree = Node::Map();
  TANDEM_RETURN_IF_ERROR(ApplyOverride(assignment, ShortForms(), tree));
  if (const Node* policy = tree.Find("policy")) {
    draft.policy_where = policy->where;
    if (SharedPolicy(draft) != nullptr) draft.sharing.Find("sharing")->Erase("policy");
  }
  return ReadMap(tree, "", draft.settings);
}

absl::Status ApplyArgument(const Argument& argument, Draft& draft) {
  if (argument.setting == nullptr) return ApplySet(argument.value, draft);
  Node value = Node::Scalar(argument.value);
  value.where = argument.setting->flag;
  return argument.setting->read(value, draft.settings);
}

absl::Status FinishSharing(Draft& draft) {
  Settings& settings = draft.settings;
  if (const Node* document = draft.sharing.Find("sharing")) {
    TANDEM_RETURN_IF_ERROR(FindKey("sharing")->read(*document, settings));
  }
  if (!draft.policy_where.empty()) {
    const Node* inner = SharedPolicy(draft);
    if (inner != nullptr && inner->text != settings.policy) {
      return ErrorAt(draft.policy_where, StrCat("policy is '", settings.policy, "', but sharing.policy is '",
                                                inner->text, "' (", inner->where, "); keep one of them"));
    }
    settings.sharing.policy = settings.policy;
    settings.sharing_given = true;
  }
  settings.policy = settings.sharing.policy;
  return absl::OkStatus();
}

// Absolute, with "~/" replaced.
absl::Status ResolvePath(std::string_view name, std::string_view home, std::string& path) {
  if (path.empty()) return absl::OkStatus();
  if (path == "~" || path.starts_with("~/")) {
    if (home.empty())
      return InvalidArgument("HOME is not set, so '", path, "' has no meaning; give ", name, " a full path");
    path = StrCat(home, path.substr(1));
  }
  std::error_code error;
  std::filesystem::path absolute = std::filesystem::absolute(path, error);
  if (error) return InvalidArgument(name, ": ", Quoted(path), ": ", error.message());
  path = absolute.lexically_normal().string();
  if (path.size() > 1 && path.back() == '/') path.pop_back();
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Settings> LoadSettings(const std::vector<std::string>& args, std::string_view home) {
  TANDEM_ASSIGN_OR_RETURN(std::vector<Argument> arguments, ParseArguments(args));
  Draft draft;
  for (const Argument& argument : arguments) TANDEM_RETURN_IF_ERROR(ApplyArgument(argument, draft));
  TANDEM_RETURN_IF_ERROR(ResolvePath("--config", home, draft.settings.config));
  if (!draft.settings.config.empty()) {
    std::string config = draft.settings.config;
    draft = Draft();
    TANDEM_RETURN_IF_ERROR(ReadFileInto(config, draft));
    for (const Argument& argument : arguments) TANDEM_RETURN_IF_ERROR(ApplyArgument(argument, draft));
    draft.settings.config = config;
  }
  TANDEM_RETURN_IF_ERROR(FinishSharing(draft));
  Settings settings = std::move(draft.settings);
  TANDEM_RETURN_IF_ERROR(ResolvePath("--data", home, settings.data));
  TANDEM_RETURN_IF_ERROR(ResolvePath("--ready-file", home, settings.ready_file));
  TANDEM_RETURN_IF_ERROR(ResolvePath("--token-file", home, settings.http.token_file));
  TANDEM_RETURN_IF_ERROR(ResolvePath("--log-file", home, settings.log.file));
  TANDEM_RETURN_IF_ERROR(ResolvePath("--model-repository", home, settings.serving.model_repository));
  TANDEM_RETURN_IF_ERROR(ResolvePath("serving.folder", home, settings.serving.folder));
  TANDEM_RETURN_IF_ERROR(ResolvePath("training.folder", home, settings.training.folder));
  return settings;
}

std::string SettingsHelp() {
  std::string out =
      "Become the server: answer requests, train jobs, keep models; until Ctrl-C, SIGTERM or tandem stop\n"
      "Usage: tandem serve [OPTIONS]\n\nOptions, with their defaults in brackets:\n";
  auto add = [&out](std::string_view name, std::string_view help, std::string_view default_text) {
    std::string shown = default_text.empty() ? "" : StrCat(" [", default_text, "]");
    StrAppend(&out, absl::StrFormat("  %-26s  %s%s\n", name, help, shown));
  };
  add("-h,--help", "Print this help message and exit", "");
  for (const Setting& setting : SettingsTable()) {
    if (setting.flag.empty()) continue;
    add(StrCat(setting.flag, setting.is_switch ? "" : " VALUE"), setting.help, setting.default_text);
  }
  add("--set KEY=VALUE", "One of the following; may be repeated, and names those above by their key too", "");
  StrAppend(&out, "\nKeys of --set and of the file of --config:\n");
  for (const Setting& setting : SettingsTable()) {
    if (setting.flag.empty()) add(setting.key, setting.help, setting.default_text);
  }
  StrAppend(&out,
            "\nExamples:\n  tandem serve --data ~/tandem --http 127.0.0.1:8000\n"
            "  tandem serve --data ~/tandem --http 127.0.0.1:0 --ready-file ready.json\n"
            "  tandem serve --config tandem.yaml --set training.max_jobs=2\n\n"
            "'tandemd settings' prints which values each one takes.\n");
  return out;
}

std::string SettingsMarkdown() {
  std::string out =
      "# Settings\n\n"
      "From `tandem.yaml` (`--config FILE`), flags, and `--set key=value`; the last given wins.\n\n"
      "| key | flag | value | default | meaning |\n|---|---|---|---|---|\n";
  for (const Setting& setting : SettingsTable()) {
    std::string flag = setting.flag.empty() ? "" : StrCat("`", setting.flag, "`");
    std::string value = setting.default_text.empty() ? "none" : StrCat("`", setting.default_text, "`");
    StrAppend(&out, "| `", setting.key, "` | ", flag, " | ", setting.described, " | ", value, " | ", setting.help,
              " |\n");
  }
  return out;
}

}  // namespace tandem::spec
