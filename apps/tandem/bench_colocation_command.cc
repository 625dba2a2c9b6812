#include "tandem/bench_colocation_command.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/files.h"
#include "base/status.h"
#include "base/text.h"
#include "tandem/bench_colocation_report.h"

namespace tandem::cli {
namespace {

constexpr std::string_view kRungs[] = {"auto", "realtime", "cgroup-weight", "autogroup", "nice"};
constexpr int kQuickRounds = 3;

std::vector<std::string> Words(const std::string& list) {
  return absl::StrSplit(list, absl::ByAnyChar(", "), absl::SkipEmpty());
}

absl::StatusOr<std::vector<double>> ParseLoads(const std::string& list) {
  std::vector<double> loads;
  for (const std::string& word : Words(list)) {
    double percent = 0;
    if (!absl::SimpleAtod(word, &percent) || !(percent > 0 && percent <= 90)) {
      return Usage("--loads: '", word, "' is not a percentage of the capacity from above 0 to 90");
    }
    loads.push_back(percent / 100);
  }
  if (loads.empty()) return Usage("--loads: give one percentage of the capacity or more, like 5,25,50");
  return loads;
}

absl::StatusOr<std::vector<const ColocationMode*>> ParseModes(const std::string& list) {
  std::vector<const ColocationMode*> modes;
  std::vector<std::string> known;
  for (const ColocationMode& mode : ColocationModes()) known.emplace_back(mode.name);
  for (const std::string& word : list.empty() ? known : Words(list)) {
    const ColocationMode* mode = FindColocationMode(word);
    if (mode == nullptr) {
      return Usage("--modes: '", word, "' is unknown", DidYouMean(word, known),
                   "; known are alone, alone_warm, tandem, tandem_2jobs, unmanaged");
    }
    if (std::find(modes.begin(), modes.end(), mode) == modes.end()) modes.push_back(mode);
  }
  if (modes.empty()) return Usage("--modes: give one or more");
  return modes;
}

absl::StatusOr<int64_t> WholeNumber(std::string_view option, double value, int64_t most) {
  if (value != std::floor(value) || value < 0 || value > static_cast<double>(most)) {
    return Usage(option, " must be a whole number up to ", most);
  }
  return static_cast<int64_t>(value);
}

absl::Status ParseAmount(const ColocationWords& words, ColocationAmount* amount) {
  amount->quick = words.quick;
  if (words.quick) {
    amount->rounds = kQuickRounds;
    amount->beyond = 30;
    amount->window_s = 2;
    amount->capacity_s = 0.7;
  } else {
    amount->beyond = words.beyond;
  }
  amount->beyond_each = words.beyond_each;
  amount->max_minutes = words.max_minutes;
  TANDEM_ASSIGN_OR_RETURN(int64_t rounds, WholeNumber("--rounds", words.rounds, 1000));
  if (rounds > 0) amount->rounds = static_cast<int>(rounds);
  TANDEM_ASSIGN_OR_RETURN(amount->requests, WholeNumber("--requests", words.requests, 100'000'000));
  return absl::OkStatus();
}

std::function<void(std::string_view)> Progress() {
  return [](std::string_view line) {
    std::fprintf(stderr, "%.*s\n", static_cast<int>(line.size()), line.data());
    std::fflush(stderr);
  };
}

absl::StatusOr<Exit> BenchColocation(Session& session, const ColocationWords& words) {
  TANDEM_ASSIGN_OR_RETURN(ColocationOptions options, ParseColocation(words));
  CatchInterrupts();
  absl::StatusOr<ColocationResult> result = RunColocation(options, Progress());
  ReleaseInterrupts();
  TANDEM_RETURN_IF_ERROR(result.status());
  if (session.json) {
    session.PrintJsonText(ColocationJson(*result));
  } else {
    session.Print(ColocationText(*result, session.style));
  }
  if (!words.out.empty()) TANDEM_RETURN_IF_ERROR(WriteFileAtomically(words.out, ColocationJson(*result) + "\n"));
  if (!words.plot.empty()) TANDEM_RETURN_IF_ERROR(WriteFileAtomically(words.plot, ColocationSvg(*result)));
  return result->interrupted ? Exit::kFailed : Exit::kOk;
}

}  // namespace

absl::StatusOr<ColocationOptions> ParseColocation(const ColocationWords& words) {
  ColocationOptions options;
  options.model = words.model;
  options.dataset = words.dataset;
  TANDEM_ASSIGN_OR_RETURN(options.loads, ParseLoads(words.loads));
  TANDEM_ASSIGN_OR_RETURN(options.modes, ParseModes(words.modes));
  if (std::find(std::begin(kRungs), std::end(kRungs), words.rung) == std::end(kRungs)) {
    return Usage("--rung: '", words.rung, "' is unknown; known are auto, realtime, cgroup-weight, autogroup, nice");
  }
  options.rung = words.rung;
  options.slo_ms = words.slo_ms;
  TANDEM_ASSIGN_OR_RETURN(int64_t seed, WholeNumber("--seed", words.seed, 1'000'000'000));
  options.seed = static_cast<uint64_t>(seed);
  TANDEM_ASSIGN_OR_RETURN(int64_t connections, WholeNumber("--connections", words.connections, 4000));
  options.connections = static_cast<int>(connections);
  TANDEM_ASSIGN_OR_RETURN(int64_t threads, WholeNumber("--client-threads", words.client_threads, 256));
  options.client_threads = static_cast<int>(threads);
  if (!absl::SimpleAtoi(words.client_priority, &options.client_priority) || options.client_priority < 0 ||
      options.client_priority > 50) {
    return Usage("--client-priority must be a whole number from 0 to 50");
  }
  if (words.deterministic_check && words.no_deterministic_check) {
    return Usage("--deterministic-check and --no-deterministic-check contradict each other");
  }
  options.check_bytes = words.deterministic_check || (!words.quick && !words.no_deterministic_check);
  TANDEM_RETURN_IF_ERROR(ParseAmount(words, &options.amount));
  return options;
}

void AddColocationBench(Command& bench, Session& session) {
  auto words = std::make_shared<ColocationWords>();
  bench
      .Add("colocation",
           "Measure what training costs the requests beside it on this machine, and what it gets; starts servers of "
           "its own in a temporary folder, touches no other")
      .Option("--model", &words->model, "ONNX file to serve; without it, a small residual network")
      .Option("--dataset", &words->dataset, "Images to train on (as dataset add takes); without it, made-up ones")
      .Option("--loads", &words->loads, "Percentages of the measured capacity (default 5,25,50)")
      .Option("--modes", &words->modes, "Of alone, alone_warm, tandem, tandem_2jobs, unmanaged (default all)")
      .Option("--rounds", &words->rounds, "How often all modes take turns (default 9)")
      .Option("--beyond", &words->beyond, "Requests beyond p99, of all rounds of a mode and load together")
      .Flag("--beyond-each", &words->beyond_each, "So many beyond p99 in every single window")
      .Option("--requests", &words->requests, "Requests of a window, instead of --beyond")
      .Option("--max-minutes", &words->max_minutes, "Begin no round that would end later")
      .Flag("--quick", &words->quick, "3 rounds of short windows: a first look, nothing to judge by")
      .Option("--slo-ms", &words->slo_ms, "Target of the SLO figures (default: twice the p99 alone, kept warm)")
      .Option("--rung", &words->rung, "Isolation to use: auto, realtime, cgroup-weight, autogroup, nice")
      .Option("--seed", &words->seed, "Of arrivals and inputs")
      .Option("--connections", &words->connections, "Connections kept open")
      .Option("--client-threads", &words->client_threads, "Threads that send (default: one for every four CPUs)")
      .Option("--client-priority", &words->client_priority,
              "SCHED_FIFO priority of those threads, 0 = normal class (default 2, one above the server's: let in at "
              "once, as a network card's interrupts would be; with 1 they wait while the server computes)")
      .Flag("--deterministic-check", &words->deterministic_check, "Compare the trained bytes even with --quick")
      .Flag("--no-deterministic-check", &words->no_deterministic_check, "Do not compare the trained bytes")
      .Option("--out", &words->out, "Write everything to this JSON file")
      .Option("--plot", &words->plot, "Draw p50, p99 and p99.9 into this SVG file")
      .Example("bench colocation --quick")
      .Example("bench colocation --out colocation.json --plot colocation.svg")
      .Run([&session, words] { return BenchColocation(session, *words); });
}

}  // namespace tandem::cli
