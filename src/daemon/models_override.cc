// ModelsService: a load that brings the configuration and the files with it.
#include <atomic>

#include "absl/strings/numbers.h"
#include "base/files.h"
#include "base/status.h"
#include "base/text.h"
#include "daemon/models_service.h"

namespace tandem::daemon {
namespace {

constexpr std::string_view kWhy = "loaded by the repository extension";

// "3/model.onnx" -> 3.
absl::StatusOr<int32_t> VersionOfPath(std::string_view path) {
  size_t slash = path.find('/');
  int32_t version = 0;
  bool numbered = slash != path.npos && absl::SimpleAtoi(AbslView(path.substr(0, slash)), &version) && version > 0;
  if (!numbered || !CheckName("file name", path.substr(slash + 1)).ok()) {
    return InvalidArgument("file '", path, "' does not lie in the folder of a version; write file:1/model.onnx");
  }
  return version;
}

// Removes the folder and all in it at the end.
struct Folder {
  explicit Folder(std::filesystem::path where) : path(std::move(where)) {}
  ~Folder() {
    std::error_code error;
    std::filesystem::remove_all(path, error);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  const std::filesystem::path path;
};

}  // namespace

absl::StatusOr<int32_t> ModelsService::ImportFiles(const api::Caller& caller, std::string_view model,
                                                   const std::map<std::string, std::string>& files) {
  std::map<int32_t, std::string> models;  // by the version's folder: the last one is the newest here too
  for (const auto& [path, bytes] : files) {
    TANDEM_ASSIGN_OR_RETURN(int32_t version, VersionOfPath(path));
    if (!path.ends_with(".onnx")) continue;  // data beside a model, which Import joins
    if (!models.emplace(version, path).second) {
      return InvalidArgument("files '", models[version], "' and '", path, "' are both models of version ", version,
                             "; give one ONNX file a version");
    }
  }
  if (models.empty()) return InvalidArgument("none of the files is an ONNX file; give one like file:1/model.onnx");
  static std::atomic<uint64_t> next{1};
  Folder folder(paths_.run() / StrCat("load-", next.fetch_add(1)));
  for (const auto& [path, bytes] : files) {
    std::filesystem::path file = folder.path / path;
    TANDEM_RETURN_IF_ERROR(MakeFolders(file.parent_path()));
    TANDEM_RETURN_IF_ERROR(WriteFileAtomically(file, bytes, children_->serving_pace()));
  }
  int32_t newest = 0;
  for (const auto& [version, path] : models) {
    TANDEM_ASSIGN_OR_RETURN(wire::ModelVersion made, Import(caller, model, path, "f32", (folder.path / path).string()));
    newest = made.version();
  }
  return newest;
}

absl::Status ModelsService::LoadWithOverride(const api::Caller& caller, std::string_view name,
                                             const spec::ModelConfig& config,
                                             const std::map<std::string, std::string>& files) {
  TANDEM_RETURN_IF_ERROR(CheckName("model name", name));
  int32_t newest = 0;
  if (!files.empty()) {
    TANDEM_ASSIGN_OR_RETURN(newest, ImportFiles(caller, name, files));
  } else if (repository_ != nullptr && absl::IsNotFound(registry_->Get(name).status())) {
    TANDEM_RETURN_IF_ERROR(repository_->Load(name).status());
  }
  {
    std::lock_guard lock(configure_mutex_);
    TANDEM_RETURN_IF_ERROR(registry_->SetConfig(name, spec::ToYaml(config), caller.name, kWhy));
  }
  if (newest == 0) return SetEnabled(caller, name, true);
  return PutInService(std::string(name), "champion", newest, caller.name, kWhy);
}

}  // namespace tandem::daemon
