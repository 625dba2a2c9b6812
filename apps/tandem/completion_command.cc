#include <algorithm>

#include "nlohmann/json.hpp"
#include "tandem/commands.h"
#include "tandem/completion.h"

namespace tandem::cli {
namespace {

std::string Joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) StrAppend(&text, text.empty() ? "" : " ", word);
  return text;
}

// What may follow the commands of a node: the commands below it, else its options (and the global ones).
std::string Words(const CompletionNode& node, const CompletionNode& root) {
  if (!node.commands.empty()) return Joined(node.commands);
  std::vector<std::string> words = node.options;
  for (const std::string& option : root.options) {
    if (std::find(words.begin(), words.end(), option) == words.end()) words.push_back(option);
  }
  return Joined(words);
}

std::string BashScript(const std::vector<CompletionNode>& nodes) {
  std::string cases;
  for (const CompletionNode& node : nodes) {
    StrAppend(&cases, "    '", node.path, "') words='", Words(node, nodes[0]), "' ;;\n");
  }
  return StrCat(R"(# tandem: completion for bash. Use: source <(tandem completion bash)
_tandem() {
  local current="${COMP_WORDS[COMP_CWORD]}" path='' words='' i word
  for ((i = 1; i < COMP_CWORD && i < 3; i++)); do
    word="${COMP_WORDS[i]}"
    [[ $word == -* ]] && break
    path="${path:+$path }$word"
  done
  _tandem_words "$path" || _tandem_words "${path%% *}"
  COMPREPLY=()
  if [[ -n $words && ( $current == -* || $words != *--help* ) ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  fi
  [[ ${#COMPREPLY[@]} -eq 0 ]] && mapfile -t COMPREPLY < <(compgen -f -- "$current")
}
_tandem_words() {
  case "$1" in
)",
                cases, R"(    *) return 1 ;;
  esac
}
complete -o filenames -F _tandem tandem
)");
}

std::string ZshScript(const std::vector<CompletionNode>& nodes) {
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

// True when the commands given are those of `path` and none below it.
std::string FishCondition(const CompletionNode& node) {
  if (node.path.empty()) return "__fish_use_subcommand";
  std::string condition;
  std::string path = node.path;
  for (size_t blank; (blank = path.find(' ')) != path.npos; path.erase(0, blank + 1)) {
    StrAppend(&condition, "__fish_seen_subcommand_from ", path.substr(0, blank), "; and ");
  }
  StrAppend(&condition, "__fish_seen_subcommand_from ", path);
  if (!node.commands.empty()) StrAppend(&condition, "; and not __fish_seen_subcommand_from ", Joined(node.commands));
  return condition;
}

std::string HelpOf(const std::vector<CompletionNode>& nodes, const std::string& path) {
  for (const CompletionNode& node : nodes) {
    if (node.path == path) return node.help;
  }
  return "";
}

std::string FishScript(const std::vector<CompletionNode>& nodes) {
  std::string out = "# tandem: completion for fish. Use: tandem completion fish | source\n";
  for (const CompletionNode& node : nodes) {
    std::string condition = FishQuoted(FishCondition(node));
    for (const std::string& command : node.commands) {
      std::string path = node.path.empty() ? command : node.path + " " + command;
      StrAppend(&out, "complete -c tandem -f -n ", condition, " -a ", command, " -d ", FishQuoted(HelpOf(nodes, path)),
                "\n");
    }
    for (const std::string& option : node.options) {
      if (option.starts_with("--"))
        StrAppend(&out, "complete -c tandem -n ", condition, " -l ", option.substr(2), "\n");
    }
  }
  return out;
}

}  // namespace

absl::StatusOr<std::string> CompletionScript(const std::string& shell, const std::vector<CompletionNode>& nodes) {
  if (shell == "bash") return BashScript(nodes);
  if (shell == "zsh") return ZshScript(nodes);
  if (shell == "fish") return FishScript(nodes);
  return Usage("no completion for '", shell, "'; there is one for bash, zsh and fish");
}

void AddCompletionCommand(Command& root, Session& session, const CommandLine& line) {
  auto shell = std::make_shared<std::string>();
  root.Add("completion", "Print a completion script for a shell")
      .Argument("SHELL", shell.get(), "bash, zsh or fish")
      .Example("completion bash > ~/.local/share/bash-completion/completions/tandem")
      .Run([&session, &line, shell]() -> absl::StatusOr<Exit> {
        TANDEM_ASSIGN_OR_RETURN(std::string script, CompletionScript(*shell, line.Nodes()));
        if (session.json) {
          session.PrintJsonText(nlohmann::json{{"shell", *shell}, {"script", script}}.dump());
        } else {
          session.Print(script);
        }
        return Exit::kOk;
      });
}

}  // namespace tandem::cli
