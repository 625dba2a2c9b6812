#include "api/http/connection.h"

#include <gmock/gmock.h>
#include <poll.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "api/http/testing/server_fixture.h"

namespace tandem::api::http::testing {
namespace {

using ::testing::HasSubstr;

constexpr char kEcho[] = "/v2/models/echo/infer";
constexpr char kBody[] = R"({"inputs":[{"name":"x","shape":[1],"datatype":"INT8","data":[1]}]})";

class ConnectionTest : public ServerTest {};

TEST_F(ConnectionTest, KeepsAConnectionAndAnswersPipelinedRequestsInOrder) {
  Start();
  TestClient client = Connect();
  std::string all;
  for (int i = 0; i < 50; ++i) {
    all += i % 5 == 3
               ? client.Format("GET", "/v2", "", "")
               : client.Format("POST", kEcho, StrCat(R"({"id":")", i, R"(",)", std::string(kBody).substr(1)), "");
  }
  client.Send(all);
  for (int i = 0; i < 50; ++i) {
    Answer answer = client.Read();
    ASSERT_EQ(answer.code, 200) << i << answer.body;
    EXPECT_THAT(answer.body, HasSubstr(i % 5 == 3 ? "extensions" : StrCat(R"("id":")", i, "\""))) << i;
  }
}

TEST_F(ConnectionTest, EchoesTheRequestIdAndMakesOneForControlRoutes) {
  Start();
  TestClient client = Connect();
  EXPECT_EQ(client.Ask("POST", kEcho, kBody, "X-Request-Id: abc-7\r\n").headers["x-request-id"], "abc-7");
  EXPECT_EQ(client.Ask("POST", kEcho, kBody).headers.count("x-request-id"), 0);
  EXPECT_EQ(client.Ask("GET", "/v2", "", "x-request-id: q\r\n").headers["x-request-id"], "q");
  std::string first = client.Ask("GET", "/v2").headers["x-request-id"],
              second = client.Ask("GET", "/v2").headers["x-request-id"];
  EXPECT_FALSE(first.empty());
  EXPECT_NE(first, second);
}

TEST_F(ConnectionTest, TakesARequestOneByteAtATime) {
  Start();
  TestClient client = Connect();
  for (char c : client.Format("POST", kEcho, kBody, "")) client.Send(std::string_view(&c, 1));
  EXPECT_EQ(client.Read().code, 200);
}

TEST_F(ConnectionTest, TakesChunkedBodies) {
  Start();
  TestClient client = Connect();
  std::string body = kBody;
  for (int round = 0; round < 2; ++round) {
    client.Send(StrCat("POST ", kEcho, " HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"));
    client.Send(StrCat("5;ext=1\r\n", body.substr(0, 5), "\r\n"));
    client.Send(
        StrCat(absl::StrCat(absl::Hex(body.size() - 5)), "\r\n", body.substr(5), "\r\n0\r\nTrailer: x\r\n\r\n"));
    EXPECT_EQ(client.Read().code, 200);
  }
  client.Send("POST /v2/models/echo/infer HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
  Answer answer = client.Read();
  EXPECT_EQ(answer.code, 400);
  EXPECT_THAT(answer.body, HasSubstr("chunk"));
  EXPECT_TRUE(client.AtEnd());
}

TEST_F(ConnectionTest, InvitesABodyThatWaitsForContinue) {
  Start();
  TestClient client = Connect();
  client.Send(StrCat("POST ", kEcho, " HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: ",
                     std::string(kBody).size(), "\r\n\r\n"));
  EXPECT_EQ(client.Read().code, 100);
  client.Send(kBody);
  EXPECT_EQ(client.Read().code, 200);
}

TEST_F(ConnectionTest, AnswersHttp10AndConnectionClose) {
  Start();
  TestClient old = Connect();
  old.Send("GET /v2/health/live HTTP/1.0\r\n\r\n");
  Answer answer = old.Read();
  EXPECT_EQ(answer.code, 200);
  EXPECT_EQ(answer.headers["connection"], "close");
  EXPECT_TRUE(old.AtEnd());
  TestClient kept = Connect();
  for (int i = 0; i < 2; ++i) {
    kept.Send("GET /v2/health/live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    EXPECT_EQ(kept.Read().headers["connection"], "keep-alive");
  }
}

TEST_F(ConnectionTest, AnswersAClientThatHasEndedItsSide) {
  Start();
  TestClient client = Connect();
  client.Send(client.Format("GET", "/v2", "", ""));
  client.EndSending();
  EXPECT_EQ(client.Read().code, 200);
  EXPECT_TRUE(client.AtEnd());
}

TEST_F(ConnectionTest, SaysWhatIsMissingFromATruncatedBody) {
  Start();
  TestClient client = Connect();
  client.Send("POST /v2/models/echo/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nshort");
  client.EndSending();
  Answer answer = client.Read();
  EXPECT_EQ(answer.code, 400);
  EXPECT_THAT(answer.body, HasSubstr("95 bytes"));
  TestClient large = Connect();
  large.Send("POST /v2/models/echo/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nshort");
  large.EndSending();
  EXPECT_THAT(large.Read().body, HasSubstr("999995 bytes"));
}

TEST_F(ConnectionTest, UploadsAreWrittenAtTheRateOfTheSideThatTheyAreFor) {
  std::atomic<int> of_models{0}, of_datasets{0};  // pieces that waited for their rate
  PacedWriter models(1e6, Clock::Real(), [&](int64_t) { ++of_models; });
  PacedWriter datasets(1e6, Clock::Real(), [&](int64_t) { ++of_datasets; });
  settings_.model_pace = &models;
  settings_.dataset_pace = &datasets;
  Start();
  const std::string file(3'000'000, 'x');
  EXPECT_EQ(Ask("POST", "/api/v1/models/m/versions?source=f", file).code, 200);
  EXPECT_GT(of_models.load(), 0);
  EXPECT_EQ(of_datasets.load(), 0);
  of_models = 0;
  const std::string request = "%7B%22dataset%22%3A%7B%22name%22%3A%22d%22%7D%7D";
  EXPECT_EQ(Ask("POST", StrCat("/api/v1/datasets/upload?request=", request), file).code, 200);
  EXPECT_GT(of_datasets.load(), 0);
  EXPECT_EQ(of_models.load(), 0);
  server_.reset();  // before the writers that it uses
}

TEST_F(ConnectionTest, RefusesTooLargeBodiesBeforeTheyAreSent) {
  settings_.max_body_bytes = 1000;
  settings_.max_upload_bytes = 2000;
  Start();
  for (const char* path : {kEcho, "/api/v1/jobs", "/api/v1/models/m/versions"}) {
    TestClient client = Connect();
    client.Send(StrCat("POST ", path, " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999\r\n\r\n"));
    EXPECT_EQ(client.Read().code, 413);
    EXPECT_TRUE(client.AtEnd());
  }
  TestClient chunked = Connect();
  chunked.Send(StrCat("POST ", kEcho, " HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n",
                      std::string(0x800, ' '), "\r\n"));
  EXPECT_EQ(chunked.Read().code, 413);
  TestClient expecting = Connect();
  expecting.Send(
      StrCat("POST ", kEcho, " HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n"));
  EXPECT_EQ(expecting.Read().code, 413);
}

TEST_F(ConnectionTest, BelievesNothingBehindATransferEncodingThatItDoesNotTakeApart) {
  Start();
  TestClient client = Connect();
  client.Send(StrCat("POST ", kEcho, " HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
                     client.Format("GET", "/v2", "", "")));
  EXPECT_EQ(client.Read().code, 501);
  EXPECT_TRUE(client.AtEnd());
}

TEST_F(ConnectionTest, DeliversTheRefusalWhileTheClientIsStillSending) {
  settings_.max_body_bytes = 1000;
  Start();
  TestClient client = Connect();
  client.Send(client.Format("POST", kEcho, std::string(2'000'000, 'x'), ""));
  EXPECT_EQ(client.Read().code, 413);
}

TEST_F(ConnectionTest, EndsARefusedConnectionWhosePeerNeverStopsSending) {
  Start();
  TestClient client = Connect();
  client.Send(StrCat("POST ", kEcho, " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999\r\n\r\n"));
  EXPECT_EQ(client.Read().code, 413);
  const std::string more(1 << 20, 'x');
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (send(client.fd(), more.data(), more.size(), MSG_NOSIGNAL) > 0) {
    ASSERT_LT(std::chrono::steady_clock::now(), end) << "the server reads on and on";
  }
}

TEST_F(ConnectionTest, RefusesHugeHeads) {
  Start();
  TestClient client = Connect();
  client.Send(StrCat("GET /v2 HTTP/1.1\r\nHost: localhost\r\nX: ", std::string(100'000, 'a'), "\r\n\r\n"));
  EXPECT_EQ(client.Read().code, 431);
  TestClient many = Connect();
  std::string lines;
  for (int i = 0; i < 5000; ++i) lines += "X-Y: z\r\n";
  many.Send(StrCat("GET /v2 HTTP/1.1\r\nHost: localhost\r\n", lines, "\r\n"));
  EXPECT_EQ(many.Read().code, 431);
}

TEST_F(ConnectionTest, TakesAHeadJustBelowTheLimit) {
  Start();
  TestClient client = Connect();
  EXPECT_EQ(client.Ask("GET", "/v2", "", StrCat("X: ", std::string(15'000, 'a'), "\r\n")).code, 200);
  EXPECT_EQ(client.Ask("POST", kEcho, kBody, StrCat("X: ", std::string(15'000, 'a'), "\r\n")).code, 200);
}

TEST_F(ConnectionTest, RefusesWhatIsNotHttp) {
  Start();
  const std::pair<std::string, int> cases[] = {
      {"\x16\x03\x01\x02garbage\r\n\r\n", 400},
      {"GET /v2 HTTP/2.0\r\nHost: localhost\r\n\r\n", 505},
      {"GET /v2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 400},
      {"GET /v2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400},
      {"POST /v2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {"POST /v2 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
      {"GET /v2 HTTP/1.1\r\n\r\n", 400},
      {"GET /v2 HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400},
      {"GET /nope HTTP/1.1\r\nHost: localhost\r\n\r\n", 404},
      {"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 404},
      {"GET //// HTTP/1.1\r\nHost: localhost\r\n\r\n", 404},
      {"GET * HTTP/1.1\r\nHost: localhost\r\n\r\n", 404},
      {"BREW /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n", 405},
  };
  for (const auto& [request, code] : cases) {
    TestClient client = Connect();
    client.Send(request);
    Answer answer = client.Read();
    EXPECT_EQ(answer.code, code) << request;
    EXPECT_THAT(answer.body, HasSubstr("{\"error\":")) << request;
  }
  EXPECT_EQ(Ask("GET", "/v2").code, 200);
}

TEST_F(ConnectionTest, NamesTheVerbsOfAPath) {
  Start();
  TestClient client = Connect();
  Answer answer = client.Ask("DELETE", kEcho, kBody);
  EXPECT_EQ(answer.code, 405);
  EXPECT_EQ(answer.headers["allow"], "POST");
  EXPECT_EQ(client.Ask("GET", "/v2").code, 200) << "the refused body was read";
}

TEST_F(ConnectionTest, SaysWhenToTryAgain) {
  Start();
  Answer answer = Ask("POST", "/v2/models/crowded/infer", kBody);
  EXPECT_EQ(answer.code, 503);
  EXPECT_EQ(answer.headers["retry-after"], "3");
  EXPECT_EQ(Ask("POST", "/v2/models/loading/infer", kBody).headers["retry-after"], "1");
}

TEST_F(ConnectionTest, AnswersProbesWhileEveryControlThreadIsHeld) {
  settings_.control_threads = 2;
  Start();
  TestClient first = Connect(), second = Connect(), queued = Connect();
  for (TestClient* client : {&first, &second}) client->Send(client->Format("GET", "/api/v1/models/slow", "", ""));
  fakes_.models.slow.WaitForWaiters(2);
  queued.Send(queued.Format("GET", "/v2", "", ""));
  for (const char* path :
       {"/v2/health/live", "/v2/health/ready", "/v2/models/echo/ready", "/v2/models/echo/versions/1/ready", "/"}) {
    EXPECT_EQ(Ask("GET", path).code, 200) << path;
  }
  EXPECT_EQ(Ask("GET", "/v2/models/nope/ready").code, 404);
  EXPECT_EQ(Ask("GET", "/v2/models/loading/ready").code, 503);
  fakes_.inference.ready = false;
  EXPECT_EQ(TestClient(server_->metrics_address()).Ask("GET", "/v2/health/ready").code, 503);
  pollfd answer = {.fd = queued.fd(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(poll(&answer, 1, 0), 0) << "the control threads are still held";
  fakes_.models.slow.Open();
  for (TestClient* client : {&first, &second}) EXPECT_EQ(client->Read().code, 404);
  EXPECT_EQ(queued.Read().code, 200);
}

TEST_F(ConnectionTest, TimesOutSlowHeadsAndBodies) {
  settings_.read_timeout_s = 1;
  Start();
  TestClient head = Connect(), body = Connect(), silent = Connect();
  head.Send("GET /v2 HTTP/1.1\r\nHo");
  body.Send("POST /v2/models/echo/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nab");
  EXPECT_EQ(head.Read().code, 408);
  EXPECT_EQ(body.Read().code, 408);
  EXPECT_TRUE(head.AtEnd());
  EXPECT_TRUE(body.AtEnd());
  EXPECT_TRUE(silent.AtEnd());
}

TEST_F(ConnectionTest, ClosesIdleConnections) {
  settings_.idle_timeout_s = 1;
  Start();
  TestClient client = Connect();
  EXPECT_EQ(client.Ask("GET", "/v2").code, 200);
  EXPECT_TRUE(client.AtEnd());
}

TEST_F(ConnectionTest, SurvivesAClientThatNeverReadsItsAnswer) {
  settings_.read_timeout_s = 0.3;
  Start();
  std::string json = R"({"parameters":{"binary_data_output":true},"inputs":[{"name":"x","shape":[20000000],)"
                     R"("datatype":"UINT8","parameters":{"binary_data_size":20000000}}]})";
  TestClient client = Connect();
  client.Send(client.Format("POST", kEcho, StrCat(json, std::string(20'000'000, 'x')),
                            StrCat("Inference-Header-Content-Length: ", json.size(), "\r\n")));
  EXPECT_EQ(Ask("GET", "/v2").code, 200);
  server_->Stop(5);
}

TEST_F(ConnectionTest, SendsLargeAnswersWhole) {
  Start();
  std::string tensor(20'000'000, '\0');
  for (size_t i = 0; i < tensor.size(); ++i) tensor[i] = static_cast<char>(i * 2654435761u >> 13);
  std::string json = R"({"parameters":{"binary_data_output":true},"inputs":[{"name":"x","shape":[20000000],)"
                     R"("datatype":"UINT8","parameters":{"binary_data_size":20000000}}]})";
  TestClient client = Connect();
  for (int i = 0; i < 2; ++i) {
    Answer answer =
        client.Ask("POST", kEcho, json + tensor, StrCat("Inference-Header-Content-Length: ", json.size(), "\r\n"));
    EXPECT_EQ(answer.code, 200);
    EXPECT_TRUE(answer.body.ends_with(tensor));
  }
}

TEST_F(ConnectionTest, RefusesConnectionsBeyondTheLimit) {
  settings_.max_connections = 2;
  Start();
  TestClient first = Connect(), second = Connect();
  EXPECT_EQ(first.Ask("GET", "/v2").code, 200);
  EXPECT_EQ(second.Ask("GET", "/v2").code, 200);
  TestClient third = Connect();
  EXPECT_EQ(third.Ask("GET", "/v2").code, 503);
  EXPECT_TRUE(third.AtEnd());
  EXPECT_EQ(first.Ask("GET", "/v2").code, 200);
}

TEST_F(ConnectionTest, RefusesBodiesThatWouldFillTheMemory) {
  settings_.max_body_bytes = 2 << 20;
  settings_.read_timeout_s = 60;
  Start();
  std::vector<TestClient> clients;
  for (int i = 0; i < Door::kLargeBodies; ++i) {
    clients.push_back(Connect());
    clients.back().Send(
        "POST /v2/models/echo/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2097152\r\nExpect: "
        "100-continue\r\n\r\n");
    EXPECT_EQ(clients.back().Read().code, 100);
  }
  TestClient refused = Connect();
  refused.Send("POST /v2/models/echo/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2097152\r\n\r\n");
  EXPECT_EQ(refused.Read().code, 503);
  EXPECT_EQ(Ask("POST", kEcho, kBody).code, 200);
}

TEST_F(ConnectionTest, LetsRequestsInFlightEndWhenTheServerStops) {
  Start();
  TestClient idle = Connect(), busy = Connect();
  EXPECT_EQ(idle.Ask("GET", "/v2").code, 200);
  busy.Send(busy.Format("POST", "/v2/models/slow/infer", kBody, ""));
  fakes_.inference.recorded.slow.WaitForWaiters(1);
  std::thread stopper([this] { server_->Stop(20); });
  fakes_.inference.recorded.slow.Open();
  Answer answer = busy.Read();
  EXPECT_EQ(answer.code, 200);
  EXPECT_TRUE(busy.AtEnd());
  EXPECT_TRUE(idle.AtEnd());
  stopper.join();
  EXPECT_FALSE(Connect().connected());
}

TEST_F(ConnectionTest, SurvivesManyClientsThatVanishAtAnyPoint) {
  Start();
  std::string request = TestClient(server_->http_address()).Format("POST", kEcho, kBody, "");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < 200; ++i) {
        TestClient client = Connect();
        client.Send(request.substr(0, (i * 7 + t) % (request.size() + 1)));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Ask("POST", kEcho, kBody).code, 200);
}

}  // namespace
}  // namespace tandem::api::http::testing
