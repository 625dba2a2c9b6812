#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "base/fd.h"
#include "nlohmann/json.hpp"
#include "tandem/commands.h"
#include "tandem/load_recording.h"
#include "tandem/sharing_text.h"
#include "tandem/text_file.h"

namespace tandem::cli {
namespace {

struct SetOptions {
  std::string file, why;
  std::vector<std::string> set;
};
struct RevertOptions {
  int32_t revision = 0;
  std::string why;
};
struct RecordOptions {
  double seconds = 0;  // 0 = until Ctrl-C
  std::string out;     // "" = stdout
  bool past = false;
};

absl::StatusOr<Exit> RunShow(Session& session, int32_t revision) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  if (revision == 0) {
    TANDEM_ASSIGN_OR_RETURN(wire::PolicyState state, client->sharing().Show());
    if (session.json) {
      session.PrintJson(state);
    } else {
      session.Print(PolicyText(state, NowUnixMillis(), session.style));
    }
    return Exit::kOk;
  }
  TANDEM_ASSIGN_OR_RETURN(wire::PolicyHistory history, client->sharing().History());
  for (const wire::PolicyChange& change : history.changes()) {
    if (change.revision() != revision) continue;
    if (session.json) {
      session.PrintJson(change);
    } else {
      session.Print(PolicyChangeText(change, NowUnixMillis()));
    }
    return Exit::kOk;
  }
  return NotFound("the policy has no revision ", revision, "; tandem policy history shows them");
}

absl::StatusOr<Exit> RunHistory(Session& session) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(wire::PolicyHistory history, client->sharing().History());
  if (session.json) {
    session.PrintJson(history);
  } else {
    session.Print(PolicyHistoryText(history, NowUnixMillis(), session.style));
  }
  return Exit::kOk;
}

void PrintOutcome(Session& session, const wire::PolicyState& state) {
  if (session.json) {
    session.PrintJson(state);
  } else {
    session.Print(PolicyOutcome(state, session.style));
  }
}

absl::StatusOr<Exit> RunSet(Session& session, const SetOptions& options) {
  wire::SetPolicyRequest request;
  if (!options.file.empty()) {
    TANDEM_ASSIGN_OR_RETURN(TextFile file, ReadTextFile(options.file));
    request.set_text(std::move(file.text));
    request.set_source(std::move(file.source));
  }
  for (const std::string& override : options.set) {
    if (override.find('=') == override.npos) return Usage("--set is '", override, "'; write key.path=value");
    request.add_overrides(override);
  }
  if (request.text().empty() && options.set.empty()) {
    return options.file.empty() ? Usage("give a file, or --set key.path=value")
                                : InvalidArgument("'", request.source(), "' is empty");
  }
  request.set_why(options.why);
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(wire::PolicyState state, client->sharing().Set(request));
  PrintOutcome(session, state);
  return Exit::kOk;
}

absl::StatusOr<Exit> RunRevert(Session& session, const RevertOptions& options) {
  wire::RevertPolicyRequest request;
  request.set_revision(options.revision);
  request.set_why(options.why);
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(wire::PolicyState state, client->sharing().Revert(request));
  PrintOutcome(session, state);
  return Exit::kOk;
}

absl::StatusOr<Exit> RunUndo(Session& session) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(wire::PolicyState state, client->sharing().Undo());
  if (session.json) {
    session.PrintJson(state);
  } else if (state.decisions_size() > 0) {
    session.Print(DecisionText(state.decisions(0)) + "\n");
  } else {
    session.Print(StrCat("the training share is ", Percent(state.training_share()), " now\n"));
  }
  return Exit::kOk;
}

// Where the recording goes: a file, or stdout as text or as JSON. Each piece is on its way when Write returns, so that
// a recording of days that is killed keeps all but its end.
class Recorder {
 public:
  static absl::StatusOr<Recorder> Open(Session& session, const std::string& path) {
    if (path.empty()) return Recorder(session, nullptr);
    std::FILE* file = std::fopen(path.c_str(), "we");
    if (!file) return ErrnoStatus(errno, StrCat("write '", path, "'"));
    return Recorder(session, file);
  }
  absl::Status Write(const std::string& piece) {
    if (piece.empty()) return absl::OkStatus();
    if (!file_ && session_.json) {
      session_.PrintJsonText(nlohmann::json{{"text", piece}}.dump(-1, ' ', false, kReplace));
      return absl::OkStatus();
    }
    std::FILE* to = file_ ? file_.get() : stdout;
    bool written = std::fwrite(piece.data(), 1, piece.size(), to) == piece.size() && std::fflush(to) == 0;
    return written ? absl::OkStatus() : ErrnoStatus(errno, "write the recorded load");
  }

 private:
  static constexpr auto kReplace = nlohmann::json::error_handler_t::replace;
  Recorder(Session& session, std::FILE* file) : session_(session), file_(file, &std::fclose) {}
  Session& session_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
};

// Polls until the time is over or Ctrl-C; a server that is away for less than a minute leaves a gap only.
absl::Status Record(client::Client& client, double seconds, LoadRecording* recording, Recorder* recorder) {
  using Clock = std::chrono::steady_clock;
  constexpr double kPollSeconds = 5, kOverlapSeconds = 5;
  constexpr int kMostFailures = 12;
  auto since = [](Clock::time_point from) { return std::chrono::duration<double>(Clock::now() - from).count(); };
  Clock::time_point start = Clock::now(), covered = start;
  TANDEM_ASSIGN_OR_RETURN(std::string before, client.sharing().RecordedLoad(kOverlapSeconds));
  recording->SkipTo(before);
  CatchInterrupts();
  int failures = 0;
  for (bool last = false; !last;) {
    double left = seconds > 0 ? std::max(0.0, seconds - since(start)) : kPollSeconds;
    poll(nullptr, 0, static_cast<int>(std::ceil(std::min(left, kPollSeconds) * 1000)));  // ended by Ctrl-C
    last = Interrupts() > 0 || (seconds > 0 && since(start) >= seconds);
    if (last) CatchInterrupts();  // forgets a Ctrl-C: the newest load is still to be read
    Clock::time_point asked = Clock::now();
    absl::StatusOr<std::string> csv =
        client.sharing().RecordedLoad(static_cast<int64_t>(std::ceil(since(covered) + kOverlapSeconds)));
    if (absl::IsCancelled(csv.status())) return absl::OkStatus();
    if (client::IsUnreachable(csv.status()) && !last && ++failures <= kMostFailures) continue;
    TANDEM_RETURN_IF_ERROR(csv.status());
    failures = 0;
    covered = asked;
    TANDEM_RETURN_IF_ERROR(recorder->Write(recording->Add(*csv)));
  }
  return absl::OkStatus();
}

absl::Status RecordPast(client::Client& client, double seconds, LoadRecording* recording, Recorder* recorder) {
  TANDEM_ASSIGN_OR_RETURN(std::string csv, client.sharing().RecordedLoad(static_cast<int64_t>(std::ceil(seconds))));
  return recorder->Write(recording->Add(csv));
}

absl::StatusOr<Exit> RunRecord(Session& session, const RecordOptions& options) {
  if (options.past && options.seconds <= 0) return Usage("--past needs --seconds");
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(Recorder recorder, Recorder::Open(session, options.out));
  LoadRecording recording;
  absl::Status status = options.past ? RecordPast(*client, options.seconds, &recording, &recorder)
                                     : Record(*client, options.seconds, &recording, &recorder);
  TANDEM_RETURN_IF_ERROR(status);
  if (session.json) {
    if (options.out.empty()) return Exit::kOk;
    nlohmann::json summary = {{"out", options.out}, {"lines", recording.lines()}, {"seconds", recording.seconds()}};
    session.PrintJsonText(summary.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    return Exit::kOk;
  }
  std::string summary = recording.lines() == 0 ? std::string("the server recorded no load: no model was served\n")
                                               : StrCat("recorded ", Thousands(recording.seconds()), " s of load, ",
                                                        Thousands(static_cast<double>(recording.lines())), " lines",
                                                        options.out.empty() ? "" : ": ", options.out, "\n");
  std::fputs(summary.c_str(), stderr);
  return Exit::kOk;
}

void AddChanges(Command& policy, Session& session) {
  auto set = std::make_shared<SetOptions>();
  policy.Add("set", "Change how the machine is shared, at once and for good")
      .OptionalArgument("FILE", &set->file, "The whole policy as YAML; - reads stdin")
      .Option("--set", &set->set, "key.path=value, on top of the file or of what is in force; may be repeated")
      .Option("--why", &set->why, "The reason, kept in the history")
      .Example("policy set nights.yaml --why 'train at night'")
      .Example("policy set --set serving.cpu=70% --set training.cpu=30% --set lend=false")
      .Run([&session, set] { return RunSet(session, *set); });
  auto revert = std::make_shared<RevertOptions>();
  policy.Add("revert", "Put an earlier revision in force again")
      .OptionalArgument("REVISION", &revert->revision, "As tandem policy history numbers them; the last one if absent")
      .Option("--why", &revert->why, "The reason, kept in the history")
      .Example("policy revert")
      .Example("policy revert 3 --why 'too slow by day'")
      .Run([&session, revert] { return RunRevert(session, *revert); });
  policy.Add("undo", "Take back what the policy decided last by itself; it does not decide it again for an hour")
      .Example("policy undo")
      .Run([&session] { return RunUndo(session); });
}

}  // namespace

void AddPolicyCommand(Command& root, Session& session) {
  Command& policy = root.Add("policy", "How serving and training share the machine");
  policy.Example("policy show").Example("policy set --set training.cpu=30%").Example("policy revert");
  auto revision = std::make_shared<int32_t>(0);
  policy.Add("show", "What is in force now, what was decided lately, and the document")
      .OptionalArgument("REVISION", revision.get(), "The document of an earlier revision instead")
      .Example("policy show")
      .Example("policy show 3")
      .Run([&session, revision] { return RunShow(session, *revision); });
  AddChanges(policy, session);
  policy.Add("history", "All revisions: when, who, why").Example("policy history").Run([&session] {
    return RunHistory(session);
  });
  auto record = std::make_shared<RecordOptions>();
  policy.Add("record", "Record the load from now on, as a file for tandem simulate")
      .Option("--seconds", &record->seconds, "Stop after so many; at Ctrl-C if absent")
      .Option("-o,--out", &record->out, "File to write; stdout if absent")
      .Flag("--past", &record->past, "Take the last --seconds that the server remembers (an hour at most), at once")
      .Example("policy record --seconds 600 --out load.csv")
      .Example("policy record --past --seconds 3600 --out load.csv")
      .Example("simulate load.csv --policy latency_first")
      .Run([&session, record] { return RunRecord(session, *record); });
}

}  // namespace tandem::cli
