#include "tandem/load_client.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "client/fake_server.h"
#include "tandem/load_protocol.h"

namespace tandem::cli {
namespace {

using client::FakeReply;
using client::FakeRequest;
using client::FakeServer;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(PoissonArrivals, HaveTheRateAndTheSpreadOfAPoissonProcess) {
  Arrivals arrivals = PoissonArrivals(1000, 0, 100'000, 7);
  ASSERT_EQ(arrivals.offsets.size(), 100'000u);
  EXPECT_EQ(arrivals.lead_in, 0u);
  EXPECT_TRUE(std::is_sorted(arrivals.offsets.begin(), arrivals.offsets.end()));
  EXPECT_NEAR(static_cast<double>(arrivals.offsets.back()) * 1e-9, 100, 1.5);
  // Exponential gaps: the standard deviation is the mean.
  double squares = 0, last = 0;
  for (int64_t offset : arrivals.offsets) {
    double gap = static_cast<double>(offset) - last;
    last = static_cast<double>(offset);
    squares += (gap - 1e6) * (gap - 1e6);
  }
  EXPECT_NEAR(std::sqrt(squares / 100'000), 1e6, 2e4);
}

TEST(PoissonArrivals, CountBehindTheLeadInAndRepeatForASeed) {
  Arrivals arrivals = PoissonArrivals(1000, 0.5, 200, 7);
  EXPECT_NEAR(static_cast<double>(arrivals.lead_in), 500, 100);
  EXPECT_EQ(arrivals.offsets.size(), arrivals.lead_in + 200);
  EXPECT_LT(arrivals.offsets[arrivals.lead_in - 1], 500'000'000);
  EXPECT_GE(arrivals.offsets[arrivals.lead_in], 500'000'000);
  EXPECT_EQ(PoissonArrivals(1000, 0.5, 200, 7).offsets, arrivals.offsets);
  EXPECT_NE(PoissonArrivals(1000, 0.5, 200, 8).offsets, arrivals.offsets);
}

TEST(MadeUpInputs, FitTheSignatureWithBatchOne) {
  auto inputs = MadeUpInputs({{"x", DType::kFloat32, {-1, 1, 4}}, {"ids", DType::kInt64, {-1, 3}}}, 1);
  ASSERT_TRUE(inputs.ok()) << inputs.status();
  EXPECT_EQ((*inputs)[0].shape, (Shape{1, 1, 4}));
  EXPECT_EQ((*inputs)[0].buffer.size(), 16u);
  for (int i = 0; i < 4; ++i) {
    EXPECT_GE((*inputs)[0].As<float>()[i], 0);
    EXPECT_LT((*inputs)[0].As<float>()[i], 1);
  }
  EXPECT_EQ((*inputs)[1].bytes(), std::string(24, '\0'));
  EXPECT_THAT(std::string(MadeUpInputs({{"text", DType::kString, {-1}}}, 1).status().message()), HasSubstr("'text'"));
}

TEST(InferRequest, SaysHowLongHeadAndBodyAre) {
  auto inputs = MadeUpInputs({{"x", DType::kFloat32, {-1, 2}}}, 1);
  std::string request = InferRequest("127.0.0.1:80", "a b", *inputs);
  EXPECT_THAT(request, StartsWith("POST /v2/models/a%20b/infer HTTP/1.1\r\nHost: 127.0.0.1:80\r\n"));
  size_t body = request.find("\r\n\r\n") + 4;
  std::string json = request.substr(body, request.size() - body - 8);
  EXPECT_THAT(request, HasSubstr("Inference-Header-Content-Length: " + std::to_string(json.size()) + "\r\n"));
  EXPECT_THAT(request, HasSubstr("Content-Length: " + std::to_string(json.size() + 8) + "\r\n"));
  EXPECT_TRUE(json.starts_with('{') && json.ends_with('}')) << json;
}

TEST(AnswerHead, IsParsedOnceItIsWhole) {
  std::string head = "HTTP/1.1 200 OK\r\nX: y\r\ncontent-length: 5\r\n\r\n";
  for (size_t size = 0; size < head.size(); ++size) {
    auto part = ParseAnswerHead(head.substr(0, size));
    ASSERT_TRUE(part.ok()) << part.status();
    EXPECT_FALSE(part->has_value()) << size;
  }
  auto whole = ParseAnswerHead(head + "12");
  ASSERT_TRUE(whole.ok() && whole->has_value());
  EXPECT_EQ((*whole)->code, 200);
  EXPECT_EQ((*whole)->total, head.size() + 5);
  EXPECT_FALSE((*whole)->close);
  EXPECT_TRUE((*ParseAnswerHead("HTTP/1.1 503 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))->close);
}

TEST(AnswerHead, OfSomethingElseIsAnError) {
  EXPECT_FALSE(ParseAnswerHead("SSH-2.0-x\r\n\r\n").ok());
  EXPECT_FALSE(ParseAnswerHead("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").ok());
  EXPECT_FALSE(ParseAnswerHead(std::string(100'000, 'x')).ok());
}

// The fake server answers one connection at a time.
LoadSettings For(const FakeServer& server) {
  return {.address = server.url().substr(7),
          .request = "POST /x HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi",
          .lead_in_s = 0.02,
          .connections = 1};
}

TEST(LoadClient, CountsEveryRequestButThoseOfTheLeadIn) {
  FakeServer server([](const FakeRequest&) { return FakeReply{}; });
  LoadSettings settings = For(server);
  settings.rate = 2000;
  settings.requests = 200;
  auto load = LoadClient::Start(settings);
  ASSERT_TRUE(load.ok()) << load.status();
  EXPECT_LT((*load)->begin_nanos(), (*load)->end_nanos());
  LoadResult result = (*load)->Finish();
  EXPECT_EQ(result.sent, 200);
  EXPECT_EQ(result.failures, 0) << result.first_error;
  EXPECT_EQ(result.latencies_ms.size(), 200u);
  EXPECT_EQ(result.delays_us.size() + result.waited, 200u);
  EXPECT_TRUE(std::is_sorted(result.latencies_ms.begin(), result.latencies_ms.end()));
  EXPECT_GT(result.latencies_ms.front(), 0);
  EXPECT_GT(result.client_cpu_s, 0);
  EXPECT_GT(server.requests().size(), 200u);
  EXPECT_EQ(server.requests()[0].body, "hi");
}

TEST(LoadClient, LatencyHasTheWaitForABusyServerInIt) {
  std::atomic<int> left{2};  // the handler is asked twice about each request
  FakeServer server([&](const FakeRequest&) {
    if (left-- > 0) std::this_thread::sleep_for(std::chrono::milliseconds(100));
    return FakeReply{};
  });
  LoadSettings settings = For(server);
  settings.lead_in_s = 0;
  settings.rate = 1000;
  settings.requests = 100;
  LoadResult result = (*LoadClient::Start(settings))->Finish();
  ASSERT_EQ(result.latencies_ms.size(), 100u);
  EXPECT_GT(result.waited, 50);
  // All that were due while the first was answered waited: their latencies fall evenly from 200 ms on.
  EXPECT_GT(result.latencies_ms[50], 50);
  EXPECT_GT(result.latencies_ms[99], 150);
}

TEST(LoadClient, ClosedLoopSendsUntilTheTimeIsOver) {
  FakeServer server([](const FakeRequest&) { return FakeReply{}; });
  LoadSettings settings = For(server);
  settings.seconds = 1;
  LoadResult result = (*LoadClient::Start(settings))->Finish();
  EXPECT_GT(result.latencies_ms.size(), 100u);
  EXPECT_GE(result.seconds, 1);
  EXPECT_LT(result.seconds, 10);
  EXPECT_EQ(result.waited, 0);
}

TEST(LoadClient, RefusalsAndClosedConnectionsAreFailuresAndTheLoadGoesOn) {
  std::atomic<int> count{0};
  FakeServer server([&](const FakeRequest& request) {
    if (request.body.empty()) return FakeReply{};
    int number = count++;
    return FakeReply{.code = number % 4 == 1 ? 503 : 200, .body = "busy", .close = number % 4 == 2};
  });
  LoadSettings settings = For(server);
  settings.lead_in_s = 0;
  settings.rate = 1000;
  settings.requests = 80;
  LoadResult result = (*LoadClient::Start(settings))->Finish();
  EXPECT_EQ(result.sent, 80);
  EXPECT_EQ(result.latencies_ms.size() + result.failures, 80u);
  EXPECT_GE(result.failures, 20);
  EXPECT_GE(result.latencies_ms.size(), 40u);
  EXPECT_THAT(result.first_error, HasSubstr("503"));
}

TEST(LoadClient, AnAnswerThatNeverComesIsAFailureAfterTheTimeOut) {
  FakeServer server([](const FakeRequest&) { return FakeReply{.hang = true}; });
  LoadSettings settings = For(server);
  settings.lead_in_s = 0;
  settings.rate = 1000;
  settings.requests = 1;
  settings.timeout_s = 0.1;
  LoadResult result = (*LoadClient::Start(settings))->Finish();
  EXPECT_EQ(result.failures, 1);
  EXPECT_THAT(result.first_error, HasSubstr("no answer in time"));
}

TEST(LoadClient, StopsWhenToldAndSaysWhereNobodyListens) {
  FakeServer server([](const FakeRequest&) { return FakeReply{}; });
  LoadSettings settings = For(server);
  settings.rate = 10;
  settings.requests = 100'000;
  auto load = LoadClient::Start(settings);
  ASSERT_TRUE(load.ok());
  EXPECT_FALSE((*load)->Done());
  (*load)->Stop();
  EXPECT_LT((*load)->Finish().sent, 100);
  settings.address = "127.0.0.1:1";
  EXPECT_THAT(std::string(LoadClient::Start(settings).status().message()), HasSubstr("127.0.0.1:1"));
  settings.address = "somewhere";
  EXPECT_FALSE(LoadClient::Start(settings).ok());
}

}  // namespace
}  // namespace tandem::cli
