// Requests that are traced, and what the door tells of them.
#include <gmock/gmock.h>

#include "api/grpc/testing/grpc_fixture.h"
#include "api/grpc/tfserving.h"
#include "api/http/testing/traces.h"
#include "base/strings.h"

namespace tandem::api::rpc::testing {
namespace {

using ::grpc::StatusCode;
using http::testing::kSampledContext;
using http::testing::kUnsampledContext;
using inference::ModelInferRequest;
using inference::ModelInferResponse;
using ::testing::HasSubstr;

class TraceTest : public GrpcTest {
 protected:
  TraceTest() {
    fakes_.tracer = traces_.tracer();
    settings_.max_message_bytes = 100'000;
    Start(TfServingMethods());
  }
  ~TraceTest() override { server_.reset(); }
  ::grpc::Status Ask(const std::string& model, std::vector<std::string> parents, size_t bytes = 4) {
    ModelInferRequest request = RawRequest(model, "UINT8", static_cast<int64_t>(bytes), std::string(bytes, 'a'));
    request.set_id("seven");
    ::grpc::ClientContext context;
    for (const std::string& parent : parents) context.AddMetadata("traceparent", parent);
    context.AddMetadata("tracestate", "a=1");
    ModelInferResponse response;
    return stub_->ModelInfer(&context, request, &response);
  }
  RequestTrace Next() { return traces_.WaitFor(1)[0]; }

  http::testing::Traces traces_;
};

TEST_F(TraceTest, TellsOfARequestWhoseCallerTracesIt) {
  ASSERT_TRUE(Ask("echo", {kSampledContext}).ok());
  RequestTrace trace = Next();
  EXPECT_EQ(trace.context.trace_id, ParseTraceParent(kSampledContext)->trace_id);
  EXPECT_EQ(trace.context.parent_id, ParseTraceParent(kSampledContext)->parent_id);
  EXPECT_EQ(trace.state.view(), "a=1");
  EXPECT_EQ(trace.door, RequestTrace::Door::kGrpc);
  EXPECT_EQ(trace.code, 0);
  EXPECT_EQ(trace.route.view(), "inference.GRPCInferenceService/ModelInfer");
  EXPECT_EQ(trace.model.view(), "echo");
  EXPECT_EQ(trace.version.view(), "1");
  EXPECT_EQ(trace.request_id.view(), "seven");
  EXPECT_LE(trace.begin_ns, trace.queued_ns);
  EXPECT_LE(trace.queued_ns, trace.end_ns);
}

TEST_F(TraceTest, DoesAsTheCallerSays) {
  for (const std::vector<std::string>& parents : std::vector<std::vector<std::string>>{
           {}, {kUnsampledContext}, {"nonsense"}, {kSampledContext, kSampledContext}}) {
    EXPECT_TRUE(Ask("echo", parents).ok());
  }
  EXPECT_TRUE(Ask("batched", {kSampledContext}).ok());
  EXPECT_EQ(Next().model.view(), "batched");
}

TEST_F(TraceTest, TellsOfRequestsThatFail) {
  EXPECT_EQ(Ask("nope", {kSampledContext}).error_code(), StatusCode::NOT_FOUND);
  RequestTrace trace = Next();
  EXPECT_EQ(trace.code, StatusCode::NOT_FOUND);
  EXPECT_EQ(trace.model.view(), "nope");
  EXPECT_EQ(trace.request_id.view(), "seven");
  EXPECT_THAT(std::string(trace.error.view()), HasSubstr("there is no model 'nope'"));
  EXPECT_EQ(Ask("broken", {kSampledContext}).error_code(), StatusCode::INTERNAL);
  EXPECT_EQ(Next().code, StatusCode::INTERNAL);
}

TEST_F(TraceTest, TellsOfAMessageThatIsNotTaken) {
  ::grpc::ClientContext context;
  context.AddMetadata("traceparent", kSampledContext);
  context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  ModelInferResponse response;
  ::grpc::Status status =
      stub_->ModelInfer(&context, RawRequest("echo", "UINT8", 200'000, std::string(200'000, 'a')), &response);
  EXPECT_EQ(status.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  RequestTrace trace = Next();
  EXPECT_EQ(trace.code, StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(trace.route.view(), "inference.GRPCInferenceService/ModelInfer");
  EXPECT_EQ(trace.model.view(), "") << "it was not read";
}

TEST_F(TraceTest, TellsOfEachRequestOfAStream) {
  ::grpc::ClientContext context;
  context.AddMetadata("traceparent", kSampledContext);
  auto stream = stub_->ModelStreamInfer(&context);
  for (const char* model : {"echo", "nope", "batched"}) {
    ASSERT_TRUE(stream->Write(RawRequest(model, "UINT8", 1, "a")));
    inference::ModelStreamInferResponse response;
    ASSERT_TRUE(stream->Read(&response));
    RequestTrace trace = Next();
    EXPECT_EQ(trace.model.view(), model);
    EXPECT_EQ(trace.route.view(), "inference.GRPCInferenceService/ModelStreamInfer");
    EXPECT_EQ(trace.context.parent_id, ParseTraceParent(kSampledContext)->parent_id);
    EXPECT_EQ(trace.code, model == std::string("nope") ? StatusCode::NOT_FOUND : StatusCode::OK);
  }
  stream->WritesDone();
  EXPECT_TRUE(stream->Finish().ok());
}

}  // namespace
}  // namespace tandem::api::rpc::testing
