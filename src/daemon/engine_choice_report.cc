#include "daemon/engine_choice_report.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_format.h"
#include "base/strings.h"

namespace tandem::daemon {
namespace {

// An engine must be faster than the default one by this share of its time. Two measurements of the same engine differ
// by up to 3 % on a busy machine; a swap for less than that would be noise, and costs a load.
constexpr double kMargin = 0.05;

// An output whose numbers are all about 0 has no scale; below this a difference is rounding.
constexpr double kAbsolute = 1e-5;

const EngineResult* Find(const EngineReport& report, std::string_view engine) {
  auto found = std::ranges::find_if(report.engines, [&](const EngineResult& one) { return one.engine == engine; });
  return found == report.engines.end() ? nullptr : &*found;
}

// That engine's row, made where there is none.
EngineResult* RowOf(const std::string& engine, EngineReport* report) {
  auto found = std::ranges::find(report->engines, engine, &EngineResult::engine);
  return found == report->engines.end() ? &report->engines.emplace_back(EngineResult{.engine = engine}) : &*found;
}

// At the batch size that decides, or the largest below it: a model whose rows are fixed has no other than 1.
double Cost(const EngineResult& result, int batch) {
  auto after = result.latency_ms.upper_bound(batch);
  if (after == result.latency_ms.begin()) return INFINITY;
  return std::prev(after)->second + result.hop_ms;
}

std::string Percent(double share) { return absl::StrFormat("%.0f %%", 100 * share); }

void RefuseWhatDiffers(EngineReport* report) {
  const double tolerance = ToleranceOf(report->precision);
  for (EngineResult& result : report->engines) {
    if (!result.error.empty() || !result.compared) continue;
    if (result.max_difference <= kAbsolute || result.relative_difference <= tolerance) continue;
    result.error =
        absl::StrFormat("its outputs differ from those of %s by %.2g, %.2g of their scale; at most %.2g is rounding",
                        report->reference, result.max_difference, result.relative_difference, tolerance);
  }
}

std::string AtBatch(int batch) { return StrCat(" at batch ", batch); }

// Why `best`, which is the fastest of all that serve, or the default one because it is not clearly slower.
std::string WhyBest(const EngineReport& report, const EngineResult& best, const EngineResult* standard) {
  const double cost = Cost(best, report.batch);
  if (std::isinf(cost)) return "not measured";
  if (standard == nullptr || !standard->Serves()) {
    return StrCat("the fastest", AtBatch(report.batch), " of those that serve it; ", report.default_engine,
                  " does not");
  }
  const double before = Cost(*standard, report.batch);
  return StrCat(Percent(1 - cost / before), " less time than ", standard->engine, AtBatch(report.batch));
}

}  // namespace

std::vector<engine::EngineInfo> ComputingEngines(std::vector<engine::EngineInfo> all) {
  static const std::set<std::string> kDoNotCompute = {"echo", "gate"};
  std::erase_if(all, [](const engine::EngineInfo& info) { return kDoNotCompute.contains(info.name); });
  return all;
}

std::string KeyOf(const std::vector<engine::EngineInfo>& engines, const engine::Options& options, int batch,
                  std::string_view isolation) {
  std::string key;
  for (const engine::EngineInfo& info : engines) {
    StrAppend(&key, info.name, " ", info.error.empty() ? info.version : "unusable", ", ");
  }
  return StrCat(key, options.precision, " on ", options.device, ", threads ", options.threads, ", batch ", batch,
                ", isolation ", isolation);
}

double ToleranceOf(std::string_view precision) {
  // f32 has 24 bits: a sum of K products in another order errs by about sqrt(K) * 2^-24 of its scale, 1e-5 for 30,000
  // of them; Winograd's convolutions and fast exp and tanh lose another digit, and layers add up. A wrong operator
  // (another padding, epsilon or rounding mode) differs by 1e-2 and more. bf16 keeps 8 bits (0.004 a rounding) and
  // f16 11.
  if (precision == "bf16") return 5e-2;
  if (precision == "f16") return 1e-2;
  return 1e-3;
}

void Choose(EngineReport* report) {
  RefuseWhatDiffers(report);
  const EngineResult* best = nullptr;
  int serving = 0;
  for (const EngineResult& result : report->engines) {
    if (!result.Serves()) continue;
    ++serving;
    if (best == nullptr || Cost(result, report->batch) < Cost(*best, report->batch)) best = &result;
  }
  const EngineResult* standard = Find(*report, report->default_engine);
  if (best == nullptr) {
    report->chosen.clear();
    report->why = "no engine serves it";
    return;
  }
  if (standard != nullptr && standard->Serves() && standard != best) {
    const double cost = Cost(*best, report->batch), before = Cost(*standard, report->batch);
    if (!(cost < (1 - kMargin) * before)) {
      report->chosen = standard->engine;
      report->why = std::isinf(before) ? "not measured"
                                       : StrCat("the default; ", best->engine, " takes ", Percent(1 - cost / before),
                                                " less time", AtBatch(report->batch), ", not enough for a change");
      return;
    }
  }
  report->chosen = best->engine;
  if (serving == 1) {
    report->why = "the only one that serves it";
  } else if (best == standard) {
    report->why =
        std::isinf(Cost(*best, report->batch)) ? "not measured" : StrCat("the fastest", AtBatch(report->batch));
  } else {
    report->why = WhyBest(*report, *best, standard);
  }
}

bool StrikeOut(std::string_view error, EngineReport* report) {
  EngineReport others = *report;
  for (EngineResult& result : others.engines) {
    if (result.engine == report->chosen) result.error = std::string(error);
  }
  Choose(&others);
  if (others.chosen.empty() || others.chosen == report->chosen) return false;
  *report = std::move(others);
  return true;
}

bool HoldBack(const std::string& engine, const std::string& former, std::string_view reason, EngineReport* report) {
  EngineReport others = *report;
  EngineResult* held = RowOf(engine, &others);
  held->held_back = true;
  held->error = StrCat("held back: ", reason);
  const EngineResult* before = Find(others, former);
  if (before == nullptr || before->Serves()) {
    others.chosen = former;
    others.why = StrCat("it served the version before; ", engine, " is ", held->error);
  } else {
    Choose(&others);
    if (others.chosen.empty()) return false;
  }
  *report = std::move(others);
  return true;
}

void ChooseBeside(const EngineReport& former, EngineReport* report) {
  bool any = false;
  for (const EngineResult& result : former.engines) {
    if (!result.held_back) continue;
    any = true;
    EngineResult* held = RowOf(result.engine, report);
    held->held_back = true;
    held->error = result.error;
  }
  Choose(report);
  if (!any || !report->chosen.empty()) return;
  report->chosen = former.chosen;
  report->why = former.why;
}

std::string ToJson(const EngineReport& report) {
  nlohmann::ordered_json json = {{"chosen", report.chosen},
                                 {"why", report.why},
                                 {"default", report.default_engine},
                                 {"batch", report.batch},
                                 {"precision", report.precision},
                                 {"samples", report.samples},
                                 {"reference", report.reference},
                                 {"note", report.note},
                                 {"key", report.key},
                                 {"when_ms", report.when_ms}};
  json["engines"] = nlohmann::ordered_json::array();
  for (const EngineResult& result : report.engines) {
    nlohmann::ordered_json one = {{"engine", result.engine},
                                  {"version", result.version},
                                  {"ok", result.error.empty()},
                                  {"error", result.error},
                                  {"candidate", result.candidate}};
    if (result.compared) {
      one["max_difference"] = result.max_difference;
      one["relative_difference"] = result.relative_difference;
    }
    if (result.hop_ms > 0) one["hop_ms"] = result.hop_ms;
    if (result.held_back) one["held_back"] = true;
    one["latency_ms"] = nlohmann::ordered_json::object();
    for (const auto& [batch, ms] : result.latency_ms) one["latency_ms"][std::to_string(batch)] = ms;
    json["engines"].push_back(std::move(one));
  }
  // What an engine says may be no UTF-8.
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

EngineReport EngineReportFromJson(std::string_view text) {
  try {
    const nlohmann::json json = nlohmann::json::parse(text);
    EngineReport report;
    report.chosen = json.value("chosen", "");
    report.why = json.value("why", "");
    report.default_engine = json.value("default", "");
    report.batch = json.value("batch", 1);
    report.precision = json.value("precision", "f32");
    report.samples = json.value("samples", "");
    report.reference = json.value("reference", "");
    report.note = json.value("note", "");
    report.key = json.value("key", "");
    report.when_ms = json.value("when_ms", 0.0);
    const nlohmann::json engines = json.value("engines", nlohmann::json::array());
    for (const nlohmann::json& one : engines) {
      EngineResult& result = report.engines.emplace_back();
      result.engine = one.at("engine");
      result.version = one.value("version", "");
      result.error = one.value("error", "");
      result.candidate = one.value("candidate", true);
      result.compared = one.contains("max_difference");
      result.max_difference = one.value("max_difference", 0.0);
      result.relative_difference = one.value("relative_difference", 0.0);
      result.hop_ms = one.value("hop_ms", 0.0);
      result.held_back = one.value("held_back", false);
      for (const auto& [batch, ms] : one.at("latency_ms").items()) result.latency_ms[std::stoi(batch)] = ms;
    }
    return report;
  } catch (const std::exception&) {
    return {};
  }
}

std::string WhyOthersDoNot(const EngineReport& report, std::string_view except) {
  std::string out;
  for (const EngineResult& result : report.engines) {
    if (result.error.empty() || result.engine == except) continue;
    StrAppend(&out, out.empty() ? "" : "; ", result.engine, ": ", result.error);
  }
  return out;
}

}  // namespace tandem::daemon
