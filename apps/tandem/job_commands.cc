#include <unistd.h>

#include <algorithm>

#include "nlohmann/json.hpp"
#include "tandem/commands.h"
#include "tandem/job_text.h"

namespace tandem::cli {
namespace {

absl::StatusOr<Exit> RunList(Session& session) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(wire::JobList list, client->jobs().List());
  if (session.json) {
    session.PrintJson(list);
    return Exit::kOk;
  }
  Table table = JobTable();
  for (const wire::Job& job : list.jobs()) AddJobRow(job, NowUnixMillis(), session.style, &table);
  session.Print(list.jobs_size() > 0 ? table.Render(session.style) : "no jobs; start one with: tandem train SPEC\n");
  return Exit::kOk;
}

absl::StatusOr<Exit> RunShow(Session& session, int32_t job_id) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(wire::Job job, client->jobs().Show(job_id));
  if (session.json) {
    session.PrintJson(job);
  } else {
    session.Print(JobText(job, NowUnixMillis(), session.style));
  }
  return Exit::kOk;
}

absl::StatusOr<Exit> RunExplain(Session& session, int32_t job_id) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(wire::JobExplanation explanation, client->jobs().Explain(job_id));
  if (session.json) {
    session.PrintJson(explanation);
  } else {
    session.Print(ExplanationText(explanation, NowUnixMillis(), session.style));
  }
  return Exit::kOk;
}

struct Verb {
  absl::Status (client::Jobs::*call)(int32_t, client::Deadline);
  std::string coming;                // what is said while the job is in another state than these
  std::vector<std::string> settled;  // states of a job that did what it was told, beside its ends
};

// Applies the verb to each job and says in which state it is then, and what is still to come: the server tells the
// trainer after its answer. Stops at the first error.
absl::StatusOr<Exit> RunVerb(Session& session, const std::vector<int32_t>& jobs, const Verb& verb) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  for (int32_t id : jobs) {
    TANDEM_RETURN_IF_ERROR((client->jobs().*verb.call)(id, {}));
    TANDEM_ASSIGN_OR_RETURN(wire::Job job, client->jobs().Show(id));
    bool settled =
        client::HasEnded(job) || std::find(verb.settled.begin(), verb.settled.end(), job.state()) != verb.settled.end();
    if (session.json) {
      session.PrintJson(job);
    } else if (settled) {
      session.Print(Outcome(job, session.style) + "\n");
    } else {
      session.Print(StrCat("job ", id, " ", session.style.State(job.state()), ": ", verb.coming, "\n"));
    }
  }
  return Exit::kOk;
}

absl::StatusOr<Exit> RunDelete(Session& session, const std::vector<int32_t>& jobs) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  for (int32_t id : jobs) {
    TANDEM_RETURN_IF_ERROR(client->jobs().Delete(id));
    if (session.json) {
      session.PrintJsonText(nlohmann::json{{"job", id}, {"deleted", true}}.dump());
    } else {
      session.Print(StrCat("job ", id, " deleted\n"));
    }
  }
  return Exit::kOk;
}

std::string LogJson(std::string_view text) {
  return nlohmann::json{{"text", std::string(text)}}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

absl::StatusOr<Exit> FollowLogs(Session& session, client::Client& client, int32_t job) {
  CatchInterrupts();
  absl::Status status = client.jobs().FollowLogs(job, [&](std::string_view text) {
    if (session.json) {
      session.PrintJsonText(LogJson(text));
    } else {
      session.Print(text);
      std::fflush(stdout);
    }
    return true;
  });
  if (absl::IsCancelled(status)) return Exit::kOk;
  TANDEM_RETURN_IF_ERROR(status);
  return Exit::kOk;
}

absl::StatusOr<Exit> RunLogs(Session& session, int32_t job, bool follow) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  if (follow) return FollowLogs(session, *client, job);
  std::string text;
  for (int64_t offset = 0;;) {
    TANDEM_ASSIGN_OR_RETURN(wire::LogText log, client->jobs().Logs(job, offset));
    if (log.text().empty()) break;
    text += log.text();
    offset = static_cast<int64_t>(log.next_offset());
    if (!session.json) {
      session.Print(log.text());
    }
  }
  if (session.json) session.PrintJsonText(LogJson(text));
  return Exit::kOk;
}

}  // namespace

void AddJobCommands(Command& root, Session& session) {
  Command& jobs = root.Add("jobs", "Look at jobs and steer them");
  jobs.Example("jobs list").Example("jobs logs 3 --follow");
  jobs.Add("list", "All jobs, newest first").Example("jobs list").Run([&session] { return RunList(session); });

  auto id = std::make_shared<int32_t>(0);
  jobs.Add("show", "One job with its progress, metrics and complete spec")
      .Argument("JOB", id.get(), "Its number")
      .Example("jobs show 3")
      .Run([&session, id] { return RunShow(session, *id); });

  jobs.Add("explain", "What a job waits for, what would start it, and what happened to it")
      .Argument("JOB", id.get(), "Its number")
      .Example("jobs explain 3")
      .Run([&session, id] { return RunExplain(session, *id); });

  auto ids = std::make_shared<std::vector<int32_t>>();
  auto verb = [&](const std::string& name, const std::string& help, const Verb& call) {
    jobs.Add(name, help)
        .Arguments("JOB", ids.get(), "Its number")
        .Example("jobs " + name + " 3")
        .Run([&session, ids, call] { return RunVerb(session, *ids, call); });
  };
  verb("cancel", "End jobs for good", {&client::Jobs::Cancel, "it is being cancelled", {}});
  verb("pause", "Hold jobs; they keep their memory",
       {&client::Jobs::Pause, "it is being paused", {"paused", "queued"}});
  verb("release", "Checkpoint jobs and free all that they hold; they wait in the queue until they are resumed",
       {&client::Jobs::Release, "it is being released", {"queued"}});
  verb("resume", "Let paused jobs go on",
       {&client::Jobs::Resume, "it is being resumed", {"queued", "starting", "running"}});

  jobs.Add("delete", "Forget ended jobs and their checkpoints; models that they made stay")
      .Arguments("JOB", ids.get(), "Its number")
      .Example("jobs delete 3 4")
      .Run([&session, ids] { return RunDelete(session, *ids); });

  auto follow = std::make_shared<bool>(false);
  jobs.Add("logs", "What the trainer wrote")
      .Argument("JOB", id.get(), "Its number")
      .Flag("-f,--follow", follow.get(), "Go on until the job ends")
      .Example("jobs logs 3 --follow")
      .Run([&session, id, follow] { return RunLogs(session, *id, *follow); });
}

}  // namespace tandem::cli
