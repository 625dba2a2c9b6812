#include "tandem/job_text.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "base/strings.h"
#include "base/text.h"

namespace tandem::cli {
namespace {

std::string ModelOf(const wire::Job& job) {
  return job.version() > 0 ? StrCat(job.model(), "/", job.version()) : job.model();
}

std::string Bar(double fraction, int cells, const Style& style) {
  int full = static_cast<int>(std::lround(std::clamp(fraction, 0.0, 1.0) * cells));
  std::string done, rest;
  for (int i = 0; i < full; ++i) done += "━";
  for (int i = full; i < cells; ++i) rest += "─";
  return style.Green(done) + style.Dim(rest);
}

std::string MetricsText(const wire::Job& job) {
  // Ordered: a protobuf map is not.
  std::map<std::string, double> metrics(job.metrics().begin(), job.metrics().end());
  std::string text;
  for (const auto& [name, value] : metrics) StrAppend(&text, text.empty() ? "" : ", ", name, " ", Number(value));
  return text;
}

// Four places, but no long row of digits of one that diverges.
std::string LossText(double loss) {
  return std::abs(loss) < 1e4 ? absl::StrFormat("%.4f", loss) : absl::StrFormat("%.3g", loss);
}

// "key         value"; nothing for an empty value.
void AppendLine(std::string* out, std::string_view key, const std::string& value) {
  if (!value.empty()) StrAppend(out, key, std::string(12 - key.size(), ' '), value, "\n");
}

std::string Label(const wire::RecurringJob& recurring) {
  return StrCat("recurring job ", recurring.id(), recurring.name().empty() ? "" : " (", recurring.name(),
                recurring.name().empty() ? "" : ")");
}

std::string NextText(const wire::RecurringJob& recurring, double now_unix_ms) {
  return recurring.next_ms() > 0 ? When(recurring.next_ms(), now_unix_ms) : "never again";
}

}  // namespace

Table JobTable() {
  return Table({">JOB", "NAME", "STATE", ">DONE", ">LOSS", ">ACCURACY", ">IMAGES/S", ">ETA", "MODEL", "CREATED"});
}

void AddJobRow(const wire::Job& job, double now_unix_ms, const Style& style, Table* table) {
  const wire::Progress& progress = job.progress();
  double done = FractionDone(progress);
  bool running = job.pid() > 0;
  table->AddRow({StrCat(job.job()), job.name(), style.State(job.state()),
                 done < 0 ? "-" : absl::StrFormat("%.0f%%", done * 100),
                 progress.step() > 0 ? Number(progress.loss()) : "-",
                 progress.step() > 0 && progress.accuracy() >= 0 ? Percent(progress.accuracy()) : "-",
                 running && progress.images_per_s() > 0 ? Thousands(progress.images_per_s()) : "-",
                 running && progress.step() > 0 && progress.eta_s() > 0 ? HumanSeconds(progress.eta_s()) : "-",
                 job.model().empty() ? "-" : ModelOf(job), Ago(job.created_ms(), now_unix_ms)});
}

std::string JobText(const wire::Job& job, double now_unix_ms, const Style& style) {
  std::string out;
  auto line = [&](std::string_view key, const std::string& value) { AppendLine(&out, key, value); };
  line("job", StrCat(job.job(), " ", style.Bold(job.name()), " (", job.kind(), ")"));
  line("state", style.State(job.state()) + (job.reason().empty() ? "" : ": " + job.reason()));
  if (job.progress().step() > 0) line("progress", ProgressLine(job, 120, style));
  line("metrics", MetricsText(job));
  line("model", ModelOf(job));
  if (!job.deploy().empty()) {
    line("deploy", style.State(job.deploy()) + (job.deploy_reason().empty() ? "" : ": " + job.deploy_reason()));
  }
  if (job.pid() > 0)
    line("trainer", StrCat("pid ", job.pid(), ", ", job.progress().threads(), " threads, attempt ", job.attempt()));
  line("priority", job.priority() == 0 ? "" : Number(job.priority()));
  line("window", job.window());
  line("recurring", job.recurring() == 0 ? "" : StrCat(job.recurring()));
  line("resources", StrCat(job.threads(), " threads, ", HumanBytes(job.memory_bytes())));
  line("created", Ago(job.created_ms(), now_unix_ms) + (job.submitted_by().empty() ? "" : " by " + job.submitted_by()));
  if (job.finished_ms() > 0 && job.started_ms() > 0) {
    line("took", HumanSeconds((job.finished_ms() - job.started_ms()) / 1000));
  }
  if (!job.spec().empty()) StrAppend(&out, "\n", job.spec(), job.spec().ends_with('\n') ? "" : "\n");
  return out;
}

double FractionDone(const wire::Progress& progress) {
  if (progress.steps() <= 0) return -1;
  return std::min(1.0, static_cast<double>(progress.step()) / progress.steps());
}

std::string ProgressLine(const wire::Job& job, int columns, const Style& style) {
  const wire::Progress& progress = job.progress();
  std::vector<std::string> parts;
  std::string head = job.state() == "running" && !progress.phase().empty() && progress.phase() != "training"
                         ? progress.phase()
                         : std::string();
  if (progress.epochs() > 0) {
    StrAppend(&head, head.empty() ? "" : " ", "epoch ", std::min(progress.epoch() + 1, progress.epochs()), "/",
              progress.epochs());
  }
  if (head.empty()) head = job.state();
  parts.push_back(head);
  double done = FractionDone(progress);
  if (done >= 0) {
    parts.push_back(Bar(done, columns >= 100 ? 24 : 12, style) + absl::StrFormat(" %3.0f%%", std::floor(done * 100)));
    parts.push_back(StrCat("step ", progress.step(), "/", progress.steps()));
  } else if (progress.step() > 0) {
    parts.push_back(StrCat("step ", progress.step()));
  }
  if (progress.step() > 0) parts.push_back("loss " + LossText(progress.loss()));
  if (progress.step() > 0 && progress.accuracy() >= 0) parts.push_back("accuracy " + Percent(progress.accuracy()));
  if (progress.images_per_s() > 0) parts.push_back(Thousands(progress.images_per_s()) + " images/s");
  if (progress.step() > 0 && progress.eta_s() > 0) parts.push_back("ETA " + HumanSeconds(progress.eta_s()));
  std::string line = parts[0];
  for (size_t i = 1; i < parts.size(); ++i) {
    if (DisplayWidth(line) + 2 + DisplayWidth(parts[i]) > columns) break;
    line += "  " + parts[i];
  }
  return DisplayWidth(line) > columns ? Truncated(line, columns) : line;
}

std::string Outcome(const wire::Job& job, const Style& style) {
  std::string out = StrCat("job ", job.job(), " ", style.State(job.state()));
  if (job.state() != "succeeded") return job.reason().empty() ? out : StrCat(out, ": ", job.reason());
  if (job.version() > 0) StrAppend(&out, ": ", style.Bold(ModelOf(job)));
  std::string metrics = MetricsText(job);
  if (!metrics.empty()) StrAppend(&out, ", ", metrics);
  if (!job.deploy().empty()) {
    StrAppend(&out, "\ndeploy ", style.State(job.deploy()), job.deploy_reason().empty() ? "" : ": ",
              job.deploy_reason());
  }
  return out;
}

std::string WaitReason(const wire::Job& job) {
  for (std::string_view waiting : {"queued", "starting", "pausing", "paused"}) {
    if (job.state() == waiting) return job.reason();
  }
  return "";
}

std::string ExplanationText(const wire::JobExplanation& explanation, double now_unix_ms, const Style& style) {
  const wire::Job& job = explanation.job();
  std::string out = StrCat("job ", job.job(), " ", style.Bold(job.name()), ": ", style.State(job.state()), "\n");
  absl::string_view waits_for = absl::StripPrefix(explanation.waits_for(), "waits for ");  // as most reasons begin
  AppendLine(&out, "waits for", waits_for.empty() ? "nothing" : std::string(waits_for));
  AppendLine(&out, "to start", explanation.would_start());
  AppendLine(&out, "earliest", explanation.earliest_ms() > 0 ? When(explanation.earliest_ms(), now_unix_ms) : "");
  for (const std::string& fact : explanation.facts()) StrAppend(&out, "- ", fact, "\n");
  if (explanation.events_size() == 0) return out;
  Table table({"WHEN", "STATE", "REASON"});
  for (const wire::JobEvent& event : explanation.events()) {
    table.AddRow({When(event.when_ms(), now_unix_ms), style.State(event.state()), event.reason()});
  }
  return StrCat(out, "\n", table.Render(style));
}

std::string RecurringListText(const wire::RecurringList& list, double now_unix_ms, const Style& style) {
  if (list.recurring_size() == 0) return "no recurring jobs; submit a spec with the key 'recurring' to make one\n";
  Table table({">ID", "NAME", "CRON", "ZONE", "NEXT", ">LAST JOB", "NOTE"});
  for (const wire::RecurringJob& recurring : list.recurring()) {
    table.AddRow({StrCat(recurring.id()), recurring.name(), recurring.cron(), recurring.time_zone(),
                  recurring.paused() ? style.State("paused") : NextText(recurring, now_unix_ms),
                  recurring.last_job() > 0 ? StrCat(recurring.last_job()) : "-", recurring.note()});
  }
  return table.Render(style);
}

std::string RecurringText(const wire::RecurringJob& recurring, double now_unix_ms, const Style& style) {
  std::string out;
  auto line = [&](std::string_view key, const std::string& value) { AppendLine(&out, key, value); };
  line("recurring", StrCat(recurring.id(), " ", style.Bold(recurring.name())));
  line("runs", StrCat(recurring.cron(), recurring.time_zone().empty() ? "" : " ", recurring.time_zone()));
  line("next", recurring.paused() ? style.State("paused") : NextText(recurring, now_unix_ms));
  if (recurring.last_ms() > 0) {
    line("last", When(recurring.last_ms(), now_unix_ms) +
                     (recurring.last_job() > 0 ? StrCat(", job ", recurring.last_job()) : ""));
  }
  line("note", recurring.note());
  line("catch-up", recurring.catch_up());
  line("overlap", recurring.overlap());
  line("owner", recurring.submitted_by());
  if (!recurring.spec().empty()) StrAppend(&out, "\n", recurring.spec(), recurring.spec().ends_with('\n') ? "" : "\n");
  return out;
}

std::string RecurringOutcome(const wire::RecurringJob& recurring, double now_unix_ms) {
  if (recurring.paused()) return Label(recurring) + " is paused";
  return StrCat(Label(recurring), " runs next ", NextText(recurring, now_unix_ms));
}

}  // namespace tandem::cli
