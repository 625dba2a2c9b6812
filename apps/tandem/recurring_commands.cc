#include "nlohmann/json.hpp"
#include "tandem/commands.h"
#include "tandem/job_text.h"

namespace tandem::cli {
namespace {

absl::StatusOr<Exit> RunList(Session& session) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(wire::RecurringList list, client->recurring().List());
  if (session.json) {
    session.PrintJson(list);
  } else {
    session.Print(RecurringListText(list, NowUnixMillis(), session.style));
  }
  return Exit::kOk;
}

absl::StatusOr<Exit> RunShow(Session& session, int32_t id) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(wire::RecurringJob recurring, client->recurring().Show(id));
  if (session.json) {
    session.PrintJson(recurring);
  } else {
    session.Print(RecurringText(recurring, NowUnixMillis(), session.style));
  }
  return Exit::kOk;
}

using Verb = absl::StatusOr<wire::RecurringJob> (client::Recurring::*)(int32_t, client::Deadline);

absl::StatusOr<Exit> RunVerb(Session& session, const std::vector<int32_t>& ids, Verb verb) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  for (int32_t id : ids) {
    TANDEM_ASSIGN_OR_RETURN(wire::RecurringJob recurring, (client->recurring().*verb)(id, {}));
    if (session.json) {
      session.PrintJson(recurring);
    } else {
      session.Print(RecurringOutcome(recurring, NowUnixMillis()) + "\n");
    }
  }
  return Exit::kOk;
}

absl::StatusOr<Exit> RunDelete(Session& session, const std::vector<int32_t>& ids) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  for (int32_t id : ids) {
    TANDEM_RETURN_IF_ERROR(client->recurring().Delete(id));
    if (session.json) {
      session.PrintJsonText(nlohmann::json{{"recurring", id}, {"deleted", true}}.dump());
    } else {
      session.Print(StrCat("recurring job ", id, " deleted\n"));
    }
  }
  return Exit::kOk;
}

}  // namespace

void AddRecurringCommands(Command& root, Session& session) {
  Command& recurring = root.Add("recurring", "Jobs that are submitted again and again");
  recurring.Example("recurring list").Example("recurring pause 2");
  recurring.Add("list", "All recurring jobs and when they run next").Example("recurring list").Run([&session] {
    return RunList(session);
  });
  auto id = std::make_shared<int32_t>(0);
  recurring.Add("show", "One with its rules and its spec")
      .Argument("ID", id.get(), "Its number")
      .Example("recurring show 2")
      .Run([&session, id] { return RunShow(session, *id); });
  auto ids = std::make_shared<std::vector<int32_t>>();
  auto verb = [&](const std::string& name, const std::string& help, Action action) {
    recurring.Add(name, help)
        .Arguments("ID", ids.get(), "Its number")
        .Example("recurring " + name + " 2")
        .Run(std::move(action));
  };
  verb("pause", "Submit no more until it is resumed; a job that runs goes on",
       [&session, ids] { return RunVerb(session, *ids, &client::Recurring::Pause); });
  verb("resume", "Submit again from the next time on",
       [&session, ids] { return RunVerb(session, *ids, &client::Recurring::Resume); });
  verb("delete", "Forget it; jobs that it submitted stay", [&session, ids] { return RunDelete(session, *ids); });
}

}  // namespace tandem::cli
