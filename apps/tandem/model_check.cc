#include "tandem/model_check.h"

#include <algorithm>

#include "base/status.h"
#include "nlohmann/json.hpp"
#include "tandem/programs.h"
#include "tandem/temporary_folder.h"

namespace tandem::cli {
namespace {

using nlohmann::json;

constexpr char kEngineHost[] = "tandem-engine-host";
constexpr char kEngine[] = "openvino";

// Fills in check.ok and check.error; a program that is not installed is an error of the check, not of the command.
absl::StatusOr<std::string> Ask(const std::string& program, const std::vector<std::string>& arguments,
                                PlaceCheck* check) {
  absl::StatusOr<ProgramResult> result = RunProgram(program, arguments);
  check->ok = result.ok() && result->exit_code == 0;
  if (!result.ok()) check->error = MessageOf(result.status());
  if (result.ok() && !check->ok) check->error = ErrorText(*result);
  return check->ok ? result->out : "";
}

PlaceCheck CheckGraph(const std::string& file, std::vector<std::string>* operators) {
  PlaceCheck check{.place = "graph"};
  Ask(kEngineHost, {"model", "check-graph", file}, &check).IgnoreError();
  if (!check.ok) return check;
  absl::StatusOr<std::string> shown = Ask(kEngineHost, {"model", "show", file, "--json"}, &check);
  json description = json::parse(shown.ok() ? *shown : "", nullptr, false);
  if (!description.is_object() || !description["operators"].is_object()) return check;
  for (const auto& [name, count] : description["operators"].items()) operators->push_back(name);
  return check;
}

PlaceCheck CheckTrainer(const std::vector<std::string>& operators) {
  PlaceCheck check{.place = "trainer"};
  absl::StatusOr<std::string> listed = Ask("tandem-trainer", {"model", "operators"}, &check);
  if (!check.ok) return check;
  json names = json::parse(listed.ok() ? *listed : "", nullptr, false);
  std::vector<std::string> known;
  for (const json& name : names) {
    if (name.is_string()) known.push_back(name.get<std::string>());
  }
  check.missing = Missing(operators, known);
  check.ok = check.missing.empty();
  return check;
}

absl::StatusOr<PlaceCheck> CheckEngine(const std::string& file) {
  PlaceCheck check{.place = kEngine};
  TANDEM_ASSIGN_OR_RETURN(TemporaryFolder folder, TemporaryFolder::Create());
  TANDEM_RETURN_IF_ERROR(
      Ask(kEngineHost, {"prepare", "--engine", kEngine, "--model", file, "--out", folder.path()}, &check).status());
  return check;
}

}  // namespace

std::vector<std::string> Missing(const std::vector<std::string>& used, const std::vector<std::string>& known) {
  std::vector<std::string> missing;
  for (const std::string& name : used) {
    if (std::find(known.begin(), known.end(), name) == known.end()) missing.push_back(name);
  }
  return missing;
}

absl::StatusOr<std::vector<PlaceCheck>> CheckModelFile(const std::string& file) {
  std::vector<std::string> operators;
  std::vector<PlaceCheck> checks = {CheckGraph(file, &operators)};
  if (!checks[0].ok) return checks;
  checks.push_back(CheckTrainer(operators));
  TANDEM_ASSIGN_OR_RETURN(PlaceCheck engine, CheckEngine(file));
  checks.push_back(std::move(engine));
  return checks;
}

nlohmann::json ToJson(const std::vector<PlaceCheck>& checks) {
  json list = json::array();
  for (const PlaceCheck& check : checks) {
    list.push_back({{"where", check.place}, {"ok", check.ok}, {"missing", check.missing}, {"error", check.error}});
  }
  return list;
}

std::string ToText(const std::vector<PlaceCheck>& checks, const Style& style) {
  Table table({"WHERE", "STATE", "DETAIL"});
  for (const PlaceCheck& check : checks) {
    std::string detail = check.error;
    for (const std::string& name : check.missing) StrAppend(&detail, detail.empty() ? "no operator " : ", ", name);
    table.AddRow({check.place, style.State(check.ok ? "ok" : "error"), detail});
  }
  return table.Render(style);
}

}  // namespace tandem::cli
