// Where plug-ins are looked for, and which are open.
#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "base/text.h"
#include "engine/engine.h"
#include "engine/executable.h"
#include "engine/plugin.h"

namespace tandem::engine {
namespace {

constexpr std::string_view kPrefix = "libtandem_engine_";
constexpr std::string_view kSuffix = ".so";

std::vector<std::filesystem::path> Folders() {
  std::vector<std::filesystem::path> folders;
  if (const char* path = std::getenv("TANDEM_ENGINE_PATH"); path != nullptr) {
    for (absl::string_view folder : absl::StrSplit(path, ':', absl::SkipEmpty())) {
      folders.emplace_back(StdView(folder));
    }
  }
  folders.push_back(ExecutableFolder());
  return folders;
}

// Name -> file; the first folder that has a name wins.
std::map<std::string, std::filesystem::path> FindPlugins() {
  std::map<std::string, std::filesystem::path> found;
  for (const std::filesystem::path& folder : Folders()) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
      std::string file = entry.path().filename().string();
      if (file.size() <= kPrefix.size() + kSuffix.size()) continue;
      if (!file.starts_with(kPrefix) || !file.ends_with(kSuffix)) continue;
      std::string name = file.substr(kPrefix.size(), file.size() - kPrefix.size() - kSuffix.size());
      found.try_emplace(std::move(name), entry.path());
    }
  }
  return found;
}

struct OpenEngines {
  std::mutex mutex;
  std::map<std::string, std::unique_ptr<Engine>, std::less<>> engines;  // guarded by mutex
};

// Never destroyed: a plug-in's threads may outlive main.
OpenEngines& Opened() {
  static auto* opened = new OpenEngines;
  return *opened;
}

}  // namespace

absl::StatusOr<Engine*> OpenEngine(std::string_view name) {
  TANDEM_RETURN_IF_ERROR(CheckName("engine name", name));
  OpenEngines& opened = Opened();
  std::lock_guard lock(opened.mutex);
  if (auto known = opened.engines.find(name); known != opened.engines.end()) return known->second.get();
  std::map<std::string, std::filesystem::path> plugins = FindPlugins();
  auto found = plugins.find(std::string(name));
  if (found == plugins.end()) {
    std::vector<std::string> names;
    for (const auto& plugin : plugins) names.push_back(plugin.first);
    return NotFound("no engine '", name, "': there is ", names.empty() ? "none" : absl::StrJoin(names, ", "),
                    DidYouMean(name, names), "; plug-ins are files ", kPrefix, "NAME", kSuffix, " in ",
                    ExecutableFolder().string(), " or a folder of TANDEM_ENGINE_PATH");
  }
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine, OpenPlugin(found->second, name));
  return opened.engines.emplace(name, std::move(engine)).first->second.get();
}

bool NeedsChild(std::string_view engine) { return engine == "torch"; }

std::vector<EngineInfo> ListEngines(bool open) {
  std::vector<EngineInfo> infos;
  for (const auto& [name, path] : FindPlugins()) {
    EngineInfo& info = infos.emplace_back();
    info.name = name;
    info.path = path.string();
    if (!open && NeedsChild(name)) continue;
    absl::StatusOr<Engine*> engine = OpenEngine(name);
    if (engine.ok()) {
      info.version = (*engine)->version();
    } else {
      info.error = MessageOf(engine.status());
    }
  }
  return infos;
}

}  // namespace tandem::engine
