// tandem: the command line. Parses, calls one action, reports its error.
#include <cstdio>

#include "base/status.h"
#include "tandem/commands.h"
#include "tandem/programs.h"

namespace tandem::cli {
namespace {

int Report(const absl::Status& status, Session& session) {
  Exit exit = ExitOf(status);
  std::string message(MessageOf(status));
  std::fflush(stdout);
  std::fprintf(stderr, "%s %s\n", Style::For(2).Red("error:").c_str(), message.c_str());
  if (session.json) session.PrintJsonText(ErrorJson(message, exit));
  return static_cast<int>(exit);
}

// What a full disk did not take makes the command fail, also where a later line was taken again.
int End(Exit exit, Session& session) {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return static_cast<int>(exit);
  return Report(Internal("the output could not be written whole to stdout; is it closed, or its disk full?"), session);
}

int RunForward(const Forward& forward, Session& session) {
  session.json = forward.json;
  if (!forward.json) return Report(ExecProgram(forward.program, forward.arguments), session);
  absl::StatusOr<ProgramResult> result = RunProgram(forward.program, forward.arguments);
  if (!result.ok()) return Report(result.status(), session);
  if (result->exit_code == 2) return Report(Usage(ErrorText(*result)), session);
  if (result->exit_code != 0) return Report(InvalidArgument(ErrorText(*result)), session);
  session.PrintJsonText(OutJson(forward.out));
  return End(Exit::kOk, session);
}

// What people type first: `tandem --version` and `tandem help jobs`.
std::vector<std::string> InOurWords(std::vector<std::string> arguments) {
  if (arguments.empty()) return arguments;
  if (arguments[0] == "--version") arguments[0] = "version";
  if (arguments[0] == "help") {
    arguments.erase(arguments.begin());
    arguments.emplace_back("--help");
  }
  return arguments;
}

int Main(std::vector<std::string> arguments) {
  Session session;
  if (Forward forward = FindForward(arguments); !forward.program.empty()) return RunForward(forward, session);
  CommandLine line;
  session.AddGlobalOptions(line.root());
  AddServerCommands(line.root(), session);
  AddTrainCommand(line.root(), session);
  AddJobCommands(line.root(), session);
  AddRecurringCommands(line.root(), session);
  AddPolicyCommand(line.root(), session);
  AddUsageCommand(line.root(), session);
  AddRegistryCommands(line.root(), session);
  AddDatasetCommands(line.root(), session);
  AddPredictCommand(line.root(), session);
  AddTopCommand(line.root(), session);
  AddModelFileCommands(line.root(), session);
  AddBenchCommand(line.root(), session);
  AddCompletionCommand(line.root(), session, line);

  // Known before the parse, so that a wrong command line is reported as JSON too.
  for (const std::string& word : arguments) session.json = session.json || word == "--json";
  absl::StatusOr<Action> action = line.Parse(std::move(arguments));
  if (!action.ok()) return Report(action.status(), session);
  absl::StatusOr<Exit> exit = CatchToStatus("tandem", *action);
  if (!exit.ok()) return Report(exit.status(), session);
  return End(*exit, session);
}

}  // namespace
}  // namespace tandem::cli

int main(int argc, char** argv) { return tandem::cli::Main(tandem::cli::InOurWords({argv + 1, argv + argc})); }
