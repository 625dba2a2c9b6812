#pragma once
// One function per group of commands: adds them to the tree. The session outlives the tree.
#include "tandem/command.h"
#include "tandem/session.h"

namespace tandem::cli {

void AddServerCommands(Command& root, Session& session);     // serve, simulate, stop, status, gc, doctor ...
void AddTrainCommand(Command& root, Session& session);       // train
void AddJobCommands(Command& root, Session& session);        // jobs ...
void AddRecurringCommands(Command& root, Session& session);  // recurring ...
void AddPolicyCommand(Command& root, Session& session);      // policy ...
void AddUsageCommand(Command& root, Session& session);       // usage
void AddRegistryCommands(Command& root, Session& session);   // models ..., rollback
void AddDatasetCommands(Command& root, Session& session);    // dataset ...
void AddPredictCommand(Command& root, Session& session);     // predict
void AddTopCommand(Command& root, Session& session);         // top
void AddModelFileCommands(Command& root, Session& session);  // model ...
void AddBenchCommand(Command& root, Session& session);       // bench ...
void AddCompletionCommand(Command& root, Session& session, const CommandLine& line);

// Commands of another program, which parses everything behind them itself.
struct Forward {
  std::string program;  // empty: nothing is forwarded
  std::vector<std::string> arguments;
  bool json = false;  // the program knows no --json: tandem reports for it
  std::string out;    // the file after --out
};
// What `arguments` (without the program's name) are forwarded to: `serve ...` and `simulate ...`, which become the
// daemon's program with all that stands behind, and `model new|join ...`. Global options may stand in front.
Forward FindForward(const std::vector<std::string>& arguments);

}  // namespace tandem::cli
