// /api/v1/models: which version serves, and how.
#include <gmock/gmock.h>

#include "api/http/testing/server_fixture.h"
#include "nlohmann/json.hpp"

namespace tandem::api::http::testing {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

class ManageModelsTest : public ServerTest {
 protected:
  void SetUp() override { Start(); }
  Json AskJson(std::string_view verb, std::string_view path, std::string_view body = "") {
    Answer answer = Ask(verb, path, body);
    EXPECT_EQ(answer.code, 200) << answer.body;
    return Json::parse(answer.body, nullptr, false);
  }
};

TEST_F(ManageModelsTest, BeginsAndEndsCanaryAndShadow) {
  Json split = AskJson("POST", "/api/v1/models/m/canary", R"({"version":3,"percent":12.5})");
  EXPECT_EQ(split["canary"], 3);
  EXPECT_EQ(split["canary_percent"], 12.5);
  EXPECT_EQ(AskJson("POST", "/api/v1/models/m/shadow", R"({"version":4,"percent":100})")["shadow"], 4);
  EXPECT_EQ(AskJson("POST", "/api/v1/models/m/canary", "{}")["canary"], 0);
  EXPECT_EQ(Ask("POST", "/api/v1/models/m/canary", R"({"version":3,"percent":101})").code, 400);
  EXPECT_EQ(Ask("POST", "/api/v1/models/m/canary", R"({"percent":"many"})").code, 400);
  EXPECT_EQ(Ask("POST", "/api/v1/models/m/canary", R"({"model":"other"})").code, 400);
  EXPECT_EQ(Ask("GET", "/api/v1/models/m/canary").code, 405);
}

TEST_F(ManageModelsTest, PromotesApprovesAndRejects) {
  EXPECT_EQ(AskJson("POST", "/api/v1/models/m/measure", R"({"version":2})")["engine_report"], "{}");
  EXPECT_EQ(AskJson("POST", "/api/v1/models/m/promote", R"({"version":3,"why":"better"})")["version"], 3);
  Json version = AskJson("POST", "/api/v1/models/m/approve", R"({"version":3,"comment":"seen"})");
  EXPECT_EQ(version["approval"], "approved");
  EXPECT_EQ(version["approval_comment"], "seen");
  EXPECT_EQ(AskJson("POST", "/api/v1/models/m/reject", R"({"version":3,"comment":"no"})")["approval"], "rejected");
  EXPECT_EQ(Ask("POST", "/api/v1/models/m/approve", R"({"verdict":true})").code, 400);
}

TEST_F(ManageModelsTest, ShowsAndChangesTheConfiguration) {
  Json config = AskJson("PUT", "/api/v1/models/echo/config", R"({"text":"threads: 2\n","overrides":["pad=true"]})");
  EXPECT_EQ(config["text"], "threads: 2\npad=true\n");
  EXPECT_EQ(AskJson("GET", "/api/v1/models/echo/config")["text"], "threads: 2\npad=true\n");
  EXPECT_EQ(Ask("GET", "/api/v1/models/nope/config").code, 404);
  EXPECT_EQ(Ask("PUT", "/api/v1/models/echo/config", "threads: 2").code, 400);
}

}  // namespace
}  // namespace tandem::api::http::testing
