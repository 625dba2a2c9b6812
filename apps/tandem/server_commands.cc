#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "base/files.h"
#include "base/text.h"
#include "google/protobuf/util/json_util.h"
#include "nlohmann/json.hpp"
#include "tandem/commands.h"
#include "tandem/programs.h"
#include "tandem/status_text.h"

namespace tandem::cli {
namespace {

using Seconds = std::chrono::duration<double>;

absl::StatusOr<Exit> RunStatus(Session& session) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(wire::Status status, client->admin().Status());
  if (session.json) {
    session.PrintJson(status);
  } else {
    session.Print(StatusText(status, NowUnixMillis(), session.style));
  }
  return Exit::kOk;
}

// A handle of the daemon's process that tells when it is gone; invalid where it runs elsewhere.
UniqueFd WatchDaemon(const client::Client& client, int pid) {
  if (!client.on_this_machine() || pid <= 0) return UniqueFd();
  absl::StatusOr<std::string> name = ReadFile(StrCat("/proc/", pid, "/comm"));
  if (!name.ok() || !name->starts_with("tandemd")) return UniqueFd();
  return UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
}

// True once the daemon is gone.
bool WaitUntilGone(client::Client& client, const UniqueFd& daemon, double timeout_s) {
  auto end = std::chrono::steady_clock::now() + Seconds(timeout_s);
  while (std::chrono::steady_clock::now() < end) {
    if (daemon.valid()) {
      pollfd wait{daemon.get(), POLLIN, 0};
      if (poll(&wait, 1, 200) > 0) return true;
    } else {
      if (client::IsUnreachable(client.admin().Status(client::Deadline{2}).status())) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  }
  return false;
}

absl::StatusOr<Exit> RunStop(Session& session, double timeout_s) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(wire::Status status, client->admin().Status());
  UniqueFd daemon = WatchDaemon(*client, status.pid());
  TANDEM_RETURN_IF_ERROR(client->admin().Stop());
  if (!WaitUntilGone(*client, daemon, timeout_s)) {
    return DeadlineExceeded("the daemon (pid ", status.pid(), ") is still there after ", HumanSeconds(timeout_s),
                            "; its log says what it waits for");
  }
  if (session.json) {
    session.PrintJsonText(nlohmann::json{{"stopped", true}, {"pid", status.pid()}}.dump());
  } else {
    session.Print(StrCat("stopped (pid ", status.pid(), ")\n"));
  }
  return Exit::kOk;
}

absl::StatusOr<Exit> RunGc(Session& session, bool dry_run) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(wire::GcReport report, client->admin().CollectGarbage(dry_run));
  if (session.json) {
    session.PrintJson(report);
    return Exit::kOk;
  }
  for (const std::string& path : report.removed()) session.Print(path + "\n");
  session.Print(StrCat(report.dry_run() ? "would free " : "freed ", HumanBytes(report.bytes()), " in ",
                       report.removed_size(), report.removed_size() == 1 ? " item\n" : " items\n"));
  return Exit::kOk;
}

absl::StatusOr<wire::DoctorReport> ExamineWithoutServer() {
  TANDEM_ASSIGN_OR_RETURN(ProgramResult result, RunProgram("tandemd", {"doctor"}));
  if (result.exit_code != 0) return Internal("tandemd doctor: ", ErrorText(result));
  wire::DoctorReport report;
  auto parsed = google::protobuf::util::JsonStringToMessage(result.out, &report);
  if (!parsed.ok()) return Internal("tandemd doctor: ", parsed.ToString());
  return report;
}

absl::StatusOr<Exit> RunDoctor(Session& session) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  absl::StatusOr<wire::DoctorReport> report = client->admin().Doctor();
  if (client::IsUnreachable(report.status()) && client->on_this_machine()) {
    if (!session.json) session.Print(StrCat("no server at ", session.url, ": looking at this machine\n"));
    report = ExamineWithoutServer();
  }
  TANDEM_RETURN_IF_ERROR(report.status());
  bool error = false;
  Table table({"CHECK", "STATE", "DETAIL"});
  for (const wire::DoctorCheck& check : report->checks()) {
    error = error || check.state() == "error";
    table.AddRow({check.name(), session.style.State(check.state()), check.detail()});
    if (!check.cure().empty() && check.state() != "ok") table.AddRow({"", "", "-> " + check.cure()});
  }
  if (session.json) {
    session.PrintJson(*report);
  } else {
    session.Print(table.Render(session.style));
  }
  return error ? Exit::kFailed : Exit::kOk;
}

absl::StatusOr<Exit> RunLogLevel(Session& session, const std::string& level) {
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_RETURN_IF_ERROR(client->admin().SetLogLevel(level));
  if (session.json) {
    session.PrintJsonText(nlohmann::json{{"level", level}}.dump());
  } else {
    session.Print(StrCat("log level is ", level, " now\n"));
  }
  return Exit::kOk;
}

}  // namespace

void AddServerCommands(Command& root, Session& session) {
  root.Add("serve", "Become the server (tandemd); takes its options: tandem serve --help")
      .Example("serve --data ~/tandem --http 127.0.0.1:8000")
      .Example("serve --data ~/tandem --http 127.0.0.1:0 --ready-file ready.json")
      .Run([]() -> absl::StatusOr<Exit> { return ExecProgram("tandemd", {}); });

  root.Add("simulate", "Try a policy on recorded load, weeks in seconds (tandemd): tandem simulate --help")
      .Example("simulate load.csv --policy latency_first")
      .Run([]() -> absl::StatusOr<Exit> { return ExecProgram("tandemd", {"simulate"}); });

  auto timeout = std::make_shared<double>(30);
  root.Add("stop", "Stop the server and wait until it is gone; jobs keep a checkpoint")
      .Option("--timeout", timeout.get(), "Seconds to wait")
      .Example("stop")
      .Run([&session, timeout] { return RunStop(session, *timeout); });

  root.Add("status", "What is served and trained now").Example("status").Example("status --json").Run([&session] {
    return RunStatus(session);
  });

  auto dry_run = std::make_shared<bool>(false);
  root.Add("gc", "Remove artifacts and checkpoints that nothing refers to")
      .Flag("--dry-run", dry_run.get(), "Say what would go, remove nothing")
      .Example("gc --dry-run")
      .Run([&session, dry_run] { return RunGc(session, *dry_run); });

  root.Add("doctor", "Check cores, cgroups, rights, engines, GPU; works without a server too")
      .Example("doctor")
      .Run([&session] { return RunDoctor(session); });

  auto level = std::make_shared<std::string>();
  root.Add("log-level", "Change the server's log level while it runs")
      .Argument("LEVEL", level.get(), "debug, info, warning or error")
      .Example("log-level debug")
      .Run([&session, level] { return RunLogLevel(session, *level); });

  root.Add("version", "Print the version of this program, as tandem --version does")
      .Example("version")
      .Run([&session]() -> absl::StatusOr<Exit> {
        if (session.json) {
          session.PrintJsonText(nlohmann::json{{"version", TANDEM_VERSION}}.dump());
        } else {
          session.Print("tandem " TANDEM_VERSION "\n");
        }
        return Exit::kOk;
      });
}

}  // namespace tandem::cli
