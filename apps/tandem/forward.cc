#include "tandem/commands.h"

namespace tandem::cli {
namespace {

Forward ForwardModelCommand(bool json, std::vector<std::string>::const_iterator word,
                            std::vector<std::string>::const_iterator end) {
  Forward forward{.program = "tandem-engine-host", .json = json};
  for (; word != end; ++word) {
    if (*word == "--json") {
      forward.json = true;
      continue;
    }
    if (word->starts_with("--out=")) forward.out = word->substr(6);
    if (*word == "--out" && std::next(word) != end) forward.out = *std::next(word);
    forward.arguments.push_back(*word);
  }
  return forward;
}

}  // namespace

Forward FindForward(const std::vector<std::string>& arguments) {
  bool json = false;
  auto word = arguments.begin();
  for (; word != arguments.end() && word->starts_with("--"); ++word) {
    json = json || *word == "--json";
    bool has_value = *word == "--url" || *word == "--token";
    if (has_value && std::next(word) != arguments.end()) ++word;
  }
  if (word == arguments.end()) return {};
  if (*word == "serve") return {.program = "tandemd", .arguments = {std::next(word), arguments.end()}};
  if (*word == "simulate") {
    Forward forward{.program = "tandemd", .arguments = {word, arguments.end()}};
    if (json) forward.arguments.push_back("--json");
    return forward;
  }
  auto verb = std::next(word);
  if (*word != "model" || verb == arguments.end() || (*verb != "new" && *verb != "join")) return {};
  return ForwardModelCommand(json, word, arguments.end());
}

}  // namespace tandem::cli
