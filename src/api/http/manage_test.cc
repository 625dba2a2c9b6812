#include <gmock/gmock.h>

#include <algorithm>
#include <thread>

#include "api/http/testing/server_fixture.h"
#include "nlohmann/json.hpp"

namespace tandem::api::http::testing {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

class ManageTest : public ServerTest {
 protected:
  void SetUp() override { Start(); }
  Json AskJson(std::string_view verb, std::string_view path, std::string_view body = "") {
    Answer answer = Ask(verb, path, body);
    EXPECT_EQ(answer.code, 200) << answer.body;
    return Json::parse(answer.body, nullptr, false);
  }
};

TEST_F(ManageTest, AnswersHealth) {
  EXPECT_EQ(AskJson("GET", "/v2/health/live"), Json({{"live", true}}));
  EXPECT_EQ(AskJson("GET", "/v2/health/ready"), Json({{"live", true}, {"ready", true}}));
  fakes_.inference.ready = false;
  EXPECT_EQ(Ask("GET", "/v2/health/ready").code, 503);
}

TEST_F(ManageTest, DescribesServerAndModels) {
  Json server = AskJson("GET", "/v2");
  EXPECT_EQ(server["name"], "tandem");
  EXPECT_THAT(server["extensions"].dump(), HasSubstr("binary_tensor_data"));
  Json model = AskJson("GET", "/v2/models/echo/versions/1");
  EXPECT_EQ(model["versions"], Json({"1"}));
  EXPECT_EQ(model["inputs"], Json::parse(R"([{"name":"x","datatype":"FP32","shape":[-1,4]}])"));
  Json config = AskJson("GET", "/v2/models/echo/config");
  EXPECT_EQ(config["max_batch_size"], 0);
  EXPECT_EQ(config["input"], Json::parse(R"([{"name":"x","data_type":"TYPE_FP32","dims":[-1,4]}])"));
  EXPECT_EQ(AskJson("GET", "/v2/models/echo/ready")["ready"], true);
  EXPECT_EQ(Ask("GET", "/v2/models/nope/ready").code, 404);
  EXPECT_EQ(Ask("GET", "/v2/models/loading/ready").code, 503);
}

TEST_F(ManageTest, GivesStatisticsWithAllMembersThatClientsNeed) {
  Json stats = AskJson("GET", "/v2/models/echo/stats")["model_stats"][0];
  for (const char* member :
       {"success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"}) {
    EXPECT_TRUE(stats["inference_stats"][member].contains("count")) << member;
    EXPECT_TRUE(stats["inference_stats"][member].contains("ns")) << member;
  }
  EXPECT_EQ(stats["inference_stats"]["queue"]["count"], 7);
  EXPECT_EQ(AskJson("GET", "/v2/models/stats")["model_stats"].size(), 1);
  EXPECT_EQ(Ask("GET", "/v2/models/missing/stats").code, 404);
}

TEST_F(ManageTest, ListsLoadsAndUnloadsModelsOfTheRepository) {
  TestClient client = Connect();
  // As the Python client sends it: neither body nor Content-Length.
  client.Send("POST /v2/repository/index HTTP/1.1\r\nhost: localhost\r\n\r\n");
  Answer index = client.Read();
  EXPECT_EQ(Json::parse(index.body).size(), 2);
  EXPECT_EQ(AskJson("POST", "/v2/repository/index", R"({"ready":true})").size(), 1);
  EXPECT_EQ(Ask("POST", "/v2/repository/index", R"({"ready":5})").code, 400);
  EXPECT_EQ(Ask("POST", "/v2/repository/models/echo/load", "{}").code, 200);
  EXPECT_TRUE(fakes_.models.enabled);
  EXPECT_EQ(Ask("POST", "/v2/repository/models/echo/unload", R"({"parameters":{"unload_dependents":false}})").code,
            200);
  EXPECT_FALSE(fakes_.models.enabled);
  Answer refused = Ask("POST", "/v2/repository/models/echo/load", R"({"parameters":{"confg":"{}"}})");
  EXPECT_EQ(refused.code, 400);
  EXPECT_THAT(refused.body, HasSubstr("'confg'"));
}

TEST_F(ManageTest, ServesMetricsOnBothPortsAndNothingElseOnTheirOwn) {
  fakes_.metrics.AddCounter("nv_inference_count", "Rows.", {{"model", "echo"}})->Add(3);
  fakes_.metrics.AddHistogram("tandem_us", "Time.", {}, {10, 100})->Observe(50);
  for (const std::string& address : {server_->http_address(), server_->metrics_address()}) {
    Answer answer = TestClient(address).Ask("GET", "/metrics");
    EXPECT_EQ(answer.code, 200);
    EXPECT_THAT(answer.headers["content-type"], HasSubstr("text/plain; version=0.0.4"));
    EXPECT_THAT(answer.body, HasSubstr("nv_inference_count{model=\"echo\"} 3"));
    EXPECT_THAT(answer.body, HasSubstr("tandem_us_bucket{le=\"100\"} 1"));
    EXPECT_THAT(answer.body, HasSubstr("tandem_us_bucket{le=\"+Inf\"} 1"));
    EXPECT_EQ(TestClient(address).Ask("GET", "/v2/health/live").code, 200);
  }
  EXPECT_EQ(TestClient(server_->metrics_address()).Ask("GET", "/v2").code, 404);
  EXPECT_EQ(TestClient(server_->metrics_address()).Ask("POST", "/api/v1/stop").code, 404);
}

TEST_F(ManageTest, SubmitsAndSteersJobs) {
  Json job = AskJson("POST", "/api/v1/jobs", R"({"spec":"name: a","overrides":["seed=1"]})");
  EXPECT_EQ(job["spec"], "name: a");
  EXPECT_EQ(job["pid"], 0) << "fields with default values are written";
  EXPECT_NE(job["submitted_by"], "");
  EXPECT_EQ(AskJson("GET", "/api/v1/jobs")["jobs"].size(), 1);
  EXPECT_EQ(AskJson("GET", "/api/v1/jobs/1")["state"], "running");
  EXPECT_EQ(AskJson("POST", "/api/v1/jobs/1/cancel")["job"], 1);
  EXPECT_EQ(Ask("POST", "/api/v1/jobs/1/pause").code, 409);
  EXPECT_EQ(AskJson("GET", "/api/v1/jobs/1/logs?offset=10")["next_offset"], 15);
  EXPECT_EQ(Ask("DELETE", "/api/v1/jobs/1").code, 200);
  EXPECT_EQ(Ask("GET", "/api/v1/jobs/2").code, 404);
  EXPECT_EQ(Ask("GET", "/api/v1/jobs/abc").code, 400);
  EXPECT_EQ(Ask("GET", "/api/v1/jobs/99999999999").code, 400);
  EXPECT_EQ(Ask("GET", "/api/v1/jobs/1/logs?offset=x").code, 400);
  Answer unknown = Ask("POST", "/api/v1/jobs", R"({"specs":"name: a"})");
  EXPECT_EQ(unknown.code, 400);
  EXPECT_THAT(unknown.body, HasSubstr("specs"));
}

TEST_F(ManageTest, ExplainsAndReleasesJobs) {
  Json explanation = AskJson("GET", "/api/v1/jobs/1/explain");
  EXPECT_EQ(explanation["waits_for"], "the window 'night'");
  EXPECT_EQ(explanation["job"]["job"], 1);
  EXPECT_EQ(explanation["earliest_ms"], 0);
  EXPECT_EQ(Ask("GET", "/api/v1/jobs/9/explain").code, 404);
  EXPECT_EQ(Ask("GET", "/api/v1/jobs/x/explain").code, 400);
  EXPECT_EQ(AskJson("POST", "/api/v1/jobs/1/release")["job"], 1);
  EXPECT_EQ(fakes_.jobs.released, 1);
}

TEST_F(ManageTest, PausesResumesAndDeletesRecurringJobs) {
  EXPECT_EQ(AskJson("GET", "/api/v1/recurring")["recurring"][0]["cron"], "0 22 * * *");
  EXPECT_EQ(AskJson("GET", "/api/v1/recurring/2")["paused"], false);
  EXPECT_EQ(AskJson("POST", "/api/v1/recurring/2/pause")["paused"], true);
  EXPECT_EQ(AskJson("POST", "/api/v1/recurring/2/resume")["paused"], false);
  Answer missing = Ask("POST", "/api/v1/recurring/7/pause");
  EXPECT_EQ(missing.code, 404);
  EXPECT_THAT(missing.body, HasSubstr("no recurring job 7"));
  Answer wrong = Ask("GET", "/api/v1/recurring/nightly");
  EXPECT_EQ(wrong.code, 400);
  EXPECT_THAT(wrong.body, HasSubstr("tandem recurring list"));
  EXPECT_EQ(Ask("DELETE", "/api/v1/recurring/2").code, 200);
  EXPECT_EQ(Ask("DELETE", "/api/v1/recurring/2").code, 404);
  EXPECT_EQ(AskJson("GET", "/api/v1/recurring")["recurring"].size(), 0);
}

TEST_F(ManageTest, SetsAndRevertsThePolicyWithItsReason) {
  EXPECT_EQ(AskJson("GET", "/api/v1/policy")["current"]["revision"], 1);
  Json set = AskJson("PUT", "/api/v1/policy", R"({"text":"lend: false\n","overrides":["a=b"],"why":"quiet nights"})");
  EXPECT_EQ(set["current"]["text"], "lend: false\na=b\n");
  EXPECT_EQ(set["current"]["why"], "quiet nights");
  EXPECT_NE(set["current"]["who"], "");
  EXPECT_EQ(set["training_open"], false) << "fields with default values are written";
  EXPECT_EQ(AskJson("GET", "/api/v1/policy/history")["changes"][0]["revision"], 2);
  EXPECT_EQ(AskJson("POST", "/api/v1/policy/revert", R"({"revision":1})")["current"]["revision"], 3);
  EXPECT_EQ(AskJson("POST", "/api/v1/policy/revert")["current"]["revision"], 4);
  EXPECT_EQ(Ask("POST", "/api/v1/policy/revert", R"({"revision":9})").code, 404);
  EXPECT_EQ(Ask("POST", "/api/v1/policy/revert", R"({"revision":-1})").code, 400);
  EXPECT_EQ(Ask("POST", "/api/v1/policy/undo").code, 409);
}

TEST_F(ManageTest, RefusesAPolicyThatSaysNothingOrIsWrong) {
  for (const char* nothing : {"", "{}", R"({"why":"because"})"}) {
    Answer answer = Ask("PUT", "/api/v1/policy", nothing);
    EXPECT_EQ(answer.code, 400) << nothing;
    EXPECT_THAT(answer.body, HasSubstr("overrides")) << nothing;
  }
  EXPECT_EQ(Ask("PUT", "/api/v1/policy", R"({"texts":"x"})").code, 400);
  Answer wrong = Ask("PUT", "/api/v1/policy", R"({"text":"bad","source":"night.yaml"})");
  EXPECT_EQ(wrong.code, 400);
  EXPECT_THAT(wrong.body, HasSubstr("night.yaml:1:1"));
  EXPECT_EQ(Ask("POST", "/api/v1/policy", "{}").code, 405);
  EXPECT_EQ(AskJson("GET", "/api/v1/policy")["current"]["revision"], 1) << "a refused policy changes nothing";
}

TEST_F(ManageTest, GivesTheRecordedLoadAsCsv) {
  Answer answer = Ask("GET", "/api/v1/policy/load?seconds=2");
  EXPECT_EQ(answer.code, 200);
  EXPECT_EQ(answer.headers["content-type"], "text/csv");
  EXPECT_EQ(answer.body, "unix_ms,model,requests_per_s,service_ms\n1000,echo,10,1\n2000,echo,10,1\n");
  std::string minute = Ask("GET", "/api/v1/policy/load").body;
  EXPECT_EQ(std::count(minute.begin(), minute.end(), '\n'), 61);
  EXPECT_EQ(Ask("GET", "/api/v1/policy/load?seconds=-1").code, 400);
}

TEST_F(ManageTest, ReportsUsageOfDaysAndSides) {
  Json all = AskJson("GET", "/api/v1/usage");
  EXPECT_EQ(all["rows"][0]["name"], "name//");
  Json some = AskJson("GET", "/api/v1/usage?from_ms=1700000000000&to_ms=1700086400000&by=day&side=training&kind=job");
  EXPECT_EQ(some["rows"][0]["name"], "day/training/job");
  EXPECT_EQ(some["from_ms"], 1700000000000.0);
  EXPECT_EQ(some["to_ms"], 1700086400000.0);
  for (const char* bad : {"by=hour", "side=other", "kind=x", "from_ms=-1", "to_ms=x", "from_ms=5&to_ms=5"}) {
    EXPECT_EQ(Ask("GET", StrCat("/api/v1/usage?", bad)).code, 400) << bad;
  }
  EXPECT_THAT(Ask("GET", "/api/v1/usage?by=hour").body, HasSubstr("name, side, day"));
}

TEST_F(ManageTest, WatchesAJobUntilItChanges) {
  EXPECT_EQ(AskJson("GET", "/api/v1/jobs/1/watch?change=0&timeout_s=10")["change"], 5);
  TestClient client = Connect();
  client.Send(client.Format("GET", "/api/v1/jobs/1/watch?change=5&timeout_s=30", "", ""));
  EXPECT_EQ(Ask("GET", "/api/v1/jobs").code, 200);
  {
    std::lock_guard lock(fakes_.jobs.mutex);
    fakes_.jobs.change = 6;
    fakes_.jobs.changed.notify_all();
  }
  Json seen = Json::parse(client.Read().body);
  EXPECT_EQ(seen["change"], 6);
  EXPECT_EQ(seen["job"]["job"], 1);
}

TEST_F(ManageTest, EndsLongPollsWhenTheServerStops) {
  TestClient client = Connect();
  client.Send(client.Format("GET", "/api/v1/jobs/1/watch?change=5&timeout_s=60", "", ""));
  EXPECT_EQ(Ask("GET", "/v2").code, 200);
  auto watching = [this] {
    std::lock_guard lock(fakes_.jobs.mutex);
    return fakes_.jobs.watches > 0;
  };
  while (!watching()) std::this_thread::yield();
  server_->Stop(20);
  EXPECT_EQ(client.Read().code, 200);
}

TEST_F(ManageTest, SpoolsImportsAndRemovesTheSpool) {
  std::string small = "onnx", large(5'000'000, 'o');
  large[4'999'999] = '!';
  for (const std::string& bytes : {small, large, std::string()}) {
    Json version = AskJson("POST", "/api/v1/models/m%C3%BC/versions?source=a%20file.onnx", bytes);
    EXPECT_EQ(version["model"], "m\xc3\xbc");
    EXPECT_EQ(version["source"], "a file.onnx");
    EXPECT_EQ(version["precision"], "f32");
    EXPECT_EQ(fakes_.models.imported, bytes);
    EXPECT_FALSE(std::filesystem::exists(fakes_.models.imported_path));
  }
}

TEST_F(ManageTest, SpoolsChunkedUploads) {
  TestClient client = Connect();
  client.Send(
      "POST /api/v1/models/m/versions?source=f HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
  std::string piece(300'000, 'p');
  for (int i = 0; i < 10; ++i) client.Send(StrCat(absl::StrCat(absl::Hex(piece.size())), "\r\n", piece, "\r\n"));
  client.Send("0\r\n\r\n");
  EXPECT_EQ(client.Read().code, 200);
  EXPECT_EQ(fakes_.models.imported.size(), 3'000'000);
  EXPECT_EQ(client.Ask("GET", "/v2").code, 200);
}

TEST_F(ManageTest, RemovesTheSpoolOfAClientThatVanishes) {
  {
    TestClient client = Connect();
    client.Send(StrCat("POST /api/v1/models/m/versions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n\r\n",
                       std::string(3'000'000, 'x')));
    while (SpooledFiles() == 0) std::this_thread::yield();
  }
  while (SpooledFiles() > 0) std::this_thread::yield();
  EXPECT_EQ(Ask("GET", "/v2").code, 200);
}

TEST_F(ManageTest, UploadsDatasetsWithTheirRequestInTheQuery) {
  Json dataset =
      AskJson("POST", "/api/v1/datasets/upload?request=%7B%22dataset%22%3A%7B%22name%22%3A%22d%22%7D%7D", "tar");
  EXPECT_EQ(dataset["name"], "d");
  EXPECT_EQ(dataset["bytes"], 3);
  EXPECT_EQ(Ask("POST", "/api/v1/datasets/upload", "tar").code, 400);
  EXPECT_EQ(AskJson("POST", "/api/v1/datasets", R"({"dataset":{"name":"e","path":"/x"}})")["path"], "/x");
  EXPECT_EQ(Ask("GET", "/api/v1/datasets/none").code, 404);
  EXPECT_EQ(Ask("DELETE", "/api/v1/datasets/e").code, 200);
}

TEST_F(ManageTest, StreamsModelFiles) {
  std::string bytes(2'500'000, 'f');
  fakes_.models.file = ::testing::TempDir() + "/model-file-" + std::to_string(getpid());
  ASSERT_TRUE(WriteFileAtomically(fakes_.models.file, bytes).ok());
  TestClient client = Connect();
  for (int i = 0; i < 2; ++i) {
    Answer answer = client.Ask("GET", "/api/v1/models/m/file?version=1");
    EXPECT_EQ(answer.code, 200);
    EXPECT_TRUE(answer.body == bytes);
  }
  std::filesystem::remove(fakes_.models.file);
  EXPECT_EQ(client.Ask("GET", "/api/v1/models/m/file").code, 404);
  fakes_.models.file.clear();
  EXPECT_EQ(client.Ask("GET", "/api/v1/models/m/file?version=-1").code, 400);
}

TEST_F(ManageTest, DeploysAliasesAndDeletesModels) {
  EXPECT_EQ(AskJson("POST", "/api/v1/models/m/deploy", R"({"version":3})")["model"], "m");
  EXPECT_EQ(Ask("POST", "/api/v1/models/m/deploy", R"({"model":"other"})").code, 400);
  EXPECT_EQ(Ask("POST", "/api/v1/models/m/rollback").code, 409);
  EXPECT_EQ(Ask("POST", "/api/v1/models/m/alias", R"({"alias":"champion","version":2})").code, 200);
  EXPECT_EQ(Ask("DELETE", "/api/v1/models/m?version=2").code, 409);
  EXPECT_EQ(Ask("DELETE", "/api/v1/models/m?version=two").code, 400);
}

TEST_F(ManageTest, AdministersTheServer) {
  EXPECT_EQ(AskJson("GET", "/api/v1/status")["version"], "0.1.0");
  EXPECT_EQ(Ask("GET", "/api/v1/doctor").code, 200);
  EXPECT_EQ(AskJson("POST", "/api/v1/gc", R"({"dry_run":true})")["dry_run"], true);
  EXPECT_EQ(Ask("POST", "/api/v1/gc", "not json").code, 400);
  EXPECT_EQ(Ask("PUT", "/api/v1/log-level", R"({"level":"debug"})").code, 200);
  EXPECT_EQ(Ask("PUT", "/api/v1/log-level", R"({"level":"loud"})").code, 400);
  EXPECT_EQ(Ask("PUT", "/api/v1/log-level").code, 400);
  EXPECT_EQ(Ask("POST", "/api/v1/stop").code, 200);
  EXPECT_TRUE(fakes_.admin.stopped);
}

}  // namespace
}  // namespace tandem::api::http::testing
