#include <gmock/gmock.h>

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
  Answer refused = Ask("POST", "/v2/repository/models/echo/load", R"({"parameters":{"config":"{}"}})");
  EXPECT_EQ(refused.code, 400);
  EXPECT_THAT(refused.body, HasSubstr("'config'"));
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
