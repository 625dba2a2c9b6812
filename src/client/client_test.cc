#include "client/client.h"

#include <gmock/gmock.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/files.h"
#include "base/status.h"
#include "client/fake_server.h"
#include "client/json.h"

namespace tandem::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::unique_ptr<Client> Connect(const FakeServer& server) { return *Client::Create({.url = server.url()}); }

FakeReply Json(std::string body) { return {.code = 200, .body = std::move(body)}; }

class TemporaryFolder : public ::testing::Test {
 protected:
  TemporaryFolder() {
    std::string pattern = ::testing::TempDir() + "clientXXXXXX";
    folder_ = mkdtemp(pattern.data());
  }
  ~TemporaryFolder() override { std::filesystem::remove_all(folder_); }
  std::string Write(const std::string& name, const std::string& content) {
    std::string path = folder_ + "/" + name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  std::string folder_;
};
using Files = TemporaryFolder;

TEST(Client, SubmitsAJobAsJsonAndReadsTheAnswer) {
  FakeServer server([](const FakeRequest&) { return Json(R"({"job": 7, "state": "queued", "future_field": 1})"); });
  auto client = Connect(server);
  wire::SubmitJobRequest request;
  request.set_spec("name: x\n");
  request.add_overrides("epochs=2");
  auto job = client->jobs().Submit(request);
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->job(), 7);
  EXPECT_EQ(job->state(), "queued");
  FakeRequest seen = server.requests().at(0);
  EXPECT_EQ(seen.line, "POST /api/v1/jobs HTTP/1.1");
  EXPECT_THAT(seen.body, HasSubstr(R"("spec":"name: x\n")"));
  EXPECT_THAT(seen.body, HasSubstr(R"("overrides":["epochs=2"])"));
  EXPECT_THAT(seen.body, HasSubstr("idempotency_key"));
}

TEST(Client, KeepsItsConnectionAndReconnectsWhenTheServerClosedIt) {
  int count = 0;
  FakeServer server([&](const FakeRequest&) { return FakeReply{.body = "{}", .close = ++count == 2}; });
  auto client = Connect(server);
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(client->jobs().List().ok());
  EXPECT_EQ(server.connections(), 2);
}

TEST(Client, GivesTheServersErrorWithItsCode) {
  FakeServer server([](const FakeRequest&) { return FakeReply{.code = 404, .body = R"({"error":"no job 9"})"}; });
  auto status = Connect(server)->jobs().Show(9).status();
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_EQ(MessageOf(status), "no job 9");
  EXPECT_FALSE(IsUnreachable(status));
}

TEST(Client, SaysWhenTheServerIsSomethingElse) {
  FakeServer server([](const FakeRequest&) { return FakeReply{.code = 404, .body = "<html>"}; });
  EXPECT_THAT(MessageOf(Connect(server)->jobs().List().status()), HasSubstr("is it a tandem server?"));
  FakeServer html([](const FakeRequest&) { return Json("<html>"); });
  EXPECT_TRUE(absl::IsInternal(Connect(html)->jobs().List().status()));
}

TEST(Client, NamesTheUrlAndTheCureWhenNothingListens) {
  std::string url;
  {
    FakeServer gone([](const FakeRequest&) { return FakeReply{}; });
    url = gone.url();
  }
  auto status = (*Client::Create({.url = url}))->admin().Status().status();
  EXPECT_TRUE(IsUnreachable(status));
  EXPECT_THAT(MessageOf(status), HasSubstr(url));
  EXPECT_THAT(MessageOf(status), HasSubstr("tandem serve"));
}

TEST(Client, EndsACallAtItsDeadline) {
  FakeServer server([](const FakeRequest&) { return FakeReply{.hang = true}; });
  auto start = std::chrono::steady_clock::now();
  auto status = Connect(server)->admin().Status(Deadline{0.2}).status();
  EXPECT_TRUE(absl::IsDeadlineExceeded(status)) << status;
  EXPECT_TRUE(IsUnreachable(status));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST(Client, EndsACallWhenInterrupted) {
  FakeServer server([](const FakeRequest&) { return FakeReply{.hang = true}; });
  int asked = 0;
  auto client = *Client::Create({.url = server.url(), .interrupted = [&] { return ++asked > 2; }});
  EXPECT_TRUE(absl::IsCancelled(client->admin().Status().status()));
}

TEST(Client, RefusesUrlsItCannotSpeak) {
  EXPECT_THAT(MessageOf(Client::Create({.url = "https://x:1"}).status()), HasSubstr("TLS"));
  EXPECT_FALSE(Client::Create({.url = "ftp://x"}).ok());
  EXPECT_FALSE(Client::Create({.url = "http://x:99999"}).ok());
  EXPECT_FALSE(Client::Create({.url = "http://x:1/path"}).ok());
  EXPECT_FALSE(Client::Create({.url = "http://a b:1"}).ok());
  EXPECT_FALSE(Client::Create({.url = "http://x:1", .token = "a\r\nb"}).ok());
  EXPECT_TRUE((*Client::Create({.url = "http://[::1]:8000/"}))->on_this_machine());
  EXPECT_TRUE((*Client::Create({.url = "localhost:8000"}))->on_this_machine());
  EXPECT_FALSE((*Client::Create({.url = "http://example.org"}))->on_this_machine());
}

TEST(Client, SendsTheTokenAndEncodesNames) {
  FakeServer server([](const FakeRequest&) { return Json("{}"); });
  auto client = *Client::Create({.url = server.url(), .token = "s3cret"});
  ASSERT_TRUE(client->models().Show("模 a/b").ok());
  FakeRequest seen = server.requests().at(0);
  EXPECT_EQ(seen.line, "GET /api/v1/models/%E6%A8%A1%20a%2Fb HTTP/1.1");
  EXPECT_THAT(seen.head, HasSubstr("Authorization: Bearer s3cret\r\n"));
}

TEST(Client, ChangesWhichVersionServes) {
  FakeServer server([](const FakeRequest& request) {
    bool split = request.line.find("/canary") != std::string::npos || request.line.find("/shadow") != std::string::npos;
    return Json(split ? R"({"canary": 3, "canary_now": {"canary": {"version": 3, "p99_ms": 1.5}}})"
                      : R"({"model": "m", "version": 3, "text": "threads: 2\n"})");
  });
  auto client = Connect(server);
  wire::SplitRequest split;
  split.set_model("m");
  split.set_percent(10);
  EXPECT_EQ(client->models().SetCanary(split)->canary_now().canary().p99_ms(), 1.5);
  EXPECT_EQ(client->models().SetShadow(split)->canary(), 3);
  wire::PromoteRequest promote;
  promote.set_model("m");
  EXPECT_EQ(client->models().Promote(promote)->version(), 3);
  wire::ApproveRequest approve;
  approve.set_model("m");
  approve.set_comment("seen");
  EXPECT_TRUE(client->models().Approve(approve, true).ok());
  EXPECT_TRUE(client->models().Approve(approve, false).ok());
  wire::MeasureRequest measure;
  measure.set_model("m");
  EXPECT_EQ(client->models().Measure(measure)->version(), 3);
  wire::ConfigureRequest configure;
  configure.set_model("m");
  configure.add_overrides("threads=2");
  EXPECT_EQ(client->models().Configure(configure)->text(), "threads: 2\n");
  EXPECT_TRUE(client->models().Config("m").ok());
  std::vector<std::string> lines;
  for (const FakeRequest& request : server.requests()) lines.push_back(request.line);
  EXPECT_THAT(lines, ElementsAre("POST /api/v1/models/m/canary HTTP/1.1", "POST /api/v1/models/m/shadow HTTP/1.1",
                                 "POST /api/v1/models/m/promote HTTP/1.1", "POST /api/v1/models/m/approve HTTP/1.1",
                                 "POST /api/v1/models/m/reject HTTP/1.1", "POST /api/v1/models/m/measure HTTP/1.1",
                                 "PUT /api/v1/models/m/config HTTP/1.1", "GET /api/v1/models/m/config HTTP/1.1"));
}

TEST(Follow, ReportsEachChangeUntilTheDeploymentIsDecided) {
  std::vector<std::string> answers = {
      R"({"job":{"job":3,"state":"running"},"change":1})",
      R"({"job":{"job":3,"state":"running"},"change":1})",
      R"({"job":{"job":3,"state":"succeeded","deploy":"pending"},"change":2})",
      R"({"job":{"job":3,"state":"succeeded","deploy":"promoted"},"change":"bad"})",
      R"({"job":{"job":3,"state":"succeeded","deploy":"promoted"},"change":5})",
  };
  size_t next = 0;
  FakeServer server([&](const FakeRequest&) { return Json(answers.at(next++)); });
  auto client = Connect(server);
  std::vector<std::string> seen;
  auto on_change = [&](const wire::Job& job) { return seen.push_back(job.state() + job.deploy()), true; };
  EXPECT_TRUE(absl::IsInternal(client->jobs().Follow(3, on_change).status()));
  EXPECT_THAT(seen, ElementsAre("running", "succeededpending"));
  auto last = client->jobs().Follow(3, on_change);
  ASSERT_TRUE(last.ok());
  EXPECT_EQ(last->deploy(), "promoted");
  EXPECT_THAT(server.requests().at(1).line, HasSubstr("/api/v1/jobs/3/watch?change=1&timeout_s="));
}

TEST(Jobs, ExplainsAndReleases) {
  FakeServer server([](const FakeRequest&) {
    return Json(R"({"job":{"job":3},"waits_for":"memory","facts":["a","b"],"events":[{"state":"queued"}]})");
  });
  auto client = Connect(server);
  auto explanation = client->jobs().Explain(3);
  ASSERT_TRUE(explanation.ok()) << explanation.status();
  EXPECT_EQ(explanation->waits_for(), "memory");
  EXPECT_EQ(explanation->events(0).state(), "queued");
  EXPECT_TRUE(client->jobs().Release(3).ok());
  EXPECT_EQ(server.requests().at(0).line, "GET /api/v1/jobs/3/explain HTTP/1.1");
  EXPECT_EQ(server.requests().at(1).line, "POST /api/v1/jobs/3/release HTTP/1.1");
}

TEST(Recurring, HasAVerbForEachRoute) {
  FakeServer server([](const FakeRequest&) { return Json(R"({"id":2,"paused":true,"recurring":[{"id":2}]})"); });
  auto client = Connect(server);
  EXPECT_EQ(client->recurring().List()->recurring(0).id(), 2);
  EXPECT_EQ(client->recurring().Show(2)->id(), 2);
  EXPECT_TRUE(client->recurring().Pause(2)->paused());
  EXPECT_TRUE(client->recurring().Resume(2).ok());
  EXPECT_TRUE(client->recurring().Delete(2).ok());
  std::vector<std::string> lines;
  for (const FakeRequest& request : server.requests()) lines.push_back(request.line);
  EXPECT_THAT(lines, ElementsAre("GET /api/v1/recurring HTTP/1.1", "GET /api/v1/recurring/2 HTTP/1.1",
                                 "POST /api/v1/recurring/2/pause HTTP/1.1", "POST /api/v1/recurring/2/resume HTTP/1.1",
                                 "DELETE /api/v1/recurring/2 HTTP/1.1"));
}

TEST(Sharing, SetsRevertsAndUndoesThePolicy) {
  FakeServer server([](const FakeRequest&) { return Json(R"({"current":{"revision":4},"window":"night"})"); });
  auto client = Connect(server);
  wire::SetPolicyRequest set;
  set.set_text("lend: false\n");
  set.add_overrides("training.cpu=30%");
  set.set_why("夜");
  auto state = client->sharing().Set(set);
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->current().revision(), 4);
  wire::RevertPolicyRequest revert;
  revert.set_revision(2);
  EXPECT_EQ(client->sharing().Revert(revert)->window(), "night");
  EXPECT_TRUE(client->sharing().Undo().ok());
  EXPECT_TRUE(client->sharing().Show().ok());
  auto seen = server.requests();
  EXPECT_EQ(seen.at(0).line, "PUT /api/v1/policy HTTP/1.1");
  EXPECT_THAT(seen.at(0).body, HasSubstr(R"("overrides":["training.cpu=30%"],"why":"夜")"));
  EXPECT_EQ(seen.at(1).line, "POST /api/v1/policy/revert HTTP/1.1");
  EXPECT_THAT(seen.at(1).body, HasSubstr(R"("revision":2)"));
  EXPECT_EQ(seen.at(2).line, "POST /api/v1/policy/undo HTTP/1.1");
  EXPECT_EQ(seen.at(3).line, "GET /api/v1/policy HTTP/1.1");
}

TEST(Sharing, ReadsHistoryLoadAndUsage) {
  FakeServer server([](const FakeRequest& request) {
    if (request.line.find("/load") != std::string::npos) return FakeReply{.body = "unix_ms,model\n1,m\n"};
    return Json(R"({"changes":[{"revision":3},{"revision":2}],"rows":[{"cpu_seconds":1.5}]})");
  });
  auto client = Connect(server);
  EXPECT_EQ(client->sharing().History()->changes_size(), 2);
  EXPECT_EQ(*client->sharing().RecordedLoad(90), "unix_ms,model\n1,m\n");
  auto usage = client->sharing().Usage({.from_ms = 1'700'000'000'000, .to_ms = 1'700'086'400'000, .by = "day"});
  EXPECT_EQ(usage->rows(0).cpu_seconds(), 1.5);
  EXPECT_EQ(server.requests().at(1).line, "GET /api/v1/policy/load?seconds=90 HTTP/1.1");
  EXPECT_EQ(server.requests().at(2).line,
            "GET /api/v1/usage?from_ms=1700000000000&to_ms=1700086400000&by=day&side=&kind= HTTP/1.1");
}

TEST(FollowLogs, EndsWithTheJobEvenIfTheLogIsNeverComplete) {
  FakeServer server([](const FakeRequest& request) {
    if (request.line.find("/watch") != std::string::npos) {
      return Json(R"({"job":{"job":3,"state":"failed"},"change":4})");
    }
    bool first = request.line.find("offset=0 ") != std::string::npos;
    return Json(first ? R"({"text":"hello","next_offset":5})" : R"({"text":"","next_offset":5})");
  });
  std::string text;
  auto on_text = [&](std::string_view piece) { return text += piece, true; };
  EXPECT_TRUE(Connect(server)->jobs().FollowLogs(3, on_text).ok());
  EXPECT_EQ(text, "hello");
}

TEST_F(Files, StreamsAModelWithoutItsNameBecomingPartOfThePath) {
  std::string bytes(3'000'000, 'm');
  std::string path = Write("m.onnx", bytes);
  FakeServer server([](const FakeRequest&) { return Json(R"({"model":"fashion","version":4})"); });
  auto version = Connect(server)->models().Import("fashion", path, "dir/m x.onnx", "bf16");
  ASSERT_TRUE(version.ok()) << version.status();
  EXPECT_EQ(version->version(), 4);
  FakeRequest seen = server.requests().at(0);
  EXPECT_EQ(seen.line, "POST /api/v1/models/fashion/versions?source=dir%2Fm%20x.onnx&precision=bf16 HTTP/1.1");
  EXPECT_EQ(seen.body, bytes);
}

TEST_F(Files, ReadsTheRefusalOfABodyThatWasNotWanted) {
  std::string path = Write("big.onnx", std::string(20'000'000, 'm'));
  FakeServer server(
      [](const FakeRequest&) { return FakeReply{.code = 413, .body = R"({"error":"too big"})", .before_body = true}; });
  auto status = Connect(server)->models().Import("m", path, "big").status();
  EXPECT_FALSE(status.ok());
  EXPECT_TRUE(MessageOf(status) == "too big" || IsUnreachable(status)) << status;
}

TEST_F(Files, ExportsAtomicallyAndLeavesNothingAfterAnError) {
  std::string bytes(500'000, 'x');
  FakeServer server([&](const FakeRequest& request) {
    bool good = request.line.find("alias=champion") != std::string::npos;
    return good ? Json(bytes) : FakeReply{.code = 404, .body = R"({"error":"no such alias"})"};
  });
  auto client = Connect(server);
  EXPECT_EQ(*client->models().Export("m", "champion", 0, folder_ + "/out.onnx"), 500'000);
  EXPECT_EQ(*ReadFile(folder_ + "/out.onnx"), bytes);
  EXPECT_TRUE(absl::IsNotFound(client->models().Export("m", "none", 0, folder_ + "/no.onnx").status()));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

TEST_F(Files, UploadsAFolderAsATarThatTarCanRead) {
  std::string deep = std::string(60, 'd') + "/" + std::string(60, 'e') + "/leaf.png";
  Write("set/cat/1.png", "meow");
  Write("set/狗/2.png", std::string(1024, 'w'));
  Write("set/empty.txt", "");
  Write("set/" + deep, "deep");
  std::filesystem::create_directory_symlink(folder_ + "/set", folder_ + "/set/loop");
  FakeServer server([](const FakeRequest&) { return Json(R"({"name":"pets","classes":2})"); });
  wire::AddDatasetRequest request;
  request.mutable_dataset()->set_name("pets");
  auto dataset = Connect(server)->datasets().Upload(request, folder_ + "/set");
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  FakeRequest seen = server.requests().at(0);
  EXPECT_THAT(seen.line, StartsWith("POST /api/v1/datasets/upload?request=%7B%22dataset%22%3A%7B%22name%22%3A%22pets"));
  std::string tar = Write("set.tar", seen.body);
  std::filesystem::create_directory(folder_ + "/out");
  ASSERT_EQ(std::system(StrCat("tar -C ", folder_, "/out -xf ", tar).c_str()), 0);
  EXPECT_EQ(*ReadFile(folder_ + "/out/cat/1.png"), "meow");
  EXPECT_EQ(ReadFile(folder_ + "/out/狗/2.png")->size(), 1024u);
  EXPECT_EQ(*ReadFile(folder_ + "/out/empty.txt"), "");
  EXPECT_EQ(*ReadFile(folder_ + "/out/" + deep), "deep");
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/out/loop"));
}

TEST_F(Files, NamesAMissingFileBeforeItAsksTheServer) {
  auto client = *Client::Create({.url = "http://127.0.0.1:1"});
  auto status = client->models().Import("m", folder_ + "/absent.onnx", "absent").status();
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(MessageOf(status), HasSubstr("absent.onnx"));
}

Tensor Floats(const std::string& name, Shape shape, const std::vector<float>& values) {
  Tensor tensor{
      .name = name, .dtype = DType::kFloat32, .shape = std::move(shape), .buffer = AlignedBuffer(values.size() * 4)};
  std::memcpy(tensor.buffer.data(), values.data(), values.size() * 4);
  return tensor;
}

TEST(Infer, SendsAndReadsRawTensors) {
  FakeServer server([](const FakeRequest& request) {
    std::string head =
        R"({"model_name":"m","model_version":"2","outputs":[{"name":"y","datatype":"FP32","shape":[1,2],)"
        R"("parameters":{"binary_data_size":8}}]})";
    std::string floats = request.body.size() >= 8 ? request.body.substr(request.body.size() - 8) : "";
    return FakeReply{.body = head + floats,
                     .headers = StrCat("Inference-Header-Content-Length: ", head.size(), "\r\n")};
  });
  std::vector<Tensor> inputs;
  inputs.push_back(Floats("x", {1, 2}, {0.5f, -3}));
  auto answer = Connect(server)->inference().Infer("m", "champion", inputs);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->version, "2");
  EXPECT_EQ(answer->outputs.at(0).As<float>()[1], -3);
  EXPECT_EQ(server.requests().at(0).line, "POST /v2/models/m/versions/champion/infer HTTP/1.1");
}

TEST(Infer, RefusesAnAnswerThatDoesNotAddUp) {
  for (std::string body :
       {R"({"outputs":[{"name":"y","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}}]})",
        R"({"outputs":[{"name":"y","datatype":"FP32","shape":[-1,2],"parameters":{"binary_data_size":0}}]})",
        R"({"outputs":[{"name":"y","datatype":"FP32","shape":[1],"data":[1]}]})", R"({"outputs":[{}]})", R"({})",
        "nonsense"}) {
    FakeServer server([&](const FakeRequest&) { return Json(body); });
    EXPECT_FALSE(Connect(server)->inference().Infer("m", "", {}).ok()) << body;
  }
}

TEST(Describe, ReadsTheSignature) {
  FakeServer server([](const FakeRequest&) {
    return Json(R"({"name":"m","versions":["1","2"],"platform":"onnx_openvino",)"
                R"("inputs":[{"name":"input","datatype":"FP32","shape":[-1,1,28,28]}],"outputs":[]})");
  });
  auto metadata = Connect(server)->inference().Describe("m", "");
  ASSERT_TRUE(metadata.ok()) << metadata.status();
  EXPECT_THAT(metadata->versions, ElementsAre("1", "2"));
  EXPECT_THAT(metadata->inputs.at(0).shape, ElementsAre(-1, 1, 28, 28));
  EXPECT_EQ(metadata->inputs.at(0).dtype, DType::kFloat32);
}

TEST(Json, WritesFieldsThatAreZero) {
  wire::Job job;
  job.set_job(3);
  std::string text = ToJson(job);
  EXPECT_THAT(text, HasSubstr(R"("job":3)"));
  EXPECT_THAT(text, HasSubstr(R"("pid":0)"));
  EXPECT_EQ(text.find('\n'), std::string::npos);
}

}  // namespace
}  // namespace tandem::client
