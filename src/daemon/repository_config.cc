#include "daemon/repository_config.h"

#include <algorithm>
#include <map>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "base/files.h"
#include "base/status.h"
#include "engine/model_file.h"

namespace tandem::daemon {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kMostBytes = 1'000'000;
constexpr std::string_view kConfigName = "config.pbtxt";

// What backend and platform say, as the engine that they mean.
const std::map<std::string, std::string, std::less<>>& EngineNames() {
  static const auto* const kNames = new std::map<std::string, std::string, std::less<>>{
      {"onnxruntime", "onnxruntime"},
      {"onnxruntime_onnx", "onnxruntime"},
      {"openvino", "openvino"},
      {"tensorflow", std::string(engine::kTensorFlowEngine)},
      {"tensorflow_savedmodel", std::string(engine::kTensorFlowEngine)},
      {"tensorflow_graphdef", std::string(engine::kTensorFlowEngine)}};
  return *kNames;
}

absl::Status ChooseEngine(std::string_view source, const std::function<bool(std::string_view)>& has_engine,
                          FolderConfig* out) {
  const api::v2::TranslatedConfig& said = out->document.translated;
  for (auto [key, value] : {std::pair("backend", &said.backend), std::pair("platform", &said.platform)}) {
    if (value->empty()) continue;
    auto engine = EngineNames().find(*value);
    if (engine == EngineNames().end()) {
      return InvalidArgument(
          source, ": ", key, " is '", *value,
          "', which is not supported; served are models of onnxruntime, onnxruntime_onnx, openvino, tensorflow, "
          "tensorflow_savedmodel and tensorflow_graphdef; write nothing for the best engine that is here");
    }
    if (out->config.engine != "auto") continue;  // a parameter of tandem's own says more
    if (has_engine(engine->second)) {
      out->config.engine = engine->second;
    } else {
      out->warnings.push_back(StrCat(source, ": ", key, ": the engine '", engine->second,
                                     "' is not installed; another one serves the model"));
    }
  }
  return absl::OkStatus();
}

// One name a line.
absl::StatusOr<std::vector<std::string>> ReadLabels(const fs::path& file) {
  TANDEM_ASSIGN_OR_RETURN(std::string text, ReadFile(file, kMostBytes));
  std::vector<std::string> labels;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    labels.emplace_back(absl::StripTrailingAsciiWhitespace(line));
  }
  while (!labels.empty() && labels.back().empty()) labels.pop_back();
  auto empty = std::ranges::find(labels, "");
  if (empty == labels.end()) return labels;
  return InvalidArgument("'", file.string(), "': line ", empty - labels.begin() + 1, " is empty; name every class");
}

}  // namespace

absl::StatusOr<FolderConfig> ReadFolderConfig(const ModelFolder& folder,
                                              const std::function<bool(std::string_view)>& has_engine) {
  FolderConfig out;
  out.config.versions = "latest:1";
  const std::string source = StrCat(folder.name, "/", kConfigName);
  std::error_code error;
  if (!fs::exists(folder.path / kConfigName, error) && !error) return out;
  TANDEM_ASSIGN_OR_RETURN(std::string text, ReadFile(folder.path / kConfigName, kMostBytes));
  TANDEM_ASSIGN_OR_RETURN(out.document, api::v2::TranslateModelConfigText(text, source));
  out.warnings = out.document.ignored;
  const api::v2::TranslatedConfig& said = out.document.translated;
  if (!said.name.empty() && said.name != folder.name) {
    return InvalidArgument(source, ": name is '", said.name, "', but the folder is '", folder.name,
                           "'; make them equal, or leave the name out");
  }
  out.config = said.config;
  if (out.config.versions.empty()) out.config.versions = "latest:1";
  TANDEM_RETURN_IF_ERROR(ChooseEngine(source, has_engine, &out));
  for (const auto& [output, name] : said.label_files) {
    const std::string what = StrCat(source, ": labels of output '", output, "'");
    absl::StatusOr<fs::path> file = FileBeside(folder, name);
    if (!file.ok()) return Annotate(file.status(), what);
    absl::StatusOr<std::vector<std::string>> labels = ReadLabels(*file);
    if (!labels.ok())
      return absl::Status(absl::StatusCode::kInvalidArgument, StrCat(what, ": ", MessageOf(labels.status())));
    out.config.labels[output] = *std::move(labels);
  }
  // What is kept is text, which must be read back.
  absl::StatusOr<spec::ModelConfig> kept = spec::ParseModelConfig(spec::ToYaml(out.config), source);
  if (!kept.ok()) return kept.status();
  return out;
}

}  // namespace tandem::daemon
