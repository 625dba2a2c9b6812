#include "tandem/command.h"

#include <gmock/gmock.h>

#include "tandem/commands.h"
#include "tandem/completion.h"

namespace tandem::cli {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A small tree of its own; records which action ran.
class Tree : public ::testing::Test {
 protected:
  Tree() {
    line_.root().Flag("--json", &json_, "JSON").Option("--url", &url_, "Server");
    Command& jobs = line_.root().Add("jobs", "Jobs");
    jobs.Add("show", "One").Argument("JOB", &job_, "Number").Run(Note("show"));
    jobs.Add("cancel", "End").Arguments("JOB", &jobs_, "Number").Run(Note("cancel"));
    line_.root()
        .Add("train", "Train")
        .Argument("SPEC", &spec_, "File")
        .Option("--set", &set_, "Override")
        .Flag("-f,--follow", &follow_, "Follow")
        .Run(Note("train"));
    line_.root()
        .Add("predict", "Ask")
        .OptionalArgument("MODEL", &spec_, "Model")
        .Option("--image", &image_, "File")
        .FlagOrOption("--json", &predict_json_, &json_value_, "JSON")
        .Run(Note("predict"));
  }
  Action Note(const std::string& name) {
    return [this, name]() -> absl::StatusOr<Exit> { return ran_ = name, Exit::kOk; };
  }
  absl::Status Parse(std::vector<std::string> arguments) {
    absl::StatusOr<Action> action = line_.Parse(std::move(arguments));
    if (action.ok()) (*action)().IgnoreError();
    return action.status();
  }

  CommandLine line_;
  bool json_ = false, follow_ = false, predict_json_ = false;
  std::string url_, spec_, ran_, image_, json_value_;
  int32_t job_ = 0;
  std::vector<int32_t> jobs_;
  std::vector<std::string> set_;
};

TEST_F(Tree, NamesTheWholePathOfTheHelpThatMatters) {
  EXPECT_THAT(std::string(Parse({"jobs", "show", "zero"}).message()), HasSubstr("see tandem jobs show --help"));
}

TEST_F(Tree, TakesGlobalOptionsAnywhere) {
  EXPECT_TRUE(Parse({"--url", "http://x:1", "jobs", "show", "3", "--json"}).ok());
  EXPECT_EQ(ran_, "show");
  EXPECT_EQ(job_, 3);
  EXPECT_EQ(url_, "http://x:1");
  EXPECT_TRUE(json_);
}

TEST_F(Tree, TakesRepeatedOverridesAndKeepsTheSpecApart) {
  EXPECT_TRUE(Parse({"train", "--set", "epochs=2", "job.yaml", "--set", "optimizer.lr=0.1", "-f"}).ok());
  EXPECT_EQ(spec_, "job.yaml");
  EXPECT_THAT(set_, ElementsAre("epochs=2", "optimizer.lr=0.1"));
  EXPECT_TRUE(follow_);
}

TEST_F(Tree, TakesSeveralJobs) {
  EXPECT_TRUE(Parse({"jobs", "cancel", "3", "4"}).ok());
  EXPECT_THAT(jobs_, ElementsAre(3, 4));
}

TEST_F(Tree, NamesTheNearestCommandAndOption) {
  absl::Status status = Parse({"trian", "x"});
  EXPECT_EQ(ExitOf(status), Exit::kUsage);
  EXPECT_THAT(MessageOf(status), HasSubstr("unknown command 'trian'; did you mean 'train'?"));
  EXPECT_THAT(MessageOf(Parse({"--url", "u", "jobs", "shwo", "3"})), HasSubstr("did you mean 'show'?"));
  EXPECT_THAT(MessageOf(Parse({"train", "x", "--folow"})),
              HasSubstr("unknown option '--folow'; did you mean '--follow'?"));
}

TEST_F(Tree, RefusesWhatIsMissingOrWrong) {
  EXPECT_THAT(MessageOf(Parse({"train"})), HasSubstr("SPEC"));
  EXPECT_THAT(MessageOf(Parse({"jobs"})), HasSubstr("show"));
  EXPECT_EQ(ExitOf(Parse({"jobs", "show", "seven"})), Exit::kUsage);
  EXPECT_EQ(ExitOf(Parse({"jobs", "show", "-3"})), Exit::kUsage);
  EXPECT_EQ(ExitOf(Parse({"jobs", "show", "1", "2"})), Exit::kUsage);
  EXPECT_EQ(ran_, "");
}

TEST_F(Tree, SaysWhatANumberMustBe) {
  for (const char* bad : {"abc", "0", "-3", "1.5", "99999999999"}) {
    EXPECT_THAT(MessageOf(Parse({"jobs", "show", bad})),
                HasSubstr(StrCat("JOB: '", bad, "' is not a whole number from 1 to 2147483647; see tandem jobs show")));
  }
  double percent = -1;
  line_.root().Add("canary", "Part").Option("--percent", &percent, "Of all").Run(Note("canary"));
  for (const char* bad : {"0", "-5", "x"}) {
    EXPECT_THAT(MessageOf(Parse({"canary", "--percent", bad})),
                HasSubstr(StrCat("--percent: '", bad, "' is not a number greater than 0")));
  }
  EXPECT_EQ(ran_, "");
}

TEST_F(Tree, SaysWhichValueIsMissingEmptyOrGivenTwice) {
  EXPECT_EQ(MessageOf(Parse({"train", "x", "--set"})), "--set needs a value; see tandem train --help");
  EXPECT_EQ(MessageOf(Parse({"train", ""})), "SPEC: must not be empty; see tandem train --help");
  EXPECT_THAT(MessageOf(Parse({"train", "x", "--url", "a", "--url", "b"})), HasSubstr("--url is given more than once"));
}

TEST_F(Tree, NamesTheHelpOfThePlaceWhereNoWordIsNear) {
  EXPECT_EQ(MessageOf(Parse({"xyzzy"})), "unknown command 'xyzzy'; see tandem --help");
  EXPECT_EQ(MessageOf(Parse({"jobs", "xyzzy"})), "unknown command 'xyzzy'; see tandem jobs --help");
  EXPECT_EQ(MessageOf(Parse({"jobs", "show", "3", "--xyzzy"})),
            "unknown option '--xyzzy'; see tandem jobs show --help");
  EXPECT_EQ(MessageOf(Parse({"trian", "x"})), "unknown command 'trian'; did you mean 'train'?");
}

TEST_F(Tree, AnOptionalNumberMayBeLeftOut) {
  int32_t revision = 0;
  line_.root().Add("revert", "Back").OptionalArgument("REVISION", &revision, "Number").Run(Note("revert"));
  EXPECT_TRUE(Parse({"revert"}).ok());
  EXPECT_EQ(revision, 0);
  EXPECT_TRUE(Parse({"revert", "3"}).ok());
  EXPECT_EQ(revision, 3);
  for (const char* bad : {"0", "-1", "three"}) EXPECT_EQ(ExitOf(Parse({"revert", bad})), Exit::kUsage) << bad;
}

TEST_F(Tree, AFlagMayHaveAValue) {
  EXPECT_TRUE(Parse({"predict", "fashion", "--json", "in.json"}).ok());
  EXPECT_TRUE(predict_json_);
  EXPECT_EQ(json_value_, "in.json");
  EXPECT_EQ(spec_, "fashion");
}

TEST_F(Tree, AFlagMayStandWithoutItsValue) {
  EXPECT_TRUE(Parse({"predict", "fashion", "--image", "x.png", "--json"}).ok());
  EXPECT_TRUE(predict_json_);
  EXPECT_EQ(json_value_, "");
  EXPECT_EQ(image_, "x.png");
}

TEST_F(Tree, ListsItselfForCompletion) {
  std::vector<CompletionNode> nodes = line_.Nodes();
  EXPECT_THAT(nodes.at(0).commands, ElementsAre("jobs", "train", "predict"));
  EXPECT_EQ(nodes.at(4).path, "jobs show");
  EXPECT_THAT(nodes.at(2).options, Contains("--follow"));
  EXPECT_THAT(nodes.at(2).valued, ElementsAre("--set"));
  EXPECT_THAT(nodes.at(0).valued, ElementsAre("--url"));
}

TEST_F(Tree, TellsShellsWhatAnArgumentMayBe) {
  std::string color;
  line_.root().Add("paint", "Paint").Argument("COLOR", &color, "Which", {"red", "blue"}).Run(Note("paint"));
  EXPECT_THAT(line_.Nodes().at(4).choices, ElementsAre("red", "blue"));
  EXPECT_THAT(*CompletionScript("bash", line_.Nodes()), HasSubstr("'paint') offered='red blue' flags="));
  EXPECT_THAT(*CompletionScript("fish", line_.Nodes()),
              HasSubstr("complete -c tandem -f -n '__tandem_at \"paint\"' -a 'red blue'\n"));
}

TEST_F(Tree, EachShellHasAScript) {
  std::string bash = *CompletionScript("bash", line_.Nodes());
  EXPECT_THAT(bash, HasSubstr("'jobs') offered='show cancel' flags='"));
  EXPECT_THAT(*CompletionScript("zsh", line_.Nodes()), HasSubstr("#compdef tandem"));
  EXPECT_THAT(*CompletionScript("fish", line_.Nodes()), HasSubstr("-a train -d 'Train'"));
  EXPECT_EQ(ExitOf(CompletionScript("cmd", line_.Nodes()).status()), Exit::kUsage);
}

TEST(Completion, ReadsTheOptionsOfAnotherProgramOffItsHelp) {
  CompletionNode node{.path = "make", .options = {"--help", "-h"}};
  AddOptionsOfHelp(
      "Usage: make [OPTIONS] --not-this\n\nOptions:\n"
      "  -h,--help                   Print this help message and exit\n"
      "  --arch TEXT:{mlp,cnn} REQUIRED\n"
      "                              Architecture, as in --also-not\n"
      "  -o,--out FILE               To write\n"
      "  --json                      One JSON value\n"
      "--nor-this is no option\n",
      &node);
  EXPECT_THAT(node.options, ElementsAre("--help", "-h", "--arch", "-o", "--out", "--json"));
  EXPECT_THAT(node.valued, ElementsAre("--arch", "-o", "--out"));
}

TEST(Completion, WhatAnotherProgramParsesTakesNoOptionsOfTandem) {
  std::vector<CompletionNode> nodes = {{.options = {"--url"}, .valued = {"--url"}},
                                       {.path = "status"},
                                       {.path = "serve", .options = {"--data"}, .valued = {"--data"}}};
  nodes[2].takes_global = false;
  std::string bash = *CompletionScript("bash", nodes), fish = *CompletionScript("fish", nodes);
  EXPECT_THAT(bash, HasSubstr("'status') offered='' flags='--url' valued='--url' ;;"));
  EXPECT_THAT(bash, HasSubstr("'serve') offered='' flags='--data' valued='--data' ;;"));
  EXPECT_THAT(fish, HasSubstr("complete -c tandem -n 'not __tandem_at \"serve\"' -r -l url\n"));
  EXPECT_THAT(fish, HasSubstr("complete -c tandem -n '__tandem_at \"serve\"' -r -l data\n"));
}

TEST(Forward, ServeTakesEverythingBehindIt) {
  Forward forward = FindForward({"--url", "x", "serve", "--data", "d", "--json"});
  EXPECT_EQ(forward.program, "tandemd");
  EXPECT_THAT(forward.arguments, ElementsAre("--data", "d", "--json"));
}

TEST(Forward, SimulateStaysACommandOfTheDaemonsProgram) {
  Forward forward = FindForward({"--json", "simulate", "load.csv", "--policy", "windows"});
  EXPECT_EQ(forward.program, "tandemd");
  EXPECT_THAT(forward.arguments, ElementsAre("simulate", "load.csv", "--policy", "windows", "--json"));
  EXPECT_FALSE(forward.json) << "the program writes its JSON itself";
  EXPECT_THAT(FindForward({"simulate", "--help"}).arguments, ElementsAre("simulate", "--help"));
}

TEST(Forward, ModelNewKeepsJsonForTandem) {
  Forward forward = FindForward({"model", "new", "--arch", "mlp", "--out", "m.onnx", "--json"});
  EXPECT_EQ(forward.program, "tandem-engine-host");
  EXPECT_THAT(forward.arguments, ElementsAre("model", "new", "--arch", "mlp", "--out", "m.onnx"));
  EXPECT_TRUE(forward.json);
  EXPECT_EQ(forward.out, "m.onnx");
}

TEST(Forward, LeavesOtherCommandsAlone) {
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{},
                                                    {"--json"},
                                                    {"--url"},
                                                    {"status"},
                                                    {"model"},
                                                    {"model", "check", "serve"},
                                                    {"jobs", "serve"}}) {
    EXPECT_THAT(FindForward(arguments).program, IsEmpty());
  }
}

}  // namespace
}  // namespace tandem::cli
