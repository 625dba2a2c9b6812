// Requests that are traced, and what the door tells of them.
#include <gmock/gmock.h>

#include "api/http/testing/server_fixture.h"
#include "api/http/testing/traces.h"
#include "base/clock.h"

namespace tandem::api::http::testing {
namespace {

using ::testing::HasSubstr;

constexpr char kEcho[] = "/v2/models/echo/infer";
constexpr char kBody[] = R"({"id":"7","inputs":[{"name":"x","shape":[1],"datatype":"INT8","data":[1]}]})";

std::string Parent(std::string_view context) { return StrCat("traceparent: ", context, "\r\n"); }

class TraceTest : public ServerTest {
 protected:
  TraceTest() { fakes_.tracer = traces_.tracer(); }
  ~TraceTest() override {
    fakes_.inference.recorded.waiting.LetWorkersRun(0);
    server_.reset();
  }
  RequestTrace Next() { return traces_.WaitFor(1)[0]; }
  // That nothing else was traced before it shows in what comes next.
  void ExpectNothingBefore(std::string_view mark) {
    Ask("POST", StrCat("/v2/models/", mark, "/infer"), kBody, Parent(kSampledContext));
    EXPECT_EQ(Next().model.view(), mark);
  }

  Traces traces_;
};

TEST_F(TraceTest, TellsOfARequestWhoseCallerTracesIt) {
  Start();
  const int64_t before = Clock::Real()->MonotonicNanos();
  Answer answer = Ask("POST", StrCat(kEcho, "?a=b"), kBody,
                      StrCat(Parent(kSampledContext), "tracestate: a=1\r\nTraceState: b=2\r\n"));
  ASSERT_EQ(answer.code, 200);
  RequestTrace trace = Next();
  EXPECT_EQ(trace.context.trace_id, ParseTraceParent(kSampledContext)->trace_id);
  EXPECT_EQ(trace.context.parent_id, ParseTraceParent(kSampledContext)->parent_id);
  EXPECT_EQ(trace.state.view(), "a=1,b=2");
  EXPECT_EQ(trace.door, RequestTrace::Door::kHttp);
  EXPECT_EQ(trace.code, 200);
  EXPECT_EQ(trace.verb.view(), "POST");
  EXPECT_EQ(trace.route.view(), "/v2/models/{model}/infer");
  EXPECT_EQ(trace.path.view(), kEcho);
  EXPECT_EQ(trace.error.view(), "");
  EXPECT_EQ(trace.model.view(), "echo");
  EXPECT_EQ(trace.version.view(), "1");
  EXPECT_EQ(trace.request_id.view(), "7");
  EXPECT_LE(before, trace.begin_ns);
  EXPECT_LE(trace.begin_ns, trace.queued_ns);
  EXPECT_LE(trace.queued_ns, trace.end_ns);
}

TEST_F(TraceTest, TellsOfPredictions) {
  Start();
  EXPECT_EQ(Ask("POST", "/v1/models/echo:predict", R"({"instances":[[1,2,3,4]]})", Parent(kSampledContext)).code, 200);
  RequestTrace trace = Next();
  EXPECT_EQ(trace.route.view(), "/v1/models/{model}:predict");
  EXPECT_EQ(trace.model.view(), "echo");
}

TEST_F(TraceTest, DoesAsTheCallerSays) {
  Start();
  TestClient client = Connect();
  for (std::string headers : {Parent(kUnsampledContext), std::string(), Parent("00-nonsense"),
                              Parent(kSampledContext) + Parent(kSampledContext)}) {
    EXPECT_EQ(client.Ask("POST", kEcho, kBody, headers).code, 200) << headers;
  }
  EXPECT_EQ(client.Ask("GET", "/v2/models/echo", "", Parent(kSampledContext)).code, 200) << "no inference";
  ExpectNothingBefore("batched");
}

TEST_F(TraceTest, TellsOfRequestsThatFail) {
  settings_.max_body_bytes = 1000;
  Start();
  struct Case {
    std::string path, body;
    int code;
    std::string error;
  };
  const std::vector<Case> cases = {
      {"/v2/models/nope/infer", kBody, 404, "there is no model 'nope'"},
      {"/v2/models/crowded/infer", kBody, 503, "the queue of model 'crowded' is full"},
      {kEcho, "{", 400, "JSON"},
      {"/v2/models/throws/infer", kBody, 500, "thrown in the engine"},
      {kEcho, std::string(1001, ' '), 413, "at most 1000"},
  };
  for (const Case& one : cases) {
    EXPECT_EQ(Ask("POST", one.path, one.body, Parent(kSampledContext)).code, one.code);
    RequestTrace trace = Next();
    EXPECT_EQ(trace.code, one.code);
    EXPECT_THAT(std::string(trace.error.view()), HasSubstr(one.error));
    EXPECT_THAT(one.path, HasSubstr(std::string(trace.model.view())));
  }
}

TEST_F(TraceTest, TellsOfAClientThatWentAway) {
  Start();
  TestClient client = Connect();
  client.Send(client.Format("POST", "/v2/models/later/infer", kBody, Parent(kSampledContext)));
  fakes_.inference.recorded.waiting.WaitFor(1);
  client.Reset();
  while (!fakes_.inference.recorded.waiting.IsOldestCancelled()) std::this_thread::yield();
  fakes_.inference.recorded.waiting.FinishOldest();
  RequestTrace trace = Next();
  EXPECT_EQ(trace.code, 0);
  EXPECT_EQ(trace.model.view(), "later");
  ExpectNothingBefore("batched");
}

}  // namespace
}  // namespace tandem::api::http::testing
