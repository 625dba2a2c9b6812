#include "tandem/model_text.h"

#include <algorithm>
#include <map>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "base/strings.h"
#include "base/tensor.h"
#include "base/text.h"
#include "nlohmann/json.hpp"

namespace tandem::cli {
namespace {

constexpr size_t kShownHistory = 20;  // --json has all
constexpr int kConfigColumns = 60;
constexpr int kErrorColumns = 100;  // of what an engine said; --json has all

std::string PercentText(double percent) { return absl::StrFormat("%g%%", percent); }

// HumanSeconds knows no part of a millisecond.
std::string MillisText(double ms) { return Number(ms, 3) + " ms"; }

std::string Indented(std::string_view text) {
  absl::string_view trimmed = absl::StripSuffix(AbslView(text), "\n");
  return StrCat("  ", absl::StrReplaceAll(trimmed, {{"\n", "\n  "}}), "\n");
}

// A heading with what stands under it; "" where there is nothing.
std::string Section(std::string_view heading, const std::string& body, const Style& style) {
  return body.empty() ? "" : StrCat("\n", style.Bold(heading), "\n", Indented(body));
}

std::string TensorText(const wire::TensorInfo& tensor) {
  Shape shape(tensor.shape().begin(), tensor.shape().end());
  return StrCat(tensor.name(), " ", tensor.datatype(), " ", ToString(shape));
}

std::string PlacesOf(const wire::Model& model, const wire::ModelVersion& version, const Style& style) {
  std::string text = AliasesOf(version);
  auto add = [&](std::string_view part, double percent) {
    StrAppend(&text, text.empty() ? "" : ", ", style.Yellow(StrCat(part, " ", PercentText(percent))));
  };
  if (version.version() == model.split().canary()) add("canary", model.split().canary_percent());
  if (version.version() == model.split().shadow()) add("shadow", model.split().shadow_percent());
  return text;
}

std::string VersionsText(const wire::Model& model, double now, const Style& style) {
  Table table({">VERSION", "SERVED AS", "STATE", "METRICS", ">SIZE", "SOURCE", "CREATED"});
  std::string reasons;  // below the table: they are long
  for (const wire::ModelVersion& version : model.versions()) {
    if (!version.reason().empty()) StrAppend(&reasons, "version ", version.version(), ": ", version.reason(), "\n");
    const bool onnx = version.format().empty() || version.format() == "onnx";
    table.AddRow({StrCat(version.version()), PlacesOf(model, version, style), style.State(version.state()),
                  MetricsOf(version), HumanBytes(static_cast<int64_t>(version.bytes())),
                  StrCat(version.source(), onnx ? "" : StrCat(" (", version.format(), ")")),
                  Ago(version.created_ms(), now)});
  }
  return table.Render(style) + reasons;
}

// Of the newest version that is loaded: only then it is known.
std::string SignatureText(const wire::Model& model) {
  std::string out;
  for (auto version = model.versions().rbegin(); version != model.versions().rend() && out.empty(); ++version) {
    for (const wire::TensorInfo& tensor : version->inputs()) StrAppend(&out, "input   ", TensorText(tensor), "\n");
    for (const wire::TensorInfo& tensor : version->outputs()) StrAppend(&out, "output  ", TensorText(tensor), "\n");
    if (!out.empty()) StrAppend(&out, "engine  ", version->engine(), ", ", version->precision(), "\n");
  }
  return out;
}

std::vector<std::string> SideRow(std::string_view name, const wire::SplitSide& side) {
  std::string failures = Thousands(side.failures());
  if (side.requests() > 0) StrAppend(&failures, " (", Percent(side.failures() / side.requests()), ")");
  return {StrCat(name, " ", side.version()), Thousands(side.requests()), failures,
          side.requests() > 0 ? MillisText(side.p99_ms()) : "-"};
}

std::string CanaryText(const wire::TrafficSplit& split, double now, const Style& style) {
  std::string out = StrCat("version ", split.canary(), " gets ", PercentText(split.canary_percent()),
                           " of the requests that name no version; it began ", Ago(split.canary_since_ms(), now), "\n");
  if (!split.has_canary_now()) return out + style.Yellow("not in service yet") + "\n";
  const wire::CanaryFigures& figures = split.canary_now();
  if (!figures.problem().empty()) StrAppend(&out, style.Red(figures.problem()), "\n");
  Table table({"VERSION", ">REQUESTS", ">FAILURES", ">P99"});
  table.AddRow(SideRow("champion", figures.champion()));
  table.AddRow(SideRow("canary", figures.canary()));
  return out + table.Render(style);
}

std::string ShadowText(const wire::TrafficSplit& split, double now, const Style& style) {
  std::string out = StrCat("version ", split.shadow(), " gets copies of ", PercentText(split.shadow_percent()),
                           " of the requests; it began ", Ago(split.shadow_since_ms(), now), "\n");
  if (!split.has_shadow_now()) return out + style.Yellow("not in service yet") + "\n";
  const wire::ShadowFigures& figures = split.shadow_now();
  if (!figures.problem().empty()) StrAppend(&out, style.Red(figures.problem()), "\n");
  const double compared = figures.equal() + figures.different();
  StrAppend(&out, Thousands(compared), " answers compared, ", Thousands(figures.different()), " different");
  if (compared > 0) StrAppend(&out, " (", Percent(figures.different() / compared), ")");
  StrAppend(&out, "; ", Thousands(figures.failed()), " failed, ", Thousands(figures.dropped()), " not run\n");
  if (figures.rows() > 0) {
    StrAppend(&out, "same class in ", Percent(figures.same_class() / figures.rows()), " of ", Thousands(figures.rows()),
              " rows\n");
  }
  if (compared > 0) {
    StrAppend(&out, "largest difference ", absl::StrFormat("%.2g", figures.max_absolute()), ", relative ",
              absl::StrFormat("%.2g", figures.max_relative()), "\n");
  }
  return out;
}

std::string ApprovalsText(const wire::Model& model, double now, const Style& style) {
  std::string out;
  for (const wire::ModelVersion& version : model.versions()) {
    if (version.approval().empty()) continue;
    const std::string& state = version.approval();
    std::string shown = state == "approved"   ? style.Green(state)
                        : state == "rejected" ? style.Red(state)
                                              : style.Yellow(state);
    StrAppend(&out, "version ", version.version(), "  ", shown, "  ", Ago(version.approval_ms(), now), " by ",
              version.approval_who(), version.approval_comment().empty() ? "" : ": ", version.approval_comment(), "\n");
    if (state != "pending") continue;
    StrAppend(&out, "           tandem models approve ", model.name(), " ", version.version(), " --comment '...'\n");
  }
  return out;
}

// --- engines ---

using Json = nlohmann::json;

std::string TextOf(const Json& json, const char* key) {
  auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>() : "";
}

// Latencies by batch size, as far as they are numbers.
std::map<int, double> LatenciesOf(const Json& engine) {
  std::map<int, double> latencies;
  auto found = engine.find("latency_ms");
  if (found == engine.end() || !found->is_object()) return latencies;
  for (const auto& [batch, ms] : found->items()) {
    int size = std::atoi(batch.c_str());
    if (size > 0 && ms.is_number()) latencies[size] = ms.get<double>();
  }
  return latencies;
}

std::string OutputsText(const Json& engine, const std::string& reference, const Style& style) {
  if (std::string error = TextOf(engine, "error"); !error.empty()) return style.Red(Truncated(error, kErrorColumns));
  auto difference = engine.find("max_difference");
  if (difference != engine.end() && difference->is_number()) {
    return absl::StrFormat("within %.2g", difference->get<double>());
  }
  const std::string name = TextOf(engine, "engine");
  const bool is_reference = name == reference || (name == "torch" && reference == "interpreter");
  return is_reference ? "the reference" : "not compared";
}

// Why this engine, and with what it was found out.
std::string ReportNotes(const Json& json, const std::string& chosen) {
  std::string out;
  auto add = [&](const std::string& label, const std::string& text) {
    if (!text.empty()) StrAppend(&out, label, text, "\n");
  };
  add(chosen.empty() ? "" : chosen + ": ", TextOf(json, "why"));
  add("samples: ", TextOf(json, "samples"));
  add("reference: ", TextOf(json, "reference"));
  add("", TextOf(json, "note"));
  return out;
}

}  // namespace

std::string EngineReportText(const std::string& report, const Style& style) {
  Json json = Json::parse(report, nullptr, false);
  if (!json.is_object() || !json.contains("engines") || !json["engines"].is_array()) return "";
  std::map<int, bool> batches;
  for (const Json& engine : json["engines"]) {
    for (const auto& [batch, ms] : LatenciesOf(engine)) batches[batch] = true;
  }
  std::vector<std::string> headers = {"ENGINE", "OUTPUTS"};
  for (const auto& [batch, seen] : batches) headers.push_back(StrCat(">BATCH ", batch));
  headers.emplace_back("");
  Table table(headers);
  const std::string chosen = TextOf(json, "chosen");
  for (const Json& engine : json["engines"]) {
    if (!engine.is_object()) continue;
    std::string name = TextOf(engine, "engine");
    std::vector<std::string> row = {name, OutputsText(engine, TextOf(json, "reference"), style)};
    std::map<int, double> latencies = LatenciesOf(engine);
    for (const auto& [batch, seen] : batches) {
      auto ms = latencies.find(batch);
      row.push_back(ms == latencies.end() ? "-" : MillisText(ms->second));
    }
    row.push_back(name == chosen ? style.Green("chosen") : "");
    table.AddRow(std::move(row));
  }
  return table.Render(style) + ReportNotes(json, chosen);
}

namespace {

std::string EnginesText(const wire::Model& model, const Style& style) {
  std::string out;
  for (const wire::ModelVersion& version : model.versions()) {
    std::string text = version.engine_report().empty() ? "" : EngineReportText(version.engine_report(), style);
    if (!text.empty()) StrAppend(&out, "version ", version.version(), "\n", text);
  }
  return out;
}

// --- history ---

std::string MoveText(const wire::AliasMove& move) {
  if (move.to() == 0) return StrCat(move.alias(), " removed from ", move.from());
  if (move.from() == 0) return StrCat(move.alias(), " to ", move.to());
  return StrCat(move.alias(), " from ", move.from(), " to ", move.to());
}

std::string EventWhy(const wire::ModelEvent& event) {
  if (event.kind() != "config" || !event.text().empty()) return event.text();
  if (event.detail().empty()) return "all defaults";
  absl::string_view text = absl::StripSuffix(event.detail(), "\n");
  return Truncated(absl::StrReplaceAll(text, {{":\n  ", ": "}, {"\n  ", ", "}, {"\n", "; "}}), kConfigColumns);
}

// Moves of aliases and all else that happened, newest first.
std::string HistoryText(const wire::Model& model, double now, const Style& style) {
  struct Row {
    double when_ms;
    std::string what, who, why;
  };
  std::vector<Row> rows;
  for (const wire::AliasMove& move : model.history()) {
    rows.push_back({move.when_ms(), MoveText(move), move.who(), move.why()});
  }
  for (const wire::ModelEvent& event : model.events()) {
    std::string what = event.version() > 0 ? StrCat(event.kind(), " ", event.version()) : event.kind();
    rows.push_back({event.when_ms(), what, event.who(), EventWhy(event)});
  }
  if (rows.empty()) return "";
  std::stable_sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.when_ms > b.when_ms; });
  Table table({"WHEN", "WHAT", "WHO", "WHY"});
  for (size_t i = 0; i < std::min(rows.size(), kShownHistory); ++i) {
    table.AddRow({Ago(rows[i].when_ms, now), rows[i].what, rows[i].who, rows[i].why});
  }
  std::string out = table.Render(style);
  if (rows.size() > kShownHistory) StrAppend(&out, rows.size() - kShownHistory, " earlier ones; --json has all\n");
  return out;
}

}  // namespace

std::string AliasesOf(const wire::ModelVersion& version) {
  std::string text;
  for (const std::string& alias : version.aliases()) StrAppend(&text, text.empty() ? "" : ", ", alias);
  return text;
}

std::string MetricsOf(const wire::ModelVersion& version) {
  std::string text;
  for (const char* name : {"accuracy", "loss"}) {
    auto found = version.metrics().find(name);
    if (found != version.metrics().end()) StrAppend(&text, text.empty() ? "" : ", ", name, " ", Number(found->second));
  }
  return text;
}

std::string SplitText(const wire::TrafficSplit& split, double now, const Style& style) {
  std::string out;
  if (split.canary() != 0) out += Section("canary", CanaryText(split, now, style), style);
  if (split.shadow() != 0) out += Section("shadow", ShadowText(split, now, style), style);
  return out;
}

std::string ModelText(const wire::Model& model, double now, const Style& style) {
  std::string out = style.Bold(model.name()) + "\n" + VersionsText(model, now, style);
  if (std::string signature = SignatureText(model); !signature.empty()) StrAppend(&out, "\n", signature);
  out += Section("configuration", model.config(), style);
  out += SplitText(model.split(), now, style);
  out += Section("approvals", ApprovalsText(model, now, style), style);
  out += Section("engines measured", EnginesText(model, style), style);
  out += Section("history", HistoryText(model, now, style), style);
  return out;
}

}  // namespace tandem::cli
