// A co-location result as text for people and as JSON.
#include "tandem/bench_colocation_report.h"

#include "absl/strings/str_format.h"
#include "base/strings.h"
#include "base/text.h"
#include "nlohmann/json.hpp"

namespace tandem::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kSchema = 1;

std::string Figure(double value, int decimals) { return value < 0 ? "-" : absl::StrFormat("%.*f", decimals, value); }

// "1.02 [0.99 1.06]"
std::string RatioText(const Ratio& ratio) {
  if (ratio.rounds == 0) return "-";
  std::string text = absl::StrFormat("%.2f", ratio.median);
  if (ratio.interval) absl::StrAppendFormat(&text, " [%.2f %.2f]", ratio.interval->low, ratio.interval->high);
  return text;
}

std::string HostText(const HostFacts& host) {
  return StrCat(host.cpu_model.empty() ? "unknown CPU" : host.cpu_model, ", ", host.cpus, " CPUs, ", host.kernel,
                ", governor ", host.governor.empty() ? "not told" : host.governor, ", as ",
                host.root ? "root" : "an ordinary user");
}

int ClientThreads(const ColocationResult& result) {
  return result.options.client_threads > 0 ? result.options.client_threads : std::max(1, result.host.cpus / 4);
}

std::string ClientClass(const ColocationResult& result) {
  if (result.client_realtime) return StrCat("SCHED_FIFO ", result.options.client_priority);
  return result.options.client_priority == 0 ? "normal class, as asked for"
                                             : "normal class: SCHED_FIFO is not allowed here";
}

std::string Capacities(const ColocationResult& result) {
  std::string text;
  for (double capacity : result.capacities) {
    absl::StrAppendFormat(&text, "%s%s", text.empty() ? "" : ", ", Thousands(capacity));
  }
  return text;
}

std::string HeadText(const ColocationResult& result, const Style& style) {
  std::string out =
      style.Bold("co-location") + (result.options.amount.quick ? " (quick: too few rounds to judge by)" : "");
  StrAppend(&out, "\nmachine   ", HostText(result.host), "\nmodel     ", result.model, "\ncapacity  ",
            Thousands(result.capacity), " requests/s alone, all connections busy (median of ", Capacities(result),
            ")\nclient    ", ClientThreads(result), ClientThreads(result) == 1 ? " thread, " : " threads, ",
            result.options.connections, " connections, ", ClientClass(result), "\n");
  StrAppend(&out, "windows   ", result.windows.size(), " in ", result.rounds_done,
            result.interrupted ? " rounds (interrupted), " : " rounds, ", result.rejected, " done again and ",
            result.lost, " lost for stolen CPU time",
            result.host.steal_reported ? "" : " (this machine reports none: bare metal, or a host that does not tell)",
            "; ", HumanSeconds(result.seconds), "\n");
  for (const auto& [mode, facts] : result.modes) {
    StrAppend(&out, "isolation ", mode, ": ", facts.rung.empty() ? "" : facts.rung + ": ", facts.isolation, "\n");
  }
  return out;
}

// Nothing else should run: what other programs take is in every figure.
std::string DisturbanceText(const std::vector<ColocationSummary>& summaries, const Style& style) {
  constexpr double kMostOther = 0.05;
  double most = 0;
  for (const ColocationSummary& one : summaries) {
    const ColocationMode* mode = FindColocationMode(one.mode);
    if (mode != nullptr && !mode->warm) most = std::max(most, one.other);
  }
  if (most <= kMostOther) return "";
  return StrCat(style.Yellow("notice"), "    up to ", Percent(most),
                " of the CPU time went to other programs or the kernel: nothing else should run meanwhile\n");
}

std::string LoadTables(const std::vector<ColocationSummary>& summaries, double load, const Style& style) {
  Table latency({"MODE", ">P50 ms", ">P99 ms", ">P99.9 ms", ">MAX ms", ">P99 / warm", ">P99.9 / warm", ">P99 / alone",
                 ">IN SLO", ">FAILED"});
  Table machine({"MODE", ">CONSERVATION", ">IMAGES/s", ">RUN DELAY us", ">SERVING", ">TRAINING", ">IDLE", ">CLIENT",
                 ">CLIENT LATE p50 p99 us", ">STEAL max", ">REQUESTS"});
  double rate = 0, slo = 0;
  for (const ColocationSummary& one : summaries) {
    if (one.load != load) continue;
    rate = std::max(rate, one.offered_per_s);
    slo = one.slo_ms;
    latency.AddRow({one.mode, Figure(one.p50_ms, 3), Figure(one.p99_ms, 3), Figure(one.p999_ms, 3),
                    Figure(one.max_ms, 2), RatioText(one.p99_warm), RatioText(one.p999_warm), RatioText(one.p99_alone),
                    absl::StrFormat("%.3f%%", one.slo_attained * 100), StrCat(one.failures)});
    machine.AddRow({one.mode, Figure(one.conservation, 3), Figure(one.images_per_s, 0), Figure(one.run_delay_us, 1),
                    Percent(one.serving), Percent(one.training), Percent(one.idle), Percent(one.client),
                    absl::StrFormat("%.0f %.0f", one.delay_p50_us, one.delay_p99_us), Percent(one.most_steal),
                    StrCat(one.requests)});
  }
  return absl::StrFormat("\n%s (%s requests/s; SLO %.3f ms)\n%s%s",
                         style.Bold(absl::StrFormat("load %g %%", load * 100)), Thousands(rate), slo,
                         latency.Render(style), machine.Render(style));
}

std::string GoalsText(const std::vector<ColocationGoal>& goals, const Style& style) {
  std::string out = "\n" + style.Bold("goals") + "\n";
  for (const ColocationGoal& goal : goals) {
    std::string interval =
        goal.interval ? absl::StrFormat(" [%.3f %.3f]", goal.interval->low, goal.interval->high) : "";
    StrAppend(&out, goal.reached() ? style.Green("reached") : style.Red("MISSED "), "  ",
              absl::StrFormat("%s %.3f%s, wanted %s %g", goal.name, goal.value, interval,
                              goal.at_least ? ">=" : "<=", goal.bound),
              "\n");
  }
  return out;
}

std::string BytesText(const BytesCheck& bytes) {
  if (!bytes.done) return "\ntrained model alone and beside a load: not compared\n";
  return absl::StrFormat(
      "\ntrained model after %d steps, alone and beside a load (%.1f s, %.1f s): %s\n"
      "  SHA-256 %s\n  SHA-256 %s\n  final loss bits %s, %s\n",
      bytes.steps, bytes.alone_s, bytes.beside_s, bytes.same() ? "every byte equal" : "THEY DIFFER", bytes.alone_sha256,
      bytes.beside_sha256, bytes.alone_loss_bits, bytes.beside_loss_bits);
}

Json OrNull(double value) { return value < 0 ? Json(nullptr) : Json(value); }

Json ToJson(const Ratio& ratio) {
  if (ratio.rounds == 0) return nullptr;
  Json json = {{"median", ratio.median}, {"rounds", ratio.rounds}, {"low", nullptr}, {"high", nullptr}};
  if (ratio.interval) {
    json["low"] = ratio.interval->low;
    json["high"] = ratio.interval->high;
  }
  return json;
}

Json ToJson(const ColocationWindow& window) {
  return {{"mode", window.mode},
          {"load", window.load},
          {"round", window.round},
          {"seconds", window.host.seconds},
          {"requests", window.sent},
          {"failures", window.failures},
          {"waited_for_a_connection", window.waited},
          {"offered_per_s", window.offered_per_s},
          {"answered_per_s", window.answered_per_s},
          {"p50_ms", window.p50_ms},
          {"p99_ms", window.p99_ms},
          {"p999_ms", window.p999_ms},
          {"max_ms", window.max_ms},
          {"client_delay_p50_us", window.delay_p50_us},
          {"client_delay_p99_us", window.delay_p99_us},
          {"cpu",
           {{"serving", window.host.serving},
            {"training", window.host.training},
            {"client", window.client},
            {"idle", window.host.idle},
            {"steal", window.host.steal}}},
          {"conservation", OrNull(window.host.conservation)},
          {"images_per_s", OrNull(window.images_per_s)},
          {"run_delay_us", OrNull(window.host.run_delay_us)},
          {"times_run", window.host.times_run}};
}

Json ToJson(const ColocationSummary& one) {
  return {{"mode", one.mode},
          {"load", one.load},
          {"windows", one.windows},
          {"requests", one.requests},
          {"beyond_p99", one.requests / 100},
          {"failures", one.failures},
          {"offered_per_s", OrNull(one.offered_per_s)},
          {"answered_per_s", OrNull(one.answered_per_s)},
          {"p50_ms", OrNull(one.p50_ms)},
          {"p99_ms", OrNull(one.p99_ms)},
          {"p999_ms", OrNull(one.p999_ms)},
          {"max_ms", one.max_ms},
          {"slo_ms", one.slo_ms},
          {"slo_attained", one.slo_attained},
          {"p50_to_alone_warm", ToJson(one.p50_warm)},
          {"p99_to_alone_warm", ToJson(one.p99_warm)},
          {"p999_to_alone_warm", ToJson(one.p999_warm)},
          {"p50_to_alone", ToJson(one.p50_alone)},
          {"p99_to_alone", ToJson(one.p99_alone)},
          {"p999_to_alone", ToJson(one.p999_alone)},
          {"conservation", OrNull(one.conservation)},
          {"images_per_s", OrNull(one.images_per_s)},
          {"run_delay_us", OrNull(one.run_delay_us)},
          {"client_delay_p50_us", OrNull(one.delay_p50_us)},
          {"client_delay_p99_us", OrNull(one.delay_p99_us)},
          {"waited_for_a_connection", one.waited},
          {"cpu",
           {{"serving", OrNull(one.serving)},
            {"training", OrNull(one.training)},
            {"client", OrNull(one.client)},
            {"idle", OrNull(one.idle)},
            {"other", OrNull(one.other)},
            {"most_steal", one.most_steal}}}};
}

Json ToJson(const ColocationGoal& goal) {
  Json json = {{"name", goal.name},         {"value", goal.value}, {"bound", goal.bound}, {"at_least", goal.at_least},
               {"reached", goal.reached()}, {"low", nullptr},      {"high", nullptr}};
  if (goal.interval) {
    json["low"] = goal.interval->low;
    json["high"] = goal.interval->high;
  }
  return json;
}

Json MachineJson(const HostFacts& host) {
  return {{"cpu", host.cpu_model},     {"cpus", host.cpus}, {"kernel", host.kernel},
          {"governor", host.governor}, {"root", host.root}, {"steal_reported", host.steal_reported}};
}

Json BytesJson(const BytesCheck& bytes) {
  if (!bytes.done) return nullptr;
  return {{"same", bytes.same()},
          {"steps", bytes.steps},
          {"alone_sha256", bytes.alone_sha256},
          {"beside_sha256", bytes.beside_sha256},
          {"alone_final_loss_bits", bytes.alone_loss_bits},
          {"beside_final_loss_bits", bytes.beside_loss_bits},
          {"alone_s", bytes.alone_s},
          {"beside_s", bytes.beside_s}};
}

}  // namespace

std::string ColocationText(const ColocationResult& result, const Style& style) {
  std::vector<ColocationSummary> summaries = Summarise(result);
  std::string out = HeadText(result, style) + DisturbanceText(summaries, style);
  for (double load : result.options.loads) out += LoadTables(summaries, load, style);
  out += BytesText(result.bytes);
  return out + GoalsText(Goals(result, summaries), style);
}

std::string ColocationJson(const ColocationResult& result) {
  std::vector<ColocationSummary> summaries = Summarise(result);
  Json json = {{"schema", kSchema},
               {"quick", result.options.amount.quick},
               {"machine", MachineJson(result.host)},
               {"model", result.model},
               {"capacity", {{"per_s", result.capacity}, {"measured", result.capacities}}},
               {"client",
                {{"threads", ClientThreads(result)},
                 {"connections", result.options.connections},
                 {"class", ClientClass(result)}}},
               {"rounds", result.rounds_done},
               {"interrupted", result.interrupted},
               {"rejected_windows", result.rejected},
               {"lost_windows", result.lost},
               {"most_steal", kMostSteal},
               {"seconds", result.seconds},
               {"modes", Json::object()},
               {"goals", Json::array()},
               {"every_byte_equal", BytesJson(result.bytes)},
               {"summary", Json::array()},
               {"windows", Json::array()}};
  for (const auto& [mode, facts] : result.modes) {
    const ColocationMode* known = FindColocationMode(mode);
    json["modes"][mode] = {{"what", known == nullptr ? "" : std::string(known->description)},
                           {"rung", facts.rung},
                           {"isolation", facts.isolation},
                           {"run_delay_metrics", facts.run_delay_lines}};
  }
  for (const ColocationGoal& goal : Goals(result, summaries)) json["goals"].push_back(ToJson(goal));
  for (const ColocationSummary& one : summaries) json["summary"].push_back(ToJson(one));
  for (const ColocationWindow& window : result.windows) json["windows"].push_back(ToJson(window));
  return json.dump(1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace tandem::cli
