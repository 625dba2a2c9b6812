#include "tandem/sharing_text.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "base/strings.h"
#include "base/text.h"

namespace tandem::cli {
namespace {

constexpr int kShownDecisions = 10;  // --json has more
constexpr int kShownGateChanges = 5;

std::string Line(std::string_view key, const std::string& value) {
  return StrCat(key, std::string(12 - key.size(), ' '), value, "\n");
}

std::string WhoAndWhy(const wire::PolicyChange& change, double now_unix_ms) {
  std::string out = StrCat("revision ", change.revision(), ", ", Ago(change.when_ms(), now_unix_ms));
  if (!change.who().empty()) StrAppend(&out, " by ", change.who());
  if (!change.why().empty()) StrAppend(&out, ": ", change.why());
  return out;
}

std::string Document(const std::string& text) {
  return text.empty() ? "" : StrCat("\n", text, text.ends_with('\n') ? "" : "\n");
}

std::string Cpus(double cpus) { return StrCat(Number(cpus, 3), cpus == 1 ? " CPU" : " CPUs"); }

std::string TrainingText(const wire::PolicyState& state) {
  std::string out = state.training_open() ? "open" : "closed now";
  StrAppend(&out, ", share ", Percent(state.training_share()), ", ", state.training_threads(),
            state.training_threads() == 1 ? " thread" : " threads");
  if (state.training_cpus() > 0) StrAppend(&out, ", at most ", Cpus(state.training_cpus()));
  return out;
}

std::string NotEnforced(const wire::PolicyState& state, const Style& style) {
  std::string out;
  for (const std::string& sentence : state.not_enforced()) {
    StrAppend(&out, style.Yellow("not held"), "    ", sentence, "\n");
  }
  return out;
}

std::string DecisionValue(const wire::PolicyDecision& decision, double value) {
  return decision.what().ends_with("share") ? Percent(value) : Number(value);
}

std::string GateText(const wire::PolicyState& state, double now_unix_ms, const Style& style) {
  if (state.gate_changes_size() == 0) return "";
  Table table({"GATE", "CHANGE", ">TIMES", ">FROM", ">TO", "REASON"});
  for (int i = 0; i < std::min(state.gate_changes_size(), kShownGateChanges); ++i) {
    const wire::GateChange& change = state.gate_changes(i);
    table.AddRow({Ago(change.last_ms(), now_unix_ms), change.change(), StrCat(change.times()), StrCat(change.from()),
                  StrCat(change.to()), change.reason()});
  }
  return StrCat(
      "\n", table.Render(style),
      state.gate() ? "the gate takes these back by itself; tandem policy set --set gate=false turns it off\n" : "");
}

std::string Day(double unix_ms) {
  return absl::FormatTime("%Y-%m-%d", absl::FromUnixMillis(static_cast<int64_t>(unix_ms)), absl::UTCTimeZone());
}

std::string Period(const wire::UsageReport& report) {
  if (report.from_ms() <= 0 && report.to_ms() <= 0) return "all days\n";
  std::string from = report.from_ms() > 0 ? StrCat("from ", Day(report.from_ms()), " ") : "";
  std::string to = report.to_ms() > 0 ? StrCat("to ", Day(report.to_ms() - 1), " ") : "";
  return StrCat(from, to, "(UTC)\n");
}

void AddAmounts(const wire::UsageRow& row, std::vector<std::string>* cells) {
  auto bytes = [](double count) { return count > 0 ? HumanBytes(static_cast<int64_t>(count)) : "-"; };
  cells->push_back(HumanSeconds(row.cpu_seconds()));
  cells->push_back(absl::StrFormat("%.3f", row.memory_gb_hours()));
  cells->push_back(bytes(row.disk_read_bytes()));
  cells->push_back(bytes(row.disk_written_bytes()));
  cells->push_back(row.requests() > 0 ? Thousands(row.requests()) : "-");
}

wire::UsageRow Total(const wire::UsageReport& report) {
  wire::UsageRow total;
  for (const wire::UsageRow& row : report.rows()) {
    total.set_cpu_seconds(total.cpu_seconds() + row.cpu_seconds());
    total.set_memory_gb_hours(total.memory_gb_hours() + row.memory_gb_hours());
    total.set_disk_read_bytes(total.disk_read_bytes() + row.disk_read_bytes());
    total.set_disk_written_bytes(total.disk_written_bytes() + row.disk_written_bytes());
    total.set_requests(total.requests() + row.requests());
  }
  return total;
}

}  // namespace

std::string PolicyText(const wire::PolicyState& state, double now_unix_ms, const Style& style) {
  std::string out = Line("policy", WhoAndWhy(state.current(), now_unix_ms));
  out += Line("share", state.automatic() ? "adjusts itself" : "set by hand (automatic: false)");
  std::string window = state.window().empty() ? "none is open" : style.Bold(state.window());
  if (state.next_edge_ms() > 0) StrAppend(&window, ", next change ", When(state.next_edge_ms(), now_unix_ms));
  out += Line("window", window);
  out += Line("training", TrainingText(state));
  if (!state.gate()) out += Line("gate", "off (gate: false)");
  if (state.serving_cpus() > 0) out += Line("serving", "at most " + Cpus(state.serving_cpus()));
  out += NotEnforced(state, style);
  if (state.decisions_size() > 0) {
    Table table({"DECIDED", "WHAT", ">FROM", ">TO", "REASON"});
    for (int i = 0; i < std::min(state.decisions_size(), kShownDecisions); ++i) {
      const wire::PolicyDecision& decision = state.decisions(i);
      table.AddRow({Ago(decision.when_ms(), now_unix_ms), decision.what(), DecisionValue(decision, decision.from()),
                    DecisionValue(decision, decision.to()), decision.reason()});
    }
    out += "\n" + table.Render(style);
  }
  return out + GateText(state, now_unix_ms, style) + Document(state.current().text());
}

std::string PolicyOutcome(const wire::PolicyState& state, const Style& style) {
  return StrCat("revision ", state.current().revision(), " is in force\n", NotEnforced(state, style));
}

std::string PolicyChangeText(const wire::PolicyChange& change, double now_unix_ms) {
  return Line("policy", WhoAndWhy(change, now_unix_ms)) + Document(change.text());
}

std::string PolicyHistoryText(const wire::PolicyHistory& history, double now_unix_ms, const Style& style) {
  Table table({">REVISION", "WHEN", "WHO", "WHY", ""});
  for (int i = 0; i < history.changes_size(); ++i) {
    const wire::PolicyChange& change = history.changes(i);
    table.AddRow({StrCat(change.revision()), When(change.when_ms(), now_unix_ms), change.who(), change.why(),
                  i == 0 ? style.Green("in force") : ""});
  }
  return table.Render(style);
}

std::string DecisionText(const wire::PolicyDecision& decision) {
  return StrCat(decision.what(), " ", DecisionValue(decision, decision.from()), " -> ",
                DecisionValue(decision, decision.to()), decision.reason().empty() ? "" : ": ", decision.reason());
}

std::string UsageText(const wire::UsageReport& report, const Style& style) {
  if (report.rows_size() == 0) return Period(report) + "nothing was used\n";
  using Field = const std::string& (wire::UsageRow::*)() const;
  const std::pair<const char*, Field> kLabels[] = {{"DAY", &wire::UsageRow::day},
                                                   {"SIDE", &wire::UsageRow::side},
                                                   {"KIND", &wire::UsageRow::kind},
                                                   {"NAME", &wire::UsageRow::name}};
  std::vector<std::string> headers;
  std::vector<Field> labels;
  for (const auto& [header, field] : kLabels) {
    auto filled = [field = field](const wire::UsageRow& row) { return !(row.*field)().empty(); };
    if (std::none_of(report.rows().begin(), report.rows().end(), filled)) continue;
    headers.push_back(header);
    labels.push_back(field);
  }
  for (const char* header : {">CPU", ">GB HOURS", ">READ", ">WRITTEN", ">REQUESTS"}) headers.push_back(header);
  Table table(headers);
  for (const wire::UsageRow& row : report.rows()) {
    std::vector<std::string> cells;
    for (Field label : labels) cells.push_back((row.*label)());
    AddAmounts(row, &cells);
    table.AddRow(std::move(cells));
  }
  if (report.rows_size() > 1 && !labels.empty()) {
    std::vector<std::string> cells(labels.size());
    cells[0] = "total";
    AddAmounts(Total(report), &cells);
    table.AddRow(std::move(cells));
  }
  return Period(report) + table.Render(style);
}

}  // namespace tandem::cli
