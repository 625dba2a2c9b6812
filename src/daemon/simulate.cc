#include "daemon/simulate.h"

#include <stdio.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "base/files.h"
#include "base/status.h"
#include "base/text.h"
#include "daemon/rules.h"
#include "isolation/isolation.h"
#include "scheduling/simulator.h"

namespace tandem::daemon {
namespace {

constexpr const char* kHelp = R"(Usage: tandem simulate LOAD.csv [--policy P] [--settings FILE] [options]

Runs a policy on recorded or synthetic load: weeks in seconds. LOAD.csv has the lines that
'tandem policy record' writes: unix_ms,model,requests_per_s,service_ms

  --policy P        latency_first, windows or static_split; default: what the settings say
  --settings FILE   sharing rules (the YAML of 'tandem policy set')
  --cpus N          CPUs of the machine; default: this machine's
  --slo-ms MS       target p99 of models that the settings name none for; default 10
  --jobs N          training jobs that always have work; default 1
  --strength S      realtime, weight or weak: what isolation the machine has; default realtime
  --seed N          of the arrivals; default 1
  --json            one JSON value

Examples:
  tandem policy record --seconds 3600 --out load.csv
  tandem simulate load.csv --policy latency_first --slo-ms 5
)";

struct Options {
  std::string load, settings, policy;
  scheduling::SimulationOptions simulation;
  bool json = false, help = false;
};

template <typename T>
absl::Status ParseNumber(const std::string& flag, const std::string& text, T low, T* value) {
  bool ok = false;
  if constexpr (std::is_floating_point_v<T>) {
    ok = absl::SimpleAtod(text, value);
  } else {
    ok = absl::SimpleAtoi(text, value);
  }
  return ok && *value >= low ? absl::OkStatus()
                             : InvalidArgument(flag, " is '", text, "'; it must be a number of at least ", low);
}

absl::Status ParseStrength(const std::string& text, scheduling::Strength* strength) {
  if (text == "realtime") {
    *strength = scheduling::Strength::kRealtime;
  } else if (text == "weight") {
    *strength = scheduling::Strength::kWeight;
  } else if (text == "weak") {
    *strength = scheduling::Strength::kWeak;
  } else {
    return InvalidArgument("--strength is '", text, "'; it can be realtime, weight or weak");
  }
  return absl::OkStatus();
}

absl::Status TakeFlag(const std::string& flag, const std::string& value, Options* options) {
  scheduling::SimulationOptions& simulation = options->simulation;
  if (flag == "--policy") return options->policy = value, absl::OkStatus();
  if (flag == "--settings") return options->settings = value, absl::OkStatus();
  if (flag == "--cpus") return ParseNumber(flag, value, 1, &simulation.cpus);
  if (flag == "--slo-ms") return ParseNumber(flag, value, 0.001, &simulation.default_slo_ms);
  if (flag == "--jobs") return ParseNumber(flag, value, 0, &simulation.jobs);
  if (flag == "--seed") return ParseNumber(flag, value, uint64_t{0}, &simulation.seed);
  if (flag == "--strength") return ParseStrength(value, &simulation.strength);
  std::string nearest =
      DidYouMean(flag, {"--policy", "--settings", "--cpus", "--slo-ms", "--jobs", "--seed", "--strength", "--json"});
  return InvalidArgument("unknown option '", flag, "'", nearest.empty() ? "; see tandem simulate --help" : nearest);
}

absl::StatusOr<Options> ParseOptions(const std::vector<std::string>& args) {
  Options options;
  options.simulation.cpus = isolation::ReadTopology().usable_cpus;
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string& arg = args[i];
    if (arg == "--json") {
      options.json = true;
    } else if (arg == "--help" || arg == "-h") {
      options.help = true;
    } else if (arg.rfind("--", 0) == 0) {
      size_t equal = arg.find('=');
      if (equal == std::string::npos && i + 1 == args.size()) return InvalidArgument("a value is missing behind ", arg);
      std::string value = equal == std::string::npos ? args[++i] : arg.substr(equal + 1);
      TANDEM_RETURN_IF_ERROR(TakeFlag(arg.substr(0, equal), value, &options));
    } else if (options.load.empty()) {
      options.load = arg;
    } else {
      return InvalidArgument("one load file is enough: '", options.load, "', then '", arg, "'");
    }
  }
  if (options.load.empty() && !options.help)
    return InvalidArgument("which load? tandem simulate LOAD.csv; one is recorded by 'tandem policy record'");
  return options;
}

struct Report {
  scheduling::SimulationResult result;
  scheduling::BestSplit best;
  // Training that the best fixed split in hindsight had and this policy did not, as a part of the former; below 0: the
  // policy did better.
  double Regret() const {
    return best.result.training_cpu_hours <= 0 ? 0 : 1 - result.training_cpu_hours / best.result.training_cpu_hours;
  }
};

std::string Text(const Report& report) {
  const scheduling::SimulationResult& result = report.result;
  std::string text =
      absl::StrFormat("%.2f hours simulated with policy %s, %d decisions\n\n%-24s %12s %10s %10s\n", result.hours,
                      result.policy, result.decisions, "model", "requests", "in target", "p99 ms");
  for (const scheduling::ModelResult& model : result.models) {
    absl::StrAppendFormat(&text, "%-24s %12d %9.3f%% %10.3f\n", model.model, model.requests, model.attainment * 100,
                          model.p99_ms);
  }
  absl::StrAppendFormat(
      &text, "\nin target in all    %8.3f %%\ntraining            %8.3f CPU-hours, %.1f %% of what serving left\n",
      result.attainment * 100, result.training_cpu_hours, result.training_fraction * 100);
  absl::StrAppendFormat(&text,
                        "best fixed split    %8.3f CPU-hours (training share %.0f %%, %.3f %% in target)\n"
                        "regret against it   %8.1f %%%s\n",
                        report.best.result.training_cpu_hours, report.best.training_share * 100,
                        report.best.result.attainment * 100, report.Regret() * 100,
                        report.Regret() < 0 ? " (better than any fixed split)" : "");
  return text;
}

std::string Json(const Report& report) {
  const scheduling::SimulationResult& result = report.result;
  nlohmann::ordered_json json = {{"policy", result.policy},
                                 {"hours", result.hours},
                                 {"attainment", result.attainment},
                                 {"training_cpu_hours", result.training_cpu_hours},
                                 {"training_fraction", result.training_fraction},
                                 {"decisions", result.decisions},
                                 {"best_static",
                                  {{"training_share", report.best.training_share},
                                   {"attainment", report.best.result.attainment},
                                   {"training_cpu_hours", report.best.result.training_cpu_hours}}},
                                 {"regret", report.Regret()},
                                 {"models", nlohmann::ordered_json::array()}};
  for (const scheduling::ModelResult& model : result.models) {
    json["models"].push_back({{"model", model.model},
                              {"requests", model.requests},
                              {"attainment", model.attainment},
                              {"p99_ms", model.p99_ms}});
  }
  return json.dump() + "\n";
}

// The rules of a server name all its models, the load those that were asked: no error, but it may be a slip.
void WarnOfTargetsWithoutLoad(const std::string& source, const spec::SharingSpec& sharing,
                              const std::vector<scheduling::LoadPoint>& load) {
  std::set<std::string> seen;
  for (const scheduling::LoadPoint& point : load) seen.insert(point.model);
  for (const auto& [model, slo_ms] : sharing.slo_ms) {
    if (seen.contains(model)) continue;
    fprintf(stderr, "warning: %s: slo_ms names model '%s', which the load does not have%s\n", source.c_str(),
            model.c_str(), DidYouMean(model, {seen.begin(), seen.end()}).c_str());
  }
}

absl::StatusOr<Report> Run(Options options) {
  constexpr size_t kMaxFile = size_t{1} << 30;
  TANDEM_ASSIGN_OR_RETURN(std::string csv, ReadFile(options.load, kMaxFile));
  TANDEM_ASSIGN_OR_RETURN(std::vector<scheduling::LoadPoint> load, scheduling::ParseLoad(csv, options.load));
  spec::SharingSpec sharing;
  if (!options.settings.empty()) {
    TANDEM_ASSIGN_OR_RETURN(std::string yaml, ReadFile(options.settings, 1 << 20));
    TANDEM_ASSIGN_OR_RETURN(sharing, spec::ParseSharing(yaml, options.settings));
    WarnOfTargetsWithoutLoad(options.settings, sharing, load);
  }
  if (!options.policy.empty()) sharing.policy = options.policy;
  for (const auto& [model, slo] : sharing.slo_ms) options.simulation.slo_ms.emplace_back(model, slo);
  options.simulation.training_share = sharing.training_share;
  options.simulation.automatic = sharing.automatic;
  TANDEM_ASSIGN_OR_RETURN(std::shared_ptr<const Rules> rules, MakeRules(std::move(sharing)));
  Report report;
  TANDEM_ASSIGN_OR_RETURN(report.result,
                          scheduling::Simulate(load, *rules->policy, rules->sharing, options.simulation));
  TANDEM_ASSIGN_OR_RETURN(report.best,
                          scheduling::FindBestStaticSplit(load, report.result.attainment, options.simulation));
  return report;
}

}  // namespace

int RunSimulation(const std::vector<std::string>& args) {
  absl::StatusOr<Options> options = ParseOptions(args);
  if (options.ok() && options->help) return fputs(kHelp, stdout), 0;
  absl::StatusOr<Report> report = options.ok() ? Run(*options) : options.status();
  if (!report.ok()) {
    // The exit codes and the JSON of tandem, whose command this is.
    const int code = !options.ok() ? 2 : absl::IsNotFound(report.status()) ? 4 : 1;
    const std::string message(MessageOf(report.status()));
    fprintf(stderr, "error: %s\n", message.c_str());
    if (std::find(args.begin(), args.end(), "--json") != args.end()) {
      const nlohmann::json json = {{"error", message}, {"exit_code", code}};
      puts(json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
    }
    return code;
  }
  fputs((options->json ? Json(*report) : Text(*report)).c_str(), stdout);
  return 0;
}

}  // namespace tandem::daemon
