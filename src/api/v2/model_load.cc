#include "api/v2/model_load.h"

#include <algorithm>
#include <cctype>

#include "absl/strings/escaping.h"
#include "absl/strings/str_join.h"
#include "api/v2/model_config.h"
#include "base/status.h"

namespace tandem::api::v2 {
namespace {

constexpr std::string_view kFilePrefix = "file:";
constexpr size_t kLongestFileName = 512;

// "<version>/<name>", where the name stays inside of the version's folder.
bool IsFileName(std::string_view name) {
  const size_t slash = name.find('/');
  if (slash == 0 || slash == name.npos || name.size() > kLongestFileName) return false;
  if (!std::ranges::all_of(name.substr(0, slash), [](unsigned char c) { return isdigit(c) != 0; })) return false;
  for (size_t at = slash; at != name.npos;) {
    const size_t end = name.find('/', at + 1);
    const std::string_view part = name.substr(at + 1, end == name.npos ? end : end - at - 1);
    if (part.empty() || part == "." || part == ".." || part.find('\0') != part.npos) return false;
    at = end;
  }
  return true;
}

}  // namespace

absl::Status SetLoadParameter(std::string_view key, const ParameterValue& value, bool base64,
                              LoadParameters* parameters) {
  if (key == "config") {
    TANDEM_ASSIGN_OR_RETURN(parameters->config, TextOf(key, value));
    return absl::OkStatus();
  }
  if (!key.starts_with(kFilePrefix)) {
    return InvalidArgument("parameter '", key, "' is unknown; there are: config, and file:<version>/<name>");
  }
  const std::string_view name = key.substr(kFilePrefix.size());
  if (!IsFileName(name)) {
    return InvalidArgument("parameter '", key, "' must name a file as file:<version>/<name>, like file:1/model.onnx");
  }
  TANDEM_ASSIGN_OR_RETURN(std::string_view text, TextOf(key, value));
  std::string& bytes = parameters->files[std::string(name)];
  if (!base64) {
    bytes = text;
  } else if (!absl::Base64Unescape(AbslView(text), &bytes)) {
    return InvalidArgument("parameter '", key, "' is no base64");
  }
  if (bytes.empty()) return InvalidArgument("parameter '", key, "' is an empty file");
  return absl::OkStatus();
}

absl::Status CheckUnloadParameter(std::string_view key, const ParameterValue& value) {
  if (key == "unload_dependents") return BoolOf(key, value).status();
  return InvalidArgument("parameter '", key, "' is unknown; there is: unload_dependents");
}

absl::Status LoadModel(Models* models, const Caller& caller, std::string_view model, const LoadParameters& parameters) {
  if (!parameters.config.has_value()) {
    if (parameters.files.empty()) return models->SetEnabled(caller, model, true);
    return InvalidArgument("parameter 'file:", parameters.files.begin()->first,
                           "' needs parameter 'config' beside it; send {} for what the file says itself");
  }
  TANDEM_ASSIGN_OR_RETURN(TranslatedConfig translated, TranslateModelConfigJson(*parameters.config, "config"));
  if (!translated.name.empty() && translated.name != model) {
    return InvalidArgument("parameter 'config' is of model '", translated.name, "', but '", model, "' is to be loaded");
  }
  for (const auto& [output, file] : translated.label_files) {
    translated.ignored.push_back(StrCat("label_filename of output ", output));
  }
  if (!translated.ignored.empty()) {
    Log(LogLevel::kWarning, "keys of the configuration have no effect",
        {{"model", model}, {"keys", absl::StrJoin(translated.ignored, ", ")}});
  }
  return models->LoadWithOverride(caller, model, translated.config, parameters.files);
}

}  // namespace tandem::api::v2
