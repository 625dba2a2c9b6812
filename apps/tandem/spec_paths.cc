#include "tandem/spec_paths.h"

#include <yaml-cpp/yaml.h>

#include <optional>

#include "base/strings.h"

namespace tandem::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kKey = "model.onnx";

// The path that the YAML names, or nothing: the server says what is wrong with it.
std::optional<std::string> OnnxOf(std::string_view spec) {
  try {
    YAML::Node root = YAML::Load(std::string(spec));
    if (!root.IsMap() || !root["model"].IsDefined() || !root["model"].IsMap()) return std::nullopt;
    YAML::Node onnx = root["model"]["onnx"];
    if (!onnx.IsDefined() || !onnx.IsScalar()) return std::nullopt;
    return onnx.Scalar();
  } catch (const YAML::Exception&) {
    return std::nullopt;
  }
}

std::optional<std::string> Absolute(const std::string& path, const std::vector<fs::path>& folders) {
  for (const fs::path& folder : folders) {
    std::error_code error;
    fs::path whole = fs::absolute(folder / path, error);
    if (!error && fs::is_regular_file(whole, error)) return whole.lexically_normal().string();
  }
  return std::nullopt;
}

// A YAML scalar in single quotes.
std::string Quoted(const std::string& text) {
  std::string out = "'";
  for (char c : text) out += c == '\'' ? std::string("''") : std::string(1, c);
  return out + "'";
}

std::string Assignment(const std::string& path) { return StrCat(kKey, "=", Quoted(path)); }

}  // namespace

std::vector<std::string> LocalPathOverrides(std::string_view spec, const fs::path& folder,
                                            const std::vector<std::string>& sets) {
  std::vector<std::string> overrides;
  if (auto onnx = OnnxOf(spec)) {
    if (auto path = Absolute(*onnx, {folder, "."})) overrides.push_back(Assignment(*path));
  }
  for (const std::string& set : sets) {
    std::optional<std::string> path;
    if (set.starts_with(StrCat(kKey, "="))) path = Absolute(set.substr(kKey.size() + 1), {"."});
    overrides.push_back(path ? Assignment(*path) : set);
  }
  return overrides;
}

}  // namespace tandem::cli
