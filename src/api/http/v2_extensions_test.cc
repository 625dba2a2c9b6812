// The extensions of Open Inference Protocol v2 through the running door.
#include <gmock/gmock.h>
#include <sys/wait.h>

#include <nlohmann/json.hpp>

#include "api/http/testing/server_fixture.h"
#include "api/v2/testing/shm_object.h"
#include "telemetry/log.h"

namespace tandem::api::http::testing {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;
using v2::testing::ShmObject;

class ExtensionsTest : public ServerTest {
 protected:
  void SetUp() override { Start(); }
  json AskJson(std::string_view verb, std::string_view path, std::string_view body = "") {
    Answer answer = Ask(verb, path, body);
    EXPECT_EQ(answer.code, 200) << path << answer.body;
    return json::parse(answer.body, nullptr, false);
  }
  // The message of an error with this code.
  std::string Refused(int code, std::string_view path, std::string_view body) {
    Answer answer = Ask("POST", path, body);
    EXPECT_EQ(answer.code, code) << path << body << answer.body;
    return answer.body;
  }
};

TEST_F(ExtensionsTest, AreAdvertisedAsFarAsTheyWork) {
  EXPECT_THAT(AskJson("GET", "/v2")["extensions"],
              UnorderedElementsAre("binary_tensor_data", "classification", "sequence", "model_repository",
                                   "model_repository(unload_dependents)", "schedule_policy", "model_configuration",
                                   "parameters", "statistics", "system_shared_memory", "logging"));
  EXPECT_EQ(Ask("GET", "/v2/trace/setting").code, 404);
}

TEST_F(ExtensionsTest, InferThroughSharedMemory) {
  ShmObject object(8192);
  float* values = reinterpret_cast<float*>(object.bytes());
  for (int i = 0; i < 4; ++i) values[i] = static_cast<float>(i);
  std::string registration = StrCat(R"({"key":")", object.key(), R"(","byte_size":8192})");
  Answer registered = Ask("POST", "/v2/systemsharedmemory/region/in%20out/register", registration);
  EXPECT_EQ(registered.code, 200) << registered.body;
  EXPECT_EQ(AskJson("GET", "/v2/systemsharedmemory/status"),
            json::parse(StrCat(R"([{"name":"in out","key":")", object.key(), R"(","offset":0,"byte_size":8192}])")));
  EXPECT_EQ(AskJson("GET", "/v2/systemsharedmemory/region/in%20out/status").size(), 1);
  json answer = AskJson("POST", "/v2/models/echo/infer",
                        R"({"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","parameters":{
    "shared_memory_region":"in out","shared_memory_byte_size":16}}],"outputs":[{"name":"x","parameters":{
    "shared_memory_region":"in out","shared_memory_offset":4096,"shared_memory_byte_size":4096}}]})");
  EXPECT_EQ(answer["outputs"][0].count("parameters"), 0) << "the C++ client takes them for those of binary data";
  EXPECT_EQ(memcmp(object.bytes() + 4096, object.bytes(), 16), 0);
  EXPECT_EQ(Ask("POST", "/v2/systemsharedmemory/region/in%20out/unregister").code, 200);
  EXPECT_EQ(AskJson("GET", "/v2/systemsharedmemory/status"), json::array());
  EXPECT_EQ(Ask("GET", "/v2/systemsharedmemory/region/in%20out/status").code, 404);
}

TEST_F(ExtensionsTest, LetClientsUnregisterWhatTheyNeverRegistered) {
  for (const char* kind : {"system", "cuda"}) {
    const std::string path = StrCat("/v2/", kind, "sharedmemory/");
    Answer all =
        Connect().Ask("POST", StrCat(path, "unregister"), "", "Content-Type: application/x-www-form-urlencoded\r\n");
    EXPECT_EQ(all.code, 200);
    EXPECT_EQ(all.body, "");
    EXPECT_EQ(Ask("POST", StrCat(path, "region/r/unregister")).code, 200);
    EXPECT_EQ(AskJson("GET", StrCat(path, "status")), json::array());
    EXPECT_EQ(Ask("GET", StrCat(path, "region/r/status")).code, 404);
  }
}

TEST_F(ExtensionsTest, RefuseRegionsThatAreWrong) {
  ShmObject object(100);
  const std::string path = "/v2/systemsharedmemory/region/r/register", key = StrCat(R"("key":")", object.key(), "\"");
  EXPECT_THAT(Refused(400, path, "{"), HasSubstr("not a JSON object"));
  EXPECT_THAT(Refused(400, path, ""), HasSubstr("key must be"));
  EXPECT_THAT(Refused(400, path, R"({"byte_size":1})"), HasSubstr("key must be"));
  EXPECT_THAT(Refused(400, path, R"({"key":"/../x","byte_size":1})"), HasSubstr("key must be"));
  EXPECT_THAT(Refused(400, path, R"({"key":7,"byte_size":1})"), HasSubstr("'key' is the number 7"));
  EXPECT_THAT(Refused(400, path, R"({"key":["/x"],"byte_size":1})"), HasSubstr("'key' is an array"));
  EXPECT_THAT(Refused(400, path, StrCat("{", key, "}")), HasSubstr("byte_size must be 1 or more"));
  EXPECT_THAT(Refused(400, path, StrCat("{", key, R"(,"byte_size":-1})")), HasSubstr("'byte_size'"));
  EXPECT_THAT(Refused(400, path, StrCat("{", key, R"(,"byte_size":101})")), HasSubstr("has 100 bytes"));
  EXPECT_THAT(Refused(400, path, StrCat("{", key, R"(,"byte_size":1,"offset":1.5})")), HasSubstr("'offset'"));
  EXPECT_THAT(Refused(400, path, StrCat("{", key, R"(,"byte_size":1,"size":1})")), HasSubstr("'size' is unknown"));
  EXPECT_EQ(Ask("POST", path, StrCat("{", key, R"(,"byte_size":100})")).code, 200);
  EXPECT_THAT(Refused(409, path, StrCat("{", key, R"(,"byte_size":100})")), HasSubstr("registered already"));
  EXPECT_THAT(Refused(501, "/v2/cudasharedmemory/region/r/register",
                      R"({"raw_handle":{"b64":"AA=="},"device_id":0,"byte_size":1})"),
              HasSubstr("no CUDA"));
}

TEST_F(ExtensionsTest, LendAUserSharedMemoryOfHisOwnOnly) {
  if (geteuid() != 0) GTEST_SKIP() << "only root can become another user";
  ShmObject mine(100);
  const std::string path = "/v2/systemsharedmemory/region/";
  auto body = [](const ShmObject& object) { return StrCat(R"({"key":")", object.key(), R"(","byte_size":100})"); };
  ASSERT_EQ(Ask("POST", StrCat(path, "mine/register"), body(mine)).code, 200);
  fflush(nullptr);
  pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (setuid(65534) != 0) _exit(99);
    TestClient client = Connect();
    ShmObject own(100);
    const bool good = client.Ask("POST", StrCat(path, "own/register"), body(own)).code == 200 &&
                      client.Ask("POST", StrCat(path, "stolen/register"), body(mine)).code == 403 &&
                      client.Ask("POST", StrCat(path, "mine/unregister")).code == 403 &&
                      client.Ask("POST", "/v2/systemsharedmemory/unregister").code == 200 &&
                      client.Ask("POST", "/v2/logging", R"({"log_info":false})").code == 403;
    shm_unlink(own.key().c_str());
    _exit(good ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  json left = AskJson("GET", "/v2/systemsharedmemory/status");
  ASSERT_EQ(left.size(), 1);
  EXPECT_EQ(left[0]["name"], "mine");
}

TEST_F(ExtensionsTest, DescribeAModelThatBatches) {
  EXPECT_EQ(AskJson("GET", "/v2/models/batched")["inputs"][0]["shape"], json({-1, 4}));
  json config = AskJson("GET", "/v2/models/batched/config");
  EXPECT_EQ(config["max_batch_size"], 8);
  EXPECT_EQ(config["input"][0]["dims"], json({4}));
  EXPECT_EQ(config["output"][0]["dims"], json({4}));
  EXPECT_EQ(config["dynamic_batching"]["preferred_batch_size"], json({4, 8}));
  EXPECT_EQ(config["dynamic_batching"]["max_queue_delay_microseconds"], 500);
  EXPECT_EQ(config["model_transaction_policy"]["decoupled"], false);
  EXPECT_EQ(config["response_cache"]["enable"], false);
  EXPECT_EQ(config["instance_group"][0]["kind"], "KIND_CPU");
  EXPECT_EQ(config["version_policy"], json::parse(R"({"latest":{"num_versions":1}})"));
  EXPECT_FALSE(config.contains("sequence_batching"));
  EXPECT_FALSE(AskJson("GET", "/v2/models/echo/config").contains("dynamic_batching"));
}

TEST_F(ExtensionsTest, DescribeAModelWithSequences) {
  json config = AskJson("GET", "/v2/models/sequence/config");
  EXPECT_EQ(config["sequence_batching"], json::parse(R"({"max_sequence_idle_microseconds":60000000,
    "control_input":[{"name":"START","control":[{"kind":"CONTROL_SEQUENCE_START"}]}],
    "state":[{"input_name":"in","output_name":"out"}],
    "oldest":{"max_candidate_sequences":64,"preferred_batch_size":[],"max_queue_delay_microseconds":0}})"));
  EXPECT_FALSE(config.contains("dynamic_batching"));
  EXPECT_EQ(config["instance_group"][0]["count"], 2);
  EXPECT_EQ(config["version_policy"]["specific"]["versions"], json({1, 4}));
}

TEST_F(ExtensionsTest, GiveTheWholeStatistics) {
  json stats = AskJson("GET", "/v2/models/echo/stats")["model_stats"][0];
  EXPECT_EQ(stats["inference_stats"]["cache_hit"], json::parse(R"({"count":3,"ns":30})"));
  EXPECT_EQ(stats["batch_stats"][0]["batch_size"], 4);
  EXPECT_EQ(stats["batch_stats"][0]["compute_infer"]["ns"], 20);
  EXPECT_EQ(stats["memory_usage"], json::parse(R"([{"type":"CPU","id":0,"byte_size":1000}])"));
  EXPECT_EQ(stats["response_stats"], json::object());
}

TEST_F(ExtensionsTest, ChangeTheLogWhileItRuns) {
  const LogLevel before = CurrentLogLevel();
  SetLogLevel(LogLevel::kInfo);
  EXPECT_EQ(AskJson("GET", "/v2/logging"),
            json::parse(R"({"log_file":"","log_info":true,"log_warning":true,"log_error":true,"log_verbose_level":0,
                            "log_format":"default"})"));
  EXPECT_EQ(AskJson("POST", "/v2/logging", R"({"log_verbose_level":2})")["log_verbose_level"], 1);
  EXPECT_EQ(CurrentLogLevel(), LogLevel::kDebug);
  EXPECT_EQ(AskJson("POST", "/v2/logging", R"({"log_verbose_level":0,"log_info":false})")["log_info"], false);
  EXPECT_EQ(CurrentLogLevel(), LogLevel::kWarning);
  EXPECT_THAT(Refused(400, "/v2/logging", R"({"log_loud":true})"), HasSubstr("'log_loud'"));
  EXPECT_THAT(Refused(400, "/v2/logging", R"({"log_info":"yes"})"), HasSubstr("'log_info'"));
  EXPECT_THAT(Refused(400, "/v2/logging", R"({"log_error":false})"), HasSubstr("log_error"));
  EXPECT_THAT(Refused(400, "/v2/logging", R"([])"), HasSubstr("JSON object"));
  EXPECT_EQ(CurrentLogLevel(), LogLevel::kWarning) << "what was refused changed nothing";
  SetLogLevel(before);
}

TEST_F(ExtensionsTest, LoadAModelWithAConfigurationAndFiles) {
  json parameters = {{"config", R"({"max_batch_size":4,"instance_group":[{"count":2}],"optimization":{"x":1}})"},
                     {"file:1/model.onnx", "aGVsbG8="}};
  EXPECT_EQ(Ask("POST", "/v2/repository/models/m/load", json{{"parameters", parameters}}.dump()).code, 200);
  EXPECT_EQ(fakes_.models.loaded_config.max_batch_size, 4);
  EXPECT_EQ(fakes_.models.loaded_config.instances, 2);
  EXPECT_EQ(fakes_.models.loaded_files["1/model.onnx"], "hello");
  EXPECT_EQ(Ask("POST", "/v2/repository/models/m/load", R"({"parameters":{"config":"{}"}})").code, 200);
  EXPECT_TRUE(fakes_.models.loaded_files.empty());
}

TEST_F(ExtensionsTest, RefuseLoadsThatAreWrong) {
  const std::string path = "/v2/repository/models/missing/load";
  EXPECT_THAT(Refused(400, path, R"({"parameters":{"file:1/model.onnx":"aGVsbG8="}})"), HasSubstr("'config' beside"));
  EXPECT_THAT(Refused(400, path, R"({"parameters":{"config":"{","file:1/m":"aA=="}})"), HasSubstr("config"));
  EXPECT_THAT(Refused(400, path, R"({"parameters":{"config":{"max_batch_size":4}}})"),
              HasSubstr("'config' is an object"));
  EXPECT_THAT(Refused(400, path, R"({"parameters":{"config":"{\"name\":\"other\"}"}})"), HasSubstr("of model 'other'"));
  EXPECT_THAT(Refused(400, path, R"({"parameters":{"config":"{\"max_batch_size\":-4}"}})"),
              HasSubstr("max_batch_size"));
  EXPECT_THAT(Refused(400, path, R"({"parameters":{"config":"{}","file:1/../x":"aA=="}})"), HasSubstr("file:1/../x"));
  EXPECT_THAT(Refused(400, path, R"({"parameters":[1]})"), HasSubstr("'parameters' is an array"));
  EXPECT_THAT(Refused(404, path, R"({"parameters":{"config":"{}"}})"), HasSubstr("no model 'missing'"));
  EXPECT_THAT(Refused(400, "/v2/repository/models/echo/unload", R"({"parameters":{"unload_dependents":1}})"),
              HasSubstr("'unload_dependents'"));
}

}  // namespace
}  // namespace tandem::api::http::testing
