// Requests whose answer comes later: they wait for an instance, a batch or a due time.
#include <gmock/gmock.h>

#include <thread>

#include "api/http/connection.h"
#include "api/http/testing/server_fixture.h"
#include "base/clock.h"

namespace tandem::api::http::testing {
namespace {

using ::testing::HasSubstr;

constexpr char kLater[] = "/v2/models/later/infer";
constexpr char kEcho[] = "/v2/models/echo/infer";

std::string Body(std::string_view id, int value = 1) {
  return StrCat(R"({"id":")", id, R"(","inputs":[{"name":"x","shape":[1],"datatype":"INT8","data":[)", value, "]}]}");
}

class WaitTest : public ServerTest {
 protected:
  // One thread, so that what it was sent first it has seen first.
  WaitTest() { settings_.io_threads = 1; }
  ~WaitTest() override { waiting_.LetWorkersRun(0); }
  void SendLater(TestClient* client, std::string_view id = "a", std::string_view headers = "") {
    client->Send(client->Format("POST", kLater, Body(id), headers));
  }
  // Returns once the server has handled all events that came before, and those that followed from them: each of these
  // is answered by way of a control thread, and so takes several polls.
  void LetServerCatchUp() {
    for (int i = 0; i < 3; ++i) EXPECT_EQ(Ask("GET", "/v2").code, 200);
  }

  WaitingRequests& waiting_ = fakes_.inference.recorded.waiting;
};

TEST_F(WaitTest, AnswersWhatAnotherThreadFinishesLater) {
  Start();
  TestClient client = Connect();
  for (int i = 0; i < 3; ++i) {
    SendLater(&client, StrCat(i));
    waiting_.WaitFor(1);
    EXPECT_TRUE(waiting_.FinishOldest());
    Answer answer = client.Read();
    EXPECT_EQ(answer.code, 200);
    EXPECT_THAT(answer.body, HasSubstr(StrCat(R"("id":")", i, "\"")));
  }
  EXPECT_EQ(fakes_.inference.recorded.done_ok, 3);
}

TEST_F(WaitTest, AnswersEachConnectionWhenItsOwnRequestIsFinished) {
  settings_.io_threads = 2;
  Start();
  TestClient first = Connect(), second = Connect();
  SendLater(&first, "first");
  waiting_.WaitFor(1);
  SendLater(&second, "second");
  waiting_.WaitFor(2);
  EXPECT_EQ(Ask("POST", kEcho, Body("third")).code, 200) << "others are served meanwhile";
  waiting_.FinishNewest();
  EXPECT_THAT(second.Read().body, HasSubstr("second"));
  waiting_.FinishOldest();
  EXPECT_THAT(first.Read().body, HasSubstr("first"));
}

TEST_F(WaitTest, KeepsPipelinedRequestsBehindAWaitingOne) {
  Start();
  TestClient client = Connect();
  // The body that waits lies in the same buffer as what follows it.
  client.Send(StrCat(client.Format("POST", kLater, Body("a", 41), ""), client.Format("POST", kEcho, Body("b"), ""),
                     client.Format("GET", "/v2", "", ""), "POST ", kLater));
  waiting_.WaitFor(1);
  std::string body = Body("c", 43);
  client.Send(StrCat(" HTTP/1.1\r\nHost: localhost\r\nContent-Length: ", body.size(), "\r\n\r\n", body));
  LetServerCatchUp();
  waiting_.FinishOldest();
  Answer answer = client.Read();
  EXPECT_THAT(answer.body, HasSubstr("\"a\""));
  EXPECT_THAT(answer.body, HasSubstr("[41]"));
  EXPECT_THAT(client.Read().body, HasSubstr("\"b\""));
  EXPECT_THAT(client.Read().body, HasSubstr("extensions"));
  waiting_.WaitFor(1);
  waiting_.FinishOldest();
  EXPECT_THAT(client.Read().body, HasSubstr("[43]"));
}

TEST_F(WaitTest, KeepsALargeBodyWhileItWaits) {
  Start();
  std::string tensor(3'000'000, '\0');
  for (size_t i = 0; i < tensor.size(); ++i) tensor[i] = static_cast<char>(i * 2654435761u >> 13);
  std::string json = R"({"parameters":{"binary_data_output":true},"inputs":[{"name":"x","shape":[3000000],)"
                     R"("datatype":"UINT8","parameters":{"binary_data_size":3000000}}]})";
  TestClient client = Connect();
  client.Send(
      client.Format("POST", kLater, json + tensor, StrCat("Inference-Header-Content-Length: ", json.size(), "\r\n")) +
      client.Format("GET", "/v2", "", ""));
  waiting_.WaitFor(1);
  waiting_.FinishOldest();
  EXPECT_TRUE(client.Read().body.ends_with(tensor));
  EXPECT_EQ(client.Read().code, 200);
}

TEST_F(WaitTest, RunsWhatFallsDueBetweenTwoPolls) {
  settings_.io_threads = 2;
  Start();
  TestClient first = Connect(), second = Connect();
  SendLater(&first);
  SendLater(&second);
  waiting_.WaitFor(2);
  const int64_t due_ns = Clock::Real()->MonotonicNanos() + 30'000'000;
  waiting_.LetWorkersRun(due_ns);
  EXPECT_EQ(first.Read().code, 200);
  EXPECT_EQ(second.Read().code, 200);
  EXPECT_GE(Clock::Real()->MonotonicNanos(), due_ns);
  EXPECT_EQ(waiting_.workers, 2);
  server_->Stop(5);
  EXPECT_EQ(waiting_.workers, 0);
}

TEST_F(WaitTest, CancelsTheRequestOfAClientThatReset) {
  Start();
  TestClient client = Connect();
  SendLater(&client);
  waiting_.WaitFor(1);
  LetServerCatchUp();
  EXPECT_FALSE(waiting_.IsOldestCancelled());
  client.Reset();
  LetServerCatchUp();
  EXPECT_TRUE(waiting_.IsOldestCancelled());
  waiting_.FinishOldest();
  LetServerCatchUp();
  EXPECT_EQ(fakes_.inference.recorded.cancelled, 1);
  EXPECT_EQ(fakes_.inference.recorded.done_failed, 1);
}

TEST_F(WaitTest, CancelsTheRequestOfAClientThatClosed) {
  Start();
  TestClient client = Connect();
  SendLater(&client);
  waiting_.WaitFor(1);
  client.Close();
  LetServerCatchUp();
  EXPECT_TRUE(waiting_.IsOldestCancelled());
  waiting_.FinishOldest();
}

TEST_F(WaitTest, AnswersAClientThatEndedItsSideWhileItsRequestWaits) {
  Start();
  TestClient client = Connect(), early = Connect(), old = Connect();
  SendLater(&client);
  waiting_.WaitFor(1);
  client.EndSending();
  EXPECT_EQ(client.Read().code, 102);
  EXPECT_FALSE(waiting_.IsOldestCancelled());
  waiting_.FinishOldest();
  EXPECT_EQ(client.Read().code, 200);
  EXPECT_TRUE(client.AtEnd());

  SendLater(&early);
  early.EndSending();
  EXPECT_EQ(early.Read().code, 102);
  waiting_.WaitFor(1);
  waiting_.FinishOldest();
  EXPECT_EQ(early.Read().code, 200);

  old.Send(StrCat("POST ", kLater, " HTTP/1.0\r\nContent-Length: ", Body("").size(), "\r\n\r\n", Body("")));
  old.EndSending();
  waiting_.WaitFor(1);
  LetServerCatchUp();
  waiting_.FinishOldest();
  EXPECT_EQ(old.Read().code, 200) << "HTTP/1.0 knows no interim answers";
}

TEST_F(WaitTest, LetsWaitingRequestsEndWhenTheServerStops) {
  Start();
  TestClient idle = Connect(), busy = Connect();
  EXPECT_EQ(idle.Ask("GET", "/v2").code, 200);
  SendLater(&busy);
  waiting_.WaitFor(1);
  std::thread stopper([this] { server_->Stop(20); });
  EXPECT_TRUE(idle.AtEnd());
  waiting_.FinishOldest();
  Answer answer = busy.Read();
  EXPECT_EQ(answer.code, 200);
  EXPECT_EQ(answer.headers["connection"], "close");
  EXPECT_TRUE(busy.AtEnd());
  busy.Close();
  stopper.join();
}

TEST_F(WaitTest, CancelsWaitingRequestsWhenTheServerStopsWithoutTime) {
  Start();
  TestClient client = Connect();
  SendLater(&client);
  waiting_.WaitFor(1);
  std::thread stopper([this] { server_->Stop(0); });
  // Until the request comes back, its memory stays.
  while (!waiting_.IsOldestCancelled()) std::this_thread::yield();
  waiting_.FinishOldest();
  stopper.join();
  EXPECT_EQ(fakes_.inference.recorded.cancelled, 1);
  EXPECT_TRUE(client.AtEnd());
}

TEST_F(WaitTest, TakesTheRouteKeyFromItsHeaderTheRequestIdOrTheId) {
  Start();
  const std::pair<std::string, std::string> cases[] = {
      {"X-Request-Id: r\r\nX-Route-Key: k\r\n", "k"}, {"X-Request-Id: r\r\n", "r"}, {"", "the-id"}};
  for (const auto& [headers, key] : cases) {
    TestClient client = Connect();
    SendLater(&client, "the-id", headers);
    waiting_.WaitFor(1);
    EXPECT_EQ(fakes_.inference.recorded.last_route_key(), key);
    waiting_.FinishOldest();
    EXPECT_EQ(client.Read().code, 200);
  }
}

TEST_F(WaitTest, SurvivesClientsThatVanishWhileOthersFinishTheirRequests) {
  settings_.io_threads = 2;
  Start();
  std::atomic<bool> over = false;
  std::thread finisher([&] {
    while (!over) {
      if (!waiting_.FinishOldest()) std::this_thread::yield();
    }
  });
  for (int round = 0; round < 100; ++round) {
    TestClient client = Connect();
    for (int i = 0; i < 1 + round % 3; ++i) SendLater(&client);
    if (round % 4 == 1) client.Reset();
    if (round % 4 == 2) client.Close();
    if (round % 4 == 3) {
      EXPECT_EQ(client.Read().code, 200);
    }
  }
  EXPECT_EQ(Ask("POST", kEcho, Body("z")).code, 200);
  server_->Stop(0);
  over = true;
  finisher.join();
}

}  // namespace
}  // namespace tandem::api::http::testing
