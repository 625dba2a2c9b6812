#include "tandem/command.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <limits>

#include "absl/strings/numbers.h"
#include "base/text.h"

namespace tandem::cli {
namespace {

constexpr char kRootFooter[] = R"(Server: --url or TANDEM_URL (default http://127.0.0.1:8000); --token or TANDEM_TOKEN.
Exit codes: 0 done, 1 failed, 2 wrong command line, 3 no server reached, 4 not found, 5 refused (in use, not allowed,
busy), 6 the job failed or was cancelled.
With --json one JSON value goes to stdout (streams: one per line); an error is {"error": "...", "exit_code": N}.)";

bool IsOption(const std::string& word) { return word.size() > 1 && word[0] == '-'; }

// "--set" of "--set=x".
std::string OptionName(const std::string& word) { return word.substr(0, word.find('=')); }

bool HasValue(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

std::vector<std::string> OptionNames(const CLI::App* app, bool only_valued = false) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app->get_options()) {
    if (only_valued && !HasValue(*option)) continue;
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (const std::string& name : option->get_snames()) names.push_back("-" + name);
  }
  return names;
}

// True if the word is an option of `app` that takes the next word as its value.
bool TakesValue(const CLI::App* app, const std::string& word) {
  if (word.find('=') != word.npos) return false;
  const CLI::Option* option = app->get_option_no_throw(OptionName(word));
  return option && HasValue(*option);
}

// What CLI11 checks values with: the error, or "".
std::string NotEmpty(const std::string& text) { return text.empty() ? "must not be empty" : ""; }

std::string WholeNumber(const std::string& text) {
  int32_t number = 0;
  if (absl::SimpleAtoi(text, &number) && number > 0) return "";
  return StrCat("'", text, "' is not a whole number from 1 to ", std::numeric_limits<int32_t>::max());
}

std::string PositiveNumber(const std::string& text) {
  double number = 0;
  if (absl::SimpleAtod(text, &number) && number > 0) return "";
  return StrCat("'", text, "' is not a number greater than 0");
}

// CLI11's own words where they are good, ours where they count arguments by C++ types.
std::string MessageText(const CLI::ParseError& error) {
  std::string text = error.what();
  if (error.get_name() != "ArgumentMismatch") return text;
  std::string option = text.substr(0, text.find(':'));
  if (text.ends_with(" missing")) return option + " needs a value";
  return text.find(": At Most ") == text.npos ? text : option + " is given more than once";
}

// Of a command line that goes wrong at `word`: the nearest word, or where all are listed.
std::string Hint(const std::string& word, const std::vector<std::string>& known, const std::string& path) {
  std::string nearest = DidYouMean(word, known);
  return nearest.empty() ? StrCat("; see tandem ", path, "--help") : nearest;
}

}  // namespace

Command& Command::Add(const std::string& name, const std::string& help) {
  CLI::App* app = app_->add_subcommand(name, help);
  return *children_.emplace_back(std::make_unique<Command>(app));
}

Command& Command::Example(const std::string& line) {
  examples_.push_back(line);
  std::string footer = "Examples:";
  for (const std::string& example : examples_) footer += "\n  tandem " + example;
  app_->footer(footer + "\n\nEvery command also takes --json, --url URL and --token TOKEN; see tandem --help.");
  return *this;
}

Command& Command::Argument(const std::string& name, std::string* value, const std::string& help,
                           std::vector<std::string> choices) {
  app_->add_option(name, *value, help)->required()->check(NotEmpty);
  choices_ = std::move(choices);
  return *this;
}

Command& Command::Argument(const std::string& name, int32_t* value, const std::string& help) {
  app_->add_option(name, *value, help)->required()->type_name("NUMBER")->check(WholeNumber);
  return *this;
}

Command& Command::OptionalArgument(const std::string& name, std::string* value, const std::string& help) {
  app_->add_option(name, *value, help);
  return *this;
}

Command& Command::OptionalArgument(const std::string& name, int32_t* value, const std::string& help) {
  app_->add_option(name, *value, help)->type_name("NUMBER")->check(WholeNumber);
  return *this;
}

Command& Command::Arguments(const std::string& name, std::vector<int32_t>* values, const std::string& help) {
  app_->add_option(name, *values, help)->required()->type_name("NUMBER")->check(WholeNumber);
  return *this;
}

Command& Command::Option(const std::string& name, std::string* value, const std::string& help) {
  app_->add_option(name, *value, help);
  return *this;
}

Command& Command::Option(const std::string& name, double* value, const std::string& help) {
  CLI::Option* option = app_->add_option(name, *value, help)->type_name("NUMBER")->check(PositiveNumber);
  if (*value > 0) option->capture_default_str();  // others stand for "not given"
  return *this;
}

Command& Command::Option(const std::string& name, std::vector<std::string>* values, const std::string& help) {
  app_->add_option(name, *values, help)->allow_extra_args(false);
  return *this;
}

Command& Command::Flag(const std::string& name, bool* value, const std::string& help) {
  app_->add_flag(name, *value, help);
  return *this;
}

Command& Command::FlagOrOption(const std::string& name, bool* given, std::string* value, const std::string& help) {
  CLI::Option* option = app_->add_option(name, *value, help)->expected(0, 1);
  app_->parse_complete_callback([option, given] { *given = option->count() > 0; });
  return *this;
}

CommandLine::CommandLine() : app_(std::make_unique<CLI::App>("Train models and serve them on one machine.", "tandem")) {
  app_->fallthrough();
  app_->footer(kRootFooter);
  app_->get_formatter()->column_width(34);
  root_ = std::make_unique<Command>(app_.get());
}

CommandLine::~CommandLine() = default;

absl::StatusOr<Action> CommandLine::Parse(std::vector<std::string> arguments) {
  TANDEM_RETURN_IF_ERROR(CheckWords(arguments));
  try {
    std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
    app_->parse(std::move(arguments));
    return Choose();
  } catch (const CLI::CallForHelp&) {
    return Action([this]() -> absl::StatusOr<Exit> {
      std::fputs(app_->help().c_str(), stdout);
      return Exit::kOk;
    });
  } catch (const CLI::ParseError& error) {
    std::string path;
    for (const CLI::App* at = Chosen().app_; at != app_.get(); at = at->get_parent())
      path = StrCat(at->get_name(), " ", path);
    return Usage(MessageText(error), "; see tandem ", path, "--help");
  }
}

absl::StatusOr<Action> CommandLine::Choose() const {
  const Command& chosen = Chosen();
  if (chosen.action_) return chosen.action_;
  if (&chosen == root_.get()) {
    return Action([this]() -> absl::StatusOr<Exit> {
      std::fputs(app_->help().c_str(), stdout);
      return Exit::kOk;
    });
  }
  std::string names;
  for (const auto& child : chosen.children_) StrAppend(&names, names.empty() ? "" : ", ", child->app_->get_name());
  return Usage("'tandem ", chosen.app_->get_name(), "' needs one of: ", names);
}

// The deepest command that was given.
const Command& CommandLine::Chosen() const {
  const Command* at = root_.get();
  while (true) {
    auto next =
        std::find_if(at->children_.begin(), at->children_.end(), [](auto& child) { return child->app_->parsed(); });
    if (next == at->children_.end()) return *at;
    at = next->get();
  }
}

// Finds misspelt commands and options before CLI11 does, which knows no nearest word.
absl::Status CommandLine::CheckWords(const std::vector<std::string>& arguments) const {
  const Command* at = root_.get();
  std::string path;  // of `at`: "", "jobs ", "jobs list "
  std::vector<std::string> options = OptionNames(at->app_);
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    if (word == "--") return absl::OkStatus();
    if (word.starts_with("--")) {
      if (std::find(options.begin(), options.end(), OptionName(word)) == options.end()) {
        return Usage("unknown option '", OptionName(word), "'", Hint(OptionName(word), options, path));
      }
    }
    if (IsOption(word)) {
      if (TakesValue(at->app_, word) || TakesValue(root_->app_, word)) ++i;
      continue;
    }
    if (at->children_.empty()) continue;
    std::vector<std::string> names;
    for (const auto& child : at->children_) names.push_back(child->app_->get_name());
    auto found = std::find(names.begin(), names.end(), word);
    if (found == names.end()) return Usage("unknown command '", word, "'", Hint(word, names, path));
    at = at->children_[found - names.begin()].get();
    StrAppend(&path, word, " ");
    for (std::string& name : OptionNames(at->app_)) options.push_back(std::move(name));
  }
  return absl::OkStatus();
}

std::vector<CompletionNode> CommandLine::Nodes() const {
  std::vector<CompletionNode> nodes;
  std::vector<std::pair<std::string, const Command*>> open = {{"", root_.get()}};
  for (size_t i = 0; i < open.size(); ++i) {
    auto [path, command] = open[i];
    CompletionNode node{.path = path,
                        .help = command->app_->get_description(),
                        .options = OptionNames(command->app_),
                        .valued = OptionNames(command->app_, /*only_valued=*/true),
                        .choices = command->choices_};
    for (const auto& child : command->children_) {
      node.commands.push_back(child->app_->get_name());
      open.emplace_back(path.empty() ? child->app_->get_name() : path + " " + child->app_->get_name(), child.get());
    }
    nodes.push_back(std::move(node));
  }
  return nodes;
}

}  // namespace tandem::cli
