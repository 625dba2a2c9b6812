#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <random>
#include <thread>

#include "base/text.h"
#include "tandem/commands.h"
#include "tandem/job_text.h"
#include "tandem/progress_printer.h"
#include "tandem/spec_paths.h"
#include "tandem/text_file.h"

namespace tandem::cli {
namespace {

struct TrainOptions {
  std::string spec;
  std::vector<std::string> set;
  bool follow = false;
};

constexpr int kReconnectAttempts = 60;  // one a second: enough for a daemon to start again

// A key of its own for each run of this program: a submission that is sent twice makes one job.
std::string RandomKey() {
  std::random_device random;
  return absl::StrCat(absl::Hex(random()), absl::Hex(random()), absl::Hex(random()), absl::Hex(random()));
}

absl::StatusOr<wire::SubmitJobRequest> MakeRequest(const TrainOptions& options) {
  wire::SubmitJobRequest request;
  TANDEM_ASSIGN_OR_RETURN(TextFile file, ReadTextFile(options.spec));
  request.set_spec(std::move(file.text));
  request.set_source(std::move(file.source));
  std::filesystem::path folder = options.spec == "-" ? "." : std::filesystem::path(options.spec).parent_path();
  for (std::string& override : LocalPathOverrides(request.spec(), folder, options.set)) {
    request.add_overrides(std::move(override));
  }
  request.set_idempotency_key(RandomKey());
  return request;
}

enum class Choice { kGoOn, kDetach, kCancel };

// Asks on the terminal after Ctrl-C; a second Ctrl-C, or no terminal, detaches.
Choice AskDetachOrCancel() {
  if (!isatty(STDIN_FILENO)) return Choice::kDetach;
  std::fprintf(stderr, "\n[d]etach and let the job run, [c]ancel it, or Enter to go on watching? ");
  char line[64];
  ssize_t got = read(STDIN_FILENO, line, sizeof line);
  if (got <= 0 || line[0] == 'd' || line[0] == 'D') return Choice::kDetach;
  return line[0] == 'c' || line[0] == 'C' ? Choice::kCancel : Choice::kGoOn;
}

// Watches a job to its end, through restarts of the server and Ctrl-C.
class Follower {
 public:
  Follower(Session& session, client::Client& client, const wire::Job& job)
      : session_(session), client_(client), last_(job), printer_(STDOUT_FILENO, session.style) {}

  absl::StatusOr<Exit> Run() {
    CatchInterrupts();
    Show(last_);
    int failures = 0;
    while (true) {
      absl::StatusOr<wire::Job> job = client_.jobs().Follow(last_.job(), [&](const wire::Job& now) {
        failures = 0;
        Show(now);
        return true;
      });
      if (job.ok()) return Finish(*job);
      if (absl::IsCancelled(job.status())) {
        TANDEM_ASSIGN_OR_RETURN(bool detached, HandleInterrupt());
        if (detached) return Detached();
        continue;
      }
      if (!client::IsUnreachable(job.status()) || ++failures > kReconnectAttempts) return job.status();
      if (failures == 1)
        std::fprintf(stderr, "\nlost the server, trying again: %s\n", std::string(MessageOf(job.status())).c_str());
      std::this_thread::sleep_for(std::chrono::seconds(1));
    }
  }

 private:
  void Show(const wire::Job& job) {
    last_ = job;
    if (!session_.json) return printer_.Update(job, NowUnixMillis() / 1000);
    if (client::IsOver(job)) return;  // the last line comes from Finish
    wire::Job brief = job;
    brief.clear_spec();
    session_.PrintJson(brief);
  }

  // True to detach.
  absl::StatusOr<bool> HandleInterrupt() {
    printer_.Finish();
    CatchInterrupts();
    Choice choice = AskDetachOrCancel();
    if (choice == Choice::kDetach) return true;
    CatchInterrupts();  // forgets the Ctrl-C that was handled
    if (choice == Choice::kCancel) {
      TANDEM_RETURN_IF_ERROR(client_.jobs().Cancel(last_.job()));
    }
    return false;
  }

  Exit Detached() {
    std::fprintf(stderr, "\ndetached: job %d goes on; see tandem jobs show %d\n", last_.job(), last_.job());
    if (session_.json) session_.PrintJson(last_);
    return Exit::kOk;
  }

  Exit Finish(const wire::Job& job) {
    printer_.Finish();
    bool good = job.state() == "succeeded";
    if (session_.json) {
      session_.PrintJson(job);
    } else if (good) {
      session_.Print(Outcome(job, session_.style) + "\n");
    }
    if (!good) std::fprintf(stderr, "error: %s\n", Outcome(job, Style(false)).c_str());
    return good ? Exit::kOk : Exit::kJobFailed;
  }

  Session& session_;
  client::Client& client_;
  wire::Job last_;
  ProgressPrinter printer_;
};

// The spec made a recurring job instead of one that runs now: there is nothing to follow yet.
absl::StatusOr<Exit> PrintRecurring(Session& session, const wire::Job& job, bool follow) {
  if (session.json) {
    session.PrintJson(job);
    return Exit::kOk;
  }
  session.Print(StrCat("recurring job ", job.recurring(), " ", session.style.Bold(job.name()),
                       job.reason().empty() ? "" : ": ", job.reason(), "; see tandem recurring show ", job.recurring(),
                       "\n"));
  if (follow) std::fprintf(stderr, "nothing to follow yet: its jobs can be followed once they run\n");
  return Exit::kOk;
}

absl::StatusOr<Exit> RunTrain(Session& session, const TrainOptions& options) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(wire::SubmitJobRequest request, MakeRequest(options));
  TANDEM_ASSIGN_OR_RETURN(wire::Job job, client->jobs().Submit(request));
  if (job.state() == "recurring") return PrintRecurring(session, job, options.follow);
  if (options.follow) {
    if (!session.json) session.Print(StrCat("job ", job.job(), " ", session.style.Bold(job.name()), "\n"));
    std::fflush(stdout);  // the progress goes past its buffer
    return Follower(session, *client, job).Run();
  }
  if (session.json) {
    session.PrintJson(job);
  } else {
    session.Print(StrCat("job ", job.job(), " ", session.style.Bold(job.name()), " ", session.style.State(job.state()),
                         "; watch it: tandem jobs logs ", job.job(), " --follow, tandem top\n"));
  }
  return Exit::kOk;
}

}  // namespace

void AddTrainCommand(Command& root, Session& session) {
  auto options = std::make_shared<TrainOptions>();
  root.Add("train", "Submit a training job")
      .Argument("SPEC", &options->spec, "The job as YAML; - reads stdin")
      .Flag("-f,--follow", &options->follow, "Show its progress to the end; Ctrl-C asks whether to detach or cancel")
      .Option("--set", &options->set, "key.path=value, changes the spec; may be repeated")
      .Example("train job.yaml --follow")
      .Example("train job.yaml --set epochs=2 --set optimizer.lr=0.1")
      .Example("train job.yaml --follow --json | tail -n 1")
      .Run([&session, options] { return RunTrain(session, *options); });
}

}  // namespace tandem::cli
