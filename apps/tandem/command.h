#pragma once
// The tree of commands over CLI11, which only command.cc sees: it compiles slowly. Parsing reports errors instead of
// printing them, and names the nearest known word.
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tandem/exit_code.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace tandem::cli {

using Action = std::function<absl::StatusOr<Exit>()>;

// One command or group of commands. Targets of options must outlive the parse. Thread-compatible.
class Command {
 public:
  explicit Command(CLI::App* app) : app_(app) {}

  Command& Add(const std::string& name, const std::string& help);
  // A line of the help's examples: what follows "tandem ".
  Command& Example(const std::string& line);

  // Positional and required; texts are not empty, numbers are from 1. `choices` are what a shell offers for it; the
  // command itself says what it does not take.
  Command& Argument(const std::string& name, std::string* value, const std::string& help,
                    std::vector<std::string> choices = {});
  Command& Argument(const std::string& name, int32_t* value, const std::string& help);
  Command& OptionalArgument(const std::string& name, std::string* value, const std::string& help);
  Command& OptionalArgument(const std::string& name, int32_t* value, const std::string& help);
  Command& Arguments(const std::string& name, std::vector<int32_t>* values, const std::string& help);  // one or more

  Command& Option(const std::string& name, std::string* value, const std::string& help);
  // A number above 0; the help shows what `value` holds as the default, unless that is no such number.
  Command& Option(const std::string& name, double* value, const std::string& help);
  Command& Option(const std::string& name, std::vector<std::string>* values, const std::string& help);
  Command& Flag(const std::string& name, bool* value, const std::string& help);
  // A flag that may be followed by a value.
  Command& FlagOrOption(const std::string& name, bool* given, std::string* value, const std::string& help);

  void Run(Action action) { action_ = std::move(action); }

 private:
  friend class CommandLine;
  CLI::App* app_;
  std::vector<std::string> examples_, choices_;
  Action action_;
  std::vector<std::unique_ptr<Command>> children_;
};

// What a shell needs to complete a command line: the commands below `path` or what its argument may be, and its
// options.
struct CompletionNode {
  std::string path;  // "", "jobs", "jobs list"
  std::string help;
  std::vector<std::string> commands, options;
  std::vector<std::string> valued;   // those of the options that take a value
  std::vector<std::string> choices;  // empty: the argument may be anything, as a file
  bool takes_global = true;          // the options of "" may follow too
};

class CommandLine {
 public:
  CommandLine();
  ~CommandLine();
  Command& root() { return *root_; }

  // Parses (without the program's name) and gives the chosen command's action; an action that prints help when help was
  // asked for; a usage error otherwise.
  absl::StatusOr<Action> Parse(std::vector<std::string> arguments);
  // The whole tree, parents first.
  std::vector<CompletionNode> Nodes() const;

 private:
  absl::Status CheckWords(const std::vector<std::string>& arguments) const;
  const Command& Chosen() const;
  absl::StatusOr<Action> Choose() const;

  std::unique_ptr<CLI::App> app_;
  std::unique_ptr<Command> root_;
};

}  // namespace tandem::cli
