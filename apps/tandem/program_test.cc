// The program itself, started as people start it: exit codes, what goes to stdout and what to stderr.
#include <gmock/gmock.h>

#include <cstdlib>
#include <fstream>

#include "base/files.h"
#include "client/fake_server.h"
#include "nlohmann/json.hpp"
#include "tandem/temporary_folder.h"

namespace tandem::cli {
namespace {

using client::FakeReply;
using client::FakeRequest;
using client::FakeServer;
using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

constexpr char kNoServer[] = "http://127.0.0.1:1";

class Program : public ::testing::Test {
 protected:
  struct Result {
    int exit = 0;
    std::string out, err;
  };
  Result Run(const std::string& url, const std::string& arguments) {
    std::string base = folder_.path();
    std::string command = StrCat("TANDEM_URL=", url, " ", TANDEM_BIN_DIR, "/tandem ", arguments, " >", base, "/out 2>",
                                 base, "/err </dev/null");
    int status = std::system(command.c_str());
    return {WEXITSTATUS(status), *ReadFile(base + "/out"), *ReadFile(base + "/err")};
  }
  std::string Write(const std::string& name, const std::string& content) {
    std::string path = folder_.path() + "/" + name;
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  TemporaryFolder folder_ = *TemporaryFolder::Create();
};

TEST_F(Program, HelpNamesCommandsAndExitCodes) {
  Result result = Run(kNoServer, "--help");
  EXPECT_EQ(result.exit, 0);
  for (const char* word : {"train", "jobs", "recurring", "policy", "usage", "simulate", "models", "dataset", "predict",
                           "Exit codes", "TANDEM_URL"}) {
    EXPECT_THAT(result.out, HasSubstr(word));
  }
  EXPECT_THAT(Run(kNoServer, "jobs logs --help").out, HasSubstr("tandem jobs logs 3 --follow"));
}

TEST_F(Program, HelpShowsDefaultsButNotWhatStandsForNone) {
  EXPECT_THAT(Run(kNoServer, "stop --help").out, HasSubstr("--timeout NUMBER=30"));
  EXPECT_THAT(Run(kNoServer, "models canary --help").out, HasSubstr("--percent NUMBER  "));
  EXPECT_THAT(Run(kNoServer, "usage --help").out, HasSubstr("--days NUMBER  "));
  EXPECT_THAT(Run(kNoServer, "status --help").out, HasSubstr("exit\n\nExamples:"))
      << "one empty line between the parts";
}

TEST_F(Program, UnderstandsWhatPeopleTypeFirst) {
  EXPECT_EQ(Run(kNoServer, "--version").out, Run(kNoServer, "version").out);
  EXPECT_TRUE(json::parse(Run(kNoServer, "--version --json").out).contains("version"));
  EXPECT_EQ(Run(kNoServer, "help").out, Run(kNoServer, "--help").out);
  EXPECT_EQ(Run(kNoServer, "help jobs logs").out, Run(kNoServer, "jobs logs --help").out);
}

TEST_F(Program, OutputThatCannotBeWrittenIsAFailure) {
  for (const char* command : {"version", "version --json", "--help"}) {
    std::string full = StrCat(TANDEM_BIN_DIR, "/tandem ", command, " >/dev/full 2>", folder_.path(), "/err");
    EXPECT_EQ(WEXITSTATUS(std::system(full.c_str())), 1) << command;
    EXPECT_THAT(*ReadFile(folder_.path() + "/err"), HasSubstr("error: the output could not be written")) << command;
  }
}

TEST_F(Program, SaysWhenNoServerAnswers) {
  for (const char* command :
       {"status", "jobs list", "models list", "dataset list", "stop", "gc --dry-run", "top --once", "policy show",
        "policy record --seconds 1", "usage", "recurring list", "jobs explain 3"}) {
    Result result = Run(kNoServer, command);
    EXPECT_EQ(result.exit, 3) << command;
    EXPECT_THAT(result.out, IsEmpty());
    EXPECT_THAT(result.err, StartsWith("error: no server answers at http://127.0.0.1:1")) << command;
    EXPECT_THAT(result.err, HasSubstr("tandem serve"));
  }
}

TEST_F(Program, ErrorsAreJsonTooWhenJsonIsAsked) {
  Result result = Run(kNoServer, "jobs show 3 --json");
  EXPECT_EQ(result.exit, 3);
  EXPECT_EQ(json::parse(result.out)["exit_code"], 3);
  Result usage = Run(kNoServer, "--json jbos");
  EXPECT_EQ(usage.exit, 2);
  EXPECT_THAT(json::parse(usage.out)["error"].get<std::string>(), HasSubstr("did you mean 'jobs'?"));
}

TEST_F(Program, WrongCommandLinesDoNothing) {
  for (const char* command : {"jobs", "jobs show", "jobs show x", "train", "--url", "models deploy a@b@c", "predict m",
                              "models export m", "completion cmd", "--url ftp://x status", "models alias m a x",
                              "policy", "policy set", "policy set --set x", "policy revert x", "policy record --past",
                              "usage --by hour", "usage --days 1 --from 2026-11-21", "recurring show"}) {
    EXPECT_EQ(Run(kNoServer, command).exit, 2) << command;
  }
}

TEST_F(Program, NeedsNoServerForVersionAndCompletion) {
  EXPECT_THAT(Run(kNoServer, "version").out, StartsWith("tandem 0."));
  EXPECT_TRUE(json::parse(Run(kNoServer, "version --json").out).contains("version"));
  std::string script = Write("completion.bash", Run(kNoServer, "completion bash").out);
  EXPECT_EQ(std::system(("bash -n " + script).c_str()), 0);
  EXPECT_EQ(json::parse(Run(kNoServer, "completion bash --json").out)["script"], *ReadFile(script));
  EXPECT_THAT(*ReadFile(script), HasSubstr("'status') offered='' flags='--help -h --json --url --token'"));
  EXPECT_THAT(*ReadFile(script), HasSubstr("'policy') offered='show set revert undo history record'"));
}

TEST_F(Program, BashCompletesCommandsOptionsAndChoices) {
  const std::string script = Write("completion.bash", Run(kNoServer, "completion bash").out);
  const std::string ask = Write("ask.bash",
                                "source \"$1\"; shift; COMP_WORDS=(tandem \"$@\"); COMP_CWORD=$#; _tandem\n"
                                "echo \"${COMPREPLY[*]}\"\n");
  auto completed = [&](const std::string& words) {
    std::string command = StrCat("bash ", ask, " ", script, " ", words, " >", folder_.path(), "/out");
    EXPECT_EQ(std::system(command.c_str()), 0) << words;
    return *ReadFile(folder_.path() + "/out");
  };
  EXPECT_EQ(completed("completion ''"), "bash zsh fish\n");
  EXPECT_EQ(completed("jobs rel"), "release\n");
  EXPECT_EQ(completed("jobs --tok"), "--token\n");
  EXPECT_EQ(completed("--json jobs --token t rel"), "release\n");
  EXPECT_EQ(completed("--url http : //127.0.0.1 : 8000 jobs rel"), "release\n") << "as bash takes the URL apart";
  EXPECT_EQ(completed("--url = http : //127.0.0.1 : 8000 jobs rel"), "release\n");
  EXPECT_EQ(completed("model run --inp"), "--inputs\n");
  EXPECT_EQ(completed("model run m.onnx --en"), "--engine\n");
  for (const char* file : {"train ''", "--url ''", "model run --inputs ''", "completion bash ''", "jbos ''"}) {
    EXPECT_EQ(completed(file), "\n") << file;  // files, which the shell completes itself
  }
}

TEST_F(Program, MissingFilesAreNotFound) {
  EXPECT_EQ(Run(kNoServer, "train absent.yaml").exit, 4);
  EXPECT_EQ(Run(kNoServer, "models import m absent.onnx").exit, 4);
  EXPECT_EQ(Run(kNoServer, "dataset add d absent").exit, 4);
  EXPECT_EQ(Run(kNoServer, "policy set absent.yaml").exit, 4);
}

TEST_F(Program, TrainSubmitsTheSpecWithItsOverrides) {
  FakeServer server([](const FakeRequest&) { return FakeReply{.body = R"({"job":5,"name":"x","state":"queued"})"}; });
  std::string spec = Write("job.yaml", "name: x\ndataset: d\n");
  Result result = Run(server.url(), "train " + spec + " --set epochs=2 --json");
  ASSERT_EQ(result.exit, 0) << result.err;
  EXPECT_EQ(json::parse(result.out)["job"], 5);
  EXPECT_EQ(json::parse(result.out)["state"], "queued");
  json sent = json::parse(server.requests().at(0).body);
  EXPECT_EQ(sent["spec"], "name: x\ndataset: d\n");
  EXPECT_EQ(sent["overrides"], json({"epochs=2"}));
  EXPECT_EQ(sent["source"], spec);
  EXPECT_GE(sent["idempotency_key"].get<std::string>().size(), 16u);
}

TEST_F(Program, TrainTellsWhenARecurringJobRunsFirst) {
  FakeServer server([](const FakeRequest&) {
    return FakeReply{.body = R"({"job":0,"recurring":2,"name":"nightly","state":"recurring",)"
                             R"("reason":"runs first at 2026-11-21 22:00 CET"})"};
  });
  std::string spec = Write("job.yaml", "name: nightly\n");
  Result result = Run(server.url(), "train " + spec + " --follow");
  EXPECT_EQ(result.exit, 0) << result.err;
  EXPECT_EQ(result.out, "recurring job 2 nightly: runs first at 2026-11-21 22:00 CET; see tandem recurring show 2\n");
  EXPECT_THAT(result.err, HasSubstr("nothing to follow yet"));
  EXPECT_EQ(server.requests().size(), 1u) << "there is no job 0 to watch";
  EXPECT_EQ(json::parse(Run(server.url(), "train " + spec + " --json").out)["recurring"], 2);
}

TEST_F(Program, PolicySetSendsTheFileTheOverridesAndTheReason) {
  FakeServer server([](const FakeRequest&) { return FakeReply{.body = R"({"current":{"revision":5}})"}; });
  std::string file = Write("night.yaml", "policy: windows\n");
  Result result = Run(server.url(), "policy set " + file + " --set lend=false --set training.cpu=30% --why 'at night'");
  ASSERT_EQ(result.exit, 0) << result.err;
  EXPECT_EQ(result.out, "revision 5 is in force\n");
  json sent = json::parse(server.requests().at(0).body);
  EXPECT_EQ(sent, json({{"text", "policy: windows\n"},
                        {"overrides", {"lend=false", "training.cpu=30%"}},
                        {"why", "at night"},
                        {"source", file}}));
  EXPECT_EQ(json::parse(Run(server.url(), "policy revert 3 --json").out)["current"]["revision"], 5);
  EXPECT_EQ(json::parse(server.requests().back().body)["revision"], 3);
  EXPECT_EQ(Run(server.url(), "policy set " + Write("empty.yaml", "")).exit, 1);
}

TEST_F(Program, PolicyShowFindsOldRevisions) {
  FakeServer server([](const FakeRequest&) {
    return FakeReply{.body = R"({"changes":[{"revision":2,"text":"lend: true"},{"revision":1,"text":"lend: false"}]})"};
  });
  EXPECT_THAT(Run(server.url(), "policy show 1").out, HasSubstr("\nlend: false\n"));
  Result missing = Run(server.url(), "policy show 7");
  EXPECT_EQ(missing.exit, 4);
  EXPECT_THAT(missing.err, HasSubstr("tandem policy history"));
}

// Gives one more second of load at each poll.
FakeServer::Handler GrowingLoad() {
  return [seconds = 0](const FakeRequest&) mutable {
    std::string csv = "unix_ms,model,requests_per_s,service_ms\n";
    ++seconds;
    for (int i = 1; i <= seconds; ++i) StrAppend(&csv, i, "000,m,10,1\n");
    return FakeReply{.body = csv, .headers = "Content-Type: text/csv\r\n"};
  };
}

TEST_F(Program, PolicyRecordWritesWhatWasServedSinceItBegan) {
  FakeServer server(GrowingLoad());
  std::string out = folder_.path() + "/load.csv";
  Result result = Run(server.url(), "policy record --seconds 0.05 --json --out " + out);
  ASSERT_EQ(result.exit, 0) << result.err;
  EXPECT_EQ(*ReadFile(out), "unix_ms,model,requests_per_s,service_ms\n2000,m,10,1\n");
  EXPECT_EQ(json::parse(result.out), json({{"out", out}, {"lines", 1}, {"seconds", 0.0}}));
  Result past = Run(server.url(), "policy record --past --seconds 60");
  EXPECT_EQ(past.out, "unix_ms,model,requests_per_s,service_ms\n1000,m,10,1\n2000,m,10,1\n3000,m,10,1\n");
  EXPECT_THAT(past.err, HasSubstr("recorded 2 s of load, 3 lines"));
  EXPECT_THAT(server.requests().back().line, HasSubstr("/api/v1/policy/load?seconds=60 "));
}

TEST_F(Program, PolicyRecordEndsCleanlyAtAnInterrupt) {
  FakeServer server(GrowingLoad());
  std::string out = folder_.path() + "/load.csv";
  // Sent once the program catches SIGINT and SIGTERM, which it does when the recording has begun.
  std::string command = StrCat("TANDEM_URL=", server.url(), " ", TANDEM_BIN_DIR, "/tandem policy record --out ", out,
                               " 2>/dev/null & pid=$!; for i in $(seq 5000); do grep -qs 'SigCgt:.*4002$' ",
                               "/proc/$pid/status && break; done; kill -TERM $pid; wait $pid");
  ASSERT_EQ(WEXITSTATUS(std::system(command.c_str())), 0);
  EXPECT_THAT(*ReadFile(out), HasSubstr("2000,m,10,1\n"));
}

TEST_F(Program, UsageAsksForWholeDays) {
  FakeServer server([](const FakeRequest&) {
    return FakeReply{.body = R"({"rows":[{"day":"2026-11-20","side":"training","cpu_seconds":90}]})"};
  });
  Result result = Run(server.url(), "usage --from 2026-11-20 --to 2026-11-20 --by day --side training");
  ASSERT_EQ(result.exit, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("2026-11-20  training  1 min 30 s"));
  EXPECT_EQ(server.requests().at(0).line,
            "GET /api/v1/usage?from_ms=1795132800000&to_ms=1795219200000&by=day&side=training&kind= HTTP/1.1");
  EXPECT_EQ(json::parse(Run(server.url(), "usage --json").out)["rows"][0]["cpu_seconds"], 90);
}

TEST_F(Program, SteeringAJobSaysWhatIsStillToCome) {
  FakeServer server([](const FakeRequest& request) {
    bool first = request.line.find("/jobs/3") != std::string::npos;
    return FakeReply{.body = first ? R"({"job":3,"state":"running"})" : R"({"job":4,"state":"cancelled"})"};
  });
  EXPECT_EQ(Run(server.url(), "jobs cancel 3 4").out, "job 3 running: it is being cancelled\njob 4 cancelled\n");
  EXPECT_EQ(Run(server.url(), "jobs pause 3").out, "job 3 running: it is being paused\n");
  EXPECT_EQ(Run(server.url(), "jobs release 3").out, "job 3 running: it is being released\n");
  EXPECT_EQ(Run(server.url(), "jobs resume 3").out, "job 3 running\n");
}

TEST_F(Program, RecurringJobsAndReleasesAreSteered) {
  FakeServer server([](const FakeRequest& request) {
    bool job = request.line.find("/jobs/") != std::string::npos;
    return FakeReply{.body = job ? R"({"job":3,"state":"queued","reason":"released"})"
                                 : R"({"id":2,"name":"nightly","paused":true})"};
  });
  EXPECT_EQ(Run(server.url(), "recurring pause 2").out, "recurring job 2 (nightly) is paused\n");
  EXPECT_EQ(json::parse(Run(server.url(), "recurring show 2 --json").out)["name"], "nightly");
  EXPECT_EQ(Run(server.url(), "recurring delete 2").out, "recurring job 2 deleted\n");
  EXPECT_EQ(Run(server.url(), "jobs release 3").out, "job 3 queued: released\n");
  EXPECT_EQ(server.requests().at(0).line, "POST /api/v1/recurring/2/pause HTTP/1.1");
  EXPECT_EQ(server.requests().at(2).line, "DELETE /api/v1/recurring/2 HTTP/1.1");
  EXPECT_EQ(server.requests().at(3).line, "POST /api/v1/jobs/3/release HTTP/1.1");
}

// Answers a submission and then a script of changes.
FakeServer::Handler Changes(std::vector<std::string> jobs) {
  return [jobs, next = size_t{0}](const FakeRequest& request) mutable {
    if (request.line.starts_with("POST")) return FakeReply{.body = R"({"job":5,"name":"x","state":"queued"})"};
    size_t at = std::min(next++, jobs.size() - 1);
    return FakeReply{.body = StrCat(R"({"job":)", jobs[at], R"(,"change":)", at + 1, "}")};
  };
}

TEST_F(Program, FollowEndsWithTheWholeJobAfterItsDeployment) {
  FakeServer server(Changes(
      {R"({"job":5,"state":"running","progress":{"step":1,"steps":2}})",
       R"({"job":5,"state":"succeeded","deploy":"pending"})",
       R"({"job":5,"state":"succeeded","model":"m","version":2,"metrics":{"accuracy":0.9},"deploy":"promoted"})"}));
  std::string spec = Write("job.yaml", "name: x\n");
  Result result = Run(server.url(), "train " + spec + " --follow --json");
  ASSERT_EQ(result.exit, 0) << result.err;
  std::vector<json> lines;
  for (size_t at = 0, end; (end = result.out.find('\n', at)) != std::string::npos; at = end + 1) {
    lines.push_back(json::parse(result.out.substr(at, end - at)));
  }
  ASSERT_EQ(lines.size(), 4u) << result.out;
  EXPECT_EQ(lines.back()["version"], 2);
  EXPECT_EQ(lines.back()["metrics"]["accuracy"], 0.9);
  EXPECT_EQ(lines.back()["deploy"], "promoted");
}

TEST_F(Program, FollowTellsThatTheJobFailed) {
  FakeServer server(Changes({R"({"job":5,"state":"failed","reason":"the loss became NaN"})"}));
  std::string spec = Write("job.yaml", "name: x\n");
  Result result = Run(server.url(), "train " + spec + " --follow");
  EXPECT_EQ(result.exit, 6);
  EXPECT_EQ(result.out, "job 5 x\nqueued\n") << "in this order, and why it failed is on stderr";
  EXPECT_THAT(result.err, HasSubstr("error: job 5 failed: the loss became NaN"));
}

TEST_F(Program, ConflictsAndMissingThingsHaveTheirOwnExitCodes) {
  FakeServer server([](const FakeRequest& request) {
    bool conflict = request.line.starts_with("DELETE");
    return FakeReply{.code = conflict ? 409 : 404,
                     .body = conflict ? R"({"error":"in use by job 3"})" : R"({"error":"no"})"};
  });
  Result refused = Run(server.url(), "dataset delete d");
  EXPECT_EQ(refused.exit, 5);
  EXPECT_THAT(refused.err, HasSubstr("in use by job 3"));
  EXPECT_EQ(Run(server.url(), "jobs show 9").exit, 4);
}

TEST_F(Program, PredictReadsAndPrintsJson) {
  FakeServer server([](const FakeRequest& request) {
    if (request.line.starts_with("GET")) {
      return FakeReply{.body = R"({"name":"m","versions":["1"],"platform":"p","outputs":[],)"
                               R"("inputs":[{"name":"x","datatype":"FP32","shape":[-1,2]}]})"};
    }
    return FakeReply{.body =
                         R"({"model_name":"m","outputs":[{"name":"y","datatype":"FP32","shape":[1,1],"data":[3.5]}]})"};
  });
  std::string input = Write("in.json", "[1, 2]");
  Result result = Run(server.url(), "predict m --json " + input);
  ASSERT_EQ(result.exit, 0) << result.err;
  EXPECT_EQ(json::parse(result.out)["outputs"][0]["data"][0], 3.5);
  EXPECT_THAT(Run(server.url(), "predict m/1 --json-input " + input).out, HasSubstr("y FP32 [1,1]\n[3.5]"));
  EXPECT_THAT(server.requests().back().line, HasSubstr("/v2/models/m/versions/1/infer"));
}

TEST_F(Program, AModelWithoutChampionIsListedByItsNewestVersion) {
  FakeServer server([](const FakeRequest&) {
    return FakeReply{.body = R"({"models":[{"name":"m","versions":[{"version":1,"state":"UNAVAILABLE"},)"
                             R"({"version":2,"state":"READY"}]}]})"};
  });
  EXPECT_THAT(Run(server.url(), "models list").out, HasSubstr("m             2         -  READY"));
}

TEST_F(Program, ListsAreTables) {
  FakeServer server([](const FakeRequest&) {
    return FakeReply{
        .body = R"({"jobs":[{"job":5,"name":"模型","state":"running","pid":9,"progress":{"step":1,"steps":4}}]})"};
  });
  Result result = Run(server.url(), "jobs list");
  EXPECT_THAT(result.out, HasSubstr("JOB  NAME  STATE    DONE"));
  EXPECT_THAT(result.out, HasSubstr("  5  模型  running   25%"));
  EXPECT_EQ(json::parse(Run(server.url(), "jobs list --json").out)["jobs"][0]["progress"]["steps"], 4);
}

}  // namespace
}  // namespace tandem::cli
