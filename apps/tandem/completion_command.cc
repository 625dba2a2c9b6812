#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"
#include "tandem/commands.h"
#include "tandem/completion.h"
#include "tandem/programs.h"

namespace tandem::cli {
namespace {

using Nodes = std::vector<CompletionNode>;

bool Has(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

// The words of the node, and those that may follow every command, for the shell to split at blanks.
std::string WithGlobal(std::vector<std::string> words, const CompletionNode& node,
                       const std::vector<std::string>& global) {
  for (const std::string& word : global) {
    if (node.takes_global && !Has(node.options, word)) words.push_back(word);
  }
  return absl::StrJoin(words, " ");
}

// Files are completed by the shell itself (-o default) where nothing is offered.
std::string BashScript(const Nodes& nodes) {
  std::string cases;
  for (const CompletionNode& node : nodes) {
    StrAppend(&cases, "    '", node.path, "') offered='",
              absl::StrJoin(node.commands.empty() ? node.choices : node.commands, " "), "' flags='",
              WithGlobal(node.options, node, nodes[0].options), "' valued='",
              WithGlobal(node.valued, node, nodes[0].valued), "' ;;\n");
  }
  return StrCat(R"(# tandem: completion for bash. Use: source <(tandem completion bash)
_tandem() {
  local current="${COMP_WORDS[COMP_CWORD]}" node='' offered='' flags='' valued='' i word
  COMPREPLY=()
  _tandem_at ''
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="${COMP_WORDS[i]}"
    if [[ $word == -* ]]; then
      [[ " $valued " == *" $word "* ]] || continue
      # Over its value, which bash takes apart at each = and each :
      ((i += 1))
      [[ ${COMP_WORDS[i]} == '=' ]] && ((i += 1))
      while [[ ${COMP_WORDS[i + 1]} == [=:]* ]]; do ((i += 2)); done
      ((i < COMP_CWORD)) || return 0
    elif _tandem_at "${node:+$node }$word"; then
      node="${node:+$node }$word"
    else
      offered=''
      break
    fi
  done
  [[ $current == -* ]] && offered="$flags"
  for word in $offered; do
    [[ $word == "$current"* ]] && COMPREPLY+=("$word")
  done
  return 0
}
_tandem_at() {
  case "$1" in
)",
                cases, R"(    *) return 1 ;;
  esac
}
complete -o default -F _tandem tandem
)");
}

// What bash's script needs of zsh is in the mode that bashcompinit runs it in: words split at blanks, arrays from 0.
std::string ZshScript(const Nodes& nodes) {
  return StrCat(R"(#compdef tandem
# tandem: completion for zsh. Use: source <(tandem completion zsh)
autoload -Uz bashcompinit && bashcompinit
)",
                BashScript(nodes));
}

// Single quotes are the only ones fish has to escape within single quotes, with the backslash.
std::string FishQuoted(const std::string& text) {
  std::string out = "'";
  for (char c : text) out += c == '\'' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  return out + "'";
}

std::string FishFunction(const Nodes& nodes) {
  std::string paths;
  for (const CompletionNode& node : nodes) {
    if (!node.path.empty()) StrAppend(&paths, " '", node.path, "'");
  }
  return StrCat(
      R"(# True when the words before the cursor chose one of the commands given: "" is none yet, "jobs list" that one.
function __tandem_at
    set -l node ''
    set -l words (commandline -opc)
    set -e words[1]
    while set -q words[1]
        set -l word $words[1]
        set -e words[1]
        if contains -- $word )",
      absl::StrJoin(nodes[0].valued, " "), R"(
            set -q words[1]; and set -e words[1]
        else if not string match -q -- '-*' $word
            set -l next (string trim -- "$node $word")
            contains -- $next)",
      paths, R"(; or break
            set node $next
        end
    end
    contains -- "$node" $argv
end
)");
}

// `condition` is fish's, in quotes.
void AppendFishOption(const CompletionNode& node, const std::string& option, const std::string& condition,
                      std::string* out) {
  const bool is_long = option.starts_with("--");
  StrAppend(out, "complete -c tandem -n ", condition, Has(node.valued, option) ? " -r" : "", is_long ? " -l " : " -s ",
            option.substr(is_long ? 2 : 1), "\n");
}

std::string HelpOf(const Nodes& nodes, const std::string& path) {
  for (const CompletionNode& node : nodes) {
    if (node.path == path) return node.help;
  }
  return "";
}

std::string FishScript(const Nodes& nodes) {
  std::string out = "# tandem: completion for fish. Use: tandem completion fish | source\n" + FishFunction(nodes);
  std::string without_global = "not __tandem_at";
  for (const CompletionNode& node : nodes) {
    if (!node.takes_global) StrAppend(&without_global, " \"", node.path, "\"");
    const std::string condition = FishQuoted(StrCat("__tandem_at \"", node.path, "\""));
    for (const std::string& command : node.commands) {
      std::string path = node.path.empty() ? command : node.path + " " + command;
      StrAppend(&out, "complete -c tandem -f -n ", condition, " -a ", command, " -d ", FishQuoted(HelpOf(nodes, path)),
                "\n");
    }
    if (!node.choices.empty()) {
      StrAppend(&out, "complete -c tandem -f -n ", condition, " -a '", absl::StrJoin(node.choices, " "), "'\n");
    }
    for (const std::string& option : node.options) {
      const bool is_global = node.takes_global && Has(nodes[0].options, option);
      if (!is_global) AppendFishOption(node, option, condition, &out);
    }
  }
  for (const std::string& option : nodes[0].options) {
    AppendFishOption(nodes[0], option, FishQuoted(without_global), &out);
  }
  return out;
}

struct Shell {
  std::string_view name;
  std::string (*script)(const Nodes&);
};
constexpr Shell kShells[] = {{"bash", BashScript}, {"zsh", ZshScript}, {"fish", FishScript}};

// A program that is not here has no command that could be completed.
void AddForwardedOptions(Nodes* nodes) {
  for (CompletionNode& node : *nodes) {
    const std::vector<std::string> words = absl::StrSplit(node.path, ' ');
    Forward forward = FindForward(words);
    if (forward.program.empty()) continue;
    node.takes_global = false;
    forward.arguments.emplace_back("--help");
    absl::StatusOr<ProgramResult> help = RunProgram(forward.program, forward.arguments);
    if (help.ok() && help->exit_code == 0) AddOptionsOfHelp(help->out, &node);
  }
}

}  // namespace

std::vector<std::string> CompletionShells() {
  std::vector<std::string> names;
  for (const Shell& shell : kShells) names.emplace_back(shell.name);
  return names;
}

absl::StatusOr<std::string> CompletionScript(const std::string& shell, const std::vector<CompletionNode>& nodes) {
  for (const Shell& known : kShells) {
    if (known.name == shell) return known.script(nodes);
  }
  return Usage("no completion for '", shell, "'; there is one for ", absl::StrJoin(CompletionShells(), ", "));
}

void AddOptionsOfHelp(std::string_view help, CompletionNode* node) {
  for (absl::string_view line : absl::StrSplit(AbslView(help), '\n')) {
    const std::string_view text = StdView(absl::StripLeadingAsciiWhitespace(line));
    if (text.size() == line.size() || !text.starts_with('-')) continue;
    const size_t end = std::min(text.find(' '), text.size());
    const bool has_value = end + 1 < text.size() && text[end + 1] != ' ';
    for (absl::string_view name : absl::StrSplit(AbslView(text.substr(0, end)), ',')) {
      const std::string option(name);
      if (Has(node->options, option)) continue;
      node->options.push_back(option);
      if (has_value) node->valued.push_back(option);
    }
  }
}

void AddCompletionCommand(Command& root, Session& session, const CommandLine& line) {
  auto shell = std::make_shared<std::string>();
  root.Add("completion", "Print a completion script for a shell")
      .Argument("SHELL", shell.get(), absl::StrJoin(CompletionShells(), ", "), CompletionShells())
      .Example("completion bash > ~/.local/share/bash-completion/completions/tandem")
      .Run([&session, &line, shell]() -> absl::StatusOr<Exit> {
        std::vector<CompletionNode> nodes = line.Nodes();
        AddForwardedOptions(&nodes);
        TANDEM_ASSIGN_OR_RETURN(std::string script, CompletionScript(*shell, nodes));
        if (session.json) {
          session.PrintJsonText(nlohmann::json{{"shell", *shell}, {"script", script}}.dump());
        } else {
          session.Print(script);
        }
        return Exit::kOk;
      });
}

}  // namespace tandem::cli
