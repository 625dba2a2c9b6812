#include "daemon/trace_exporter.h"

#include <gmock/gmock.h>

#include <atomic>
#include <map>
#include <thread>

#include "client/fake_server.h"
#include "daemon/trace_spans.h"

namespace tandem::daemon {
namespace {

using ::testing::HasSubstr;

constexpr char kContext[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

std::map<std::string, std::string> AttributesOf(const otlp::Span& span) {
  std::map<std::string, std::string> all;
  for (const otlp::KeyValue& one : span.attributes()) {
    const otlp::AnyValue& value = one.value();
    all[one.key()] = value.has_string_value() ? value.string_value()
                     : value.has_int_value()  ? StrCat(value.int_value())
                                              : StrCat("bool ", value.bool_value() ? 1 : 0);
  }
  return all;
}

RequestTrace HttpTrace() {
  RequestTrace trace;
  trace.context = *ParseTraceParent(kContext);
  trace.state.Set("a=1");
  trace.span_id = {1, 2, 3, 4, 5, 6, 7, 8};
  trace.unix_offset_ns = 1'000'000;
  trace.code = 200;
  trace.verb.Set("POST");
  trace.route.Set("/v2/models/{model}/infer");
  trace.path.Set("/v2/models/m/infer");
  trace.model.Set("m");
  trace.version.Set("3");
  trace.request_id.Set("id");
  trace.begin_ns = 100;
  trace.queued_ns = 150;
  trace.queue_ns = 20;
  trace.infer_ns = 300;
  trace.end_ns = 600;
  return trace;
}

TEST(AddSpans, MakesARequestWithItsWaitAndItsRun) {
  otlp::ScopeSpans out;
  AddSpans(HttpTrace(), &out);
  ASSERT_EQ(out.spans_size(), 3);
  const otlp::Span &server = out.spans(0), &queue = out.spans(1), &compute = out.spans(2);
  EXPECT_EQ(server.name(), "POST /v2/models/{model}/infer");
  EXPECT_EQ(server.kind(), otlp::Span::SPAN_KIND_SERVER);
  EXPECT_EQ(server.parent_span_id(), "\xb7\xad\x6b\x71\x69\x20\x33\x31");
  EXPECT_EQ(server.span_id(), "\1\2\3\4\5\6\7\10");
  EXPECT_EQ(server.flags(), 0x301);
  EXPECT_EQ(server.start_time_unix_nano(), 1'000'100);
  EXPECT_EQ(server.end_time_unix_nano(), 1'000'600);
  EXPECT_EQ(server.status().code(), otlp::Status::STATUS_CODE_UNSET);
  const std::map<std::string, std::string> wanted = {
      {"http.request.method", "POST"},      {"http.route", "/v2/models/{model}/infer"},
      {"url.path", "/v2/models/m/infer"},   {"url.scheme", "http"},
      {"http.response.status_code", "200"}, {"tandem.model.name", "m"},
      {"tandem.model.version", "3"},        {"tandem.request.id", "id"},
      {"tandem.cached", "bool 0"}};
  EXPECT_EQ(AttributesOf(server), wanted);
  EXPECT_EQ(queue.name(), "queue");
  EXPECT_EQ(queue.start_time_unix_nano(), 1'000'150);
  EXPECT_EQ(queue.end_time_unix_nano(), 1'000'170);
  EXPECT_EQ(compute.name(), "compute");
  EXPECT_EQ(compute.start_time_unix_nano(), 1'000'170);
  EXPECT_EQ(compute.end_time_unix_nano(), 1'000'470);
  EXPECT_NE(queue.span_id(), compute.span_id());
  for (const otlp::Span& part : {queue, compute}) {
    EXPECT_EQ(part.kind(), otlp::Span::SPAN_KIND_INTERNAL);
    EXPECT_EQ(part.parent_span_id(), server.span_id());
    EXPECT_EQ(part.span_id().size(), 8);
    EXPECT_EQ(part.flags(), 0x101);
  }
  for (const otlp::Span& span : out.spans()) {
    EXPECT_EQ(span.trace_id(), "\x0a\xf7\x65\x19\x16\xcd\x43\xdd\x84\x48\xeb\x21\x1c\x80\x31\x9c");
    EXPECT_EQ(span.trace_state(), "a=1");
  }
}

TEST(AddSpans, AWaitIsThereForWhatRanAtOnceTooAndARunOnlyForWhatRan) {
  RequestTrace trace = HttpTrace();
  trace.queue_ns = 0;
  otlp::ScopeSpans out;
  AddSpans(trace, &out);
  ASSERT_EQ(out.spans_size(), 3);
  EXPECT_EQ(out.spans(1).start_time_unix_nano(), out.spans(1).end_time_unix_nano());
  trace.queue_ns = 20;
  trace.infer_ns = 0;
  out.Clear();
  AddSpans(trace, &out);
  ASSERT_EQ(out.spans_size(), 2);
  EXPECT_EQ(out.spans(1).name(), "queue");
}

TEST(AddSpans, TellsTheServersFailuresFromItsClients) {
  struct Case {
    RequestTrace::Door door;
    int code;
    std::string fault;  // "" = none of the server's
  };
  const auto http = RequestTrace::Door::kHttp, grpc = RequestTrace::Door::kGrpc;
  const std::vector<Case> cases = {
      {http, 404, ""},
      {http, 500, "500"},
      {http, 503, "503"},
      {http, 0, "cancelled"},
      {grpc, 3, ""},
      {grpc, 1, ""},
      {grpc, 8, ""},
      {grpc, 2, "UNKNOWN"},
      {grpc, 4, "DEADLINE_EXCEEDED"},
      {grpc, 12, "UNIMPLEMENTED"},
      {grpc, 13, "INTERNAL"},
      {grpc, 14, "UNAVAILABLE"},
  };
  for (const Case& one : cases) {
    RequestTrace trace = HttpTrace();
    trace.door = one.door;
    trace.code = one.code;
    trace.error.Set("what went wrong");
    trace.queue_ns = trace.infer_ns = 0;
    otlp::ScopeSpans out;
    AddSpans(trace, &out);
    ASSERT_EQ(out.spans_size(), 1);
    const bool failed = !one.fault.empty();
    EXPECT_EQ(out.spans(0).status().code(), failed ? otlp::Status::STATUS_CODE_ERROR : otlp::Status::STATUS_CODE_UNSET);
    EXPECT_EQ(out.spans(0).status().message(), failed ? "what went wrong" : "");
    std::map<std::string, std::string> attributes = AttributesOf(out.spans(0));
    EXPECT_EQ(attributes["error.type"], one.fault);
    EXPECT_EQ(attributes["tandem.error"], failed ? "" : "what went wrong");
    EXPECT_EQ(attributes.contains("http.response.status_code"), one.door == http && one.code != 0);
  }
}

TEST(AddSpans, NamesAnRpcByItsServiceAndMethodAndARootHasNoParent) {
  RequestTrace trace = HttpTrace();
  trace.door = RequestTrace::Door::kGrpc;
  trace.code = 0;
  trace.route.Set("inference.GRPCInferenceService/ModelInfer");
  trace.context.parent_id = {};
  trace.cached = true;
  otlp::ScopeSpans out;
  AddSpans(trace, &out);
  EXPECT_EQ(out.spans(0).name(), "inference.GRPCInferenceService/ModelInfer");
  EXPECT_EQ(out.spans(0).parent_span_id(), "");
  EXPECT_EQ(out.spans(0).flags(), 0x101);
  const std::map<std::string, std::string> wanted = {
      {"rpc.system", "grpc"},       {"rpc.service", "inference.GRPCInferenceService"},
      {"rpc.method", "ModelInfer"}, {"rpc.grpc.status_code", "0"},
      {"tandem.model.name", "m"},   {"tandem.model.version", "3"},
      {"tandem.request.id", "id"},  {"tandem.cached", "bool 1"}};
  EXPECT_EQ(AttributesOf(out.spans(0)), wanted);
}

TEST(AddSpans, SendsNoBytesThatAreNotUtf8) {
  RequestTrace trace = HttpTrace();
  trace.request_id.Set("a\xff\xfez");
  trace.path.Set("/\xc3\xa9");
  otlp::ScopeSpans out;
  AddSpans(trace, &out);
  std::map<std::string, std::string> attributes = AttributesOf(out.spans(0));
  EXPECT_EQ(attributes["tandem.request.id"], "a??z");
  EXPECT_EQ(attributes["url.path"], "/\xc3\xa9");
}

class ExporterTest : public ::testing::Test {
 protected:
  ExporterTest() {
    settings_.delay_s = 0.001;
    settings_.first_wait_s = 0.001;
    settings_.longest_wait_s = 0.002;
    settings_.service_name = "here";
  }
  void Start(const std::string& endpoint) {
    settings_.endpoint = endpoint;
    auto exporter = TraceExporter::Create(settings_, &metrics_);
    ASSERT_TRUE(exporter.ok()) << exporter.status();
    exporter_ = *std::move(exporter);
  }
  void Push(int count = 1) {
    for (int i = 0; i < count; ++i) exporter_->tracer()->Begin(kContext, "")->code = 200;
  }
  double Value(const std::string& name, const std::string& reason = "") {
    for (const MetricFamily& family : metrics_.Read()) {
      for (const MetricSample& sample : family.samples) {
        if (family.name == name && (reason.empty() || sample.labels[0].second == reason)) return sample.value;
      }
    }
    return -1;
  }
  double Dropped(const std::string& reason) { return Value("tandem_traced_requests_dropped_total", reason); }
  double Exported() { return Value("tandem_traced_requests_exported_total"); }
  template <typename Condition>
  void WaitUntil(Condition condition) {
    while (!condition()) std::this_thread::yield();
  }
  static otlp::ExportTraceServiceRequest Read(const client::FakeRequest& request) {
    otlp::ExportTraceServiceRequest read;
    EXPECT_TRUE(read.ParseFromString(request.body));
    return read;
  }
  // Spans of all requests that the server has seen.
  static int SpansOf(client::FakeServer* server) {
    int count = 0;
    for (const client::FakeRequest& request : server->requests()) {
      count += Read(request).resource_spans(0).scope_spans(0).spans_size();
    }
    return count;
  }

  Metrics metrics_;
  TraceExporterSettings settings_;
  std::unique_ptr<TraceExporter> exporter_;
};

TEST_F(ExporterTest, PostsSpansWithWhoSendsThem) {
  client::FakeServer server([](const auto&) { return client::FakeReply(); });
  Start(server.url() + "/otlp/");
  Push();
  WaitUntil([&] { return Exported() == 1; });
  const client::FakeRequest request = server.requests()[0];
  EXPECT_EQ(request.line, "POST /otlp/v1/traces HTTP/1.1");
  EXPECT_THAT(request.head, HasSubstr("Content-Type: application/x-protobuf\r\n"));
  otlp::ExportTraceServiceRequest read = Read(request);
  EXPECT_EQ(read.resource_spans(0).resource().attributes(0).key(), "service.name");
  EXPECT_EQ(read.resource_spans(0).resource().attributes(0).value().string_value(), "here");
  EXPECT_EQ(read.resource_spans(0).resource().attributes(2).value().int_value(), getpid());
  EXPECT_EQ(read.resource_spans(0).scope_spans(0).spans_size(), 1);
}

TEST_F(ExporterTest, SendsNoMoreThanABatchAtATime) {
  client::FakeServer server([](const auto&) { return client::FakeReply(); });
  settings_.delay_s = 60;
  Start(server.url());
  Push(1000);
  exporter_->Stop(60);
  EXPECT_EQ(Exported(), 1000);
  EXPECT_EQ(SpansOf(&server), 1000);
  EXPECT_GE(server.requests().size(), 6);
}

TEST_F(ExporterTest, TriesAgainWhileTheCollectorIsBusyAndWhenItAsksForTime) {
  std::atomic<int> left = 2 * 3;  // the fake asks twice for each request
  client::FakeServer server([&](const auto&) {
    const int now = left--;
    if (now <= 0) return client::FakeReply();
    return client::FakeReply{.code = now % 4 < 2 ? 503 : 429, .headers = "Retry-After: 0.01\r\n"};
  });
  Start(server.url());
  Push();
  WaitUntil([&] { return Exported() == 1; });
  EXPECT_EQ(server.requests().size(), 4);
  EXPECT_EQ(server.requests()[0].body, server.requests()[3].body);
  EXPECT_EQ(Dropped("undelivered"), 0);
}

TEST_F(ExporterTest, DropsABatchThatIsRefusedAndGoesOn) {
  std::atomic<bool> refuse = true;
  client::FakeServer server([&](const auto&) { return client::FakeReply{.code = refuse ? 400 : 200, .body = ""}; });
  Start(server.url());
  Push();
  WaitUntil([&] { return Dropped("refused") == 1; });
  EXPECT_EQ(server.requests().size(), 1) << "it is not tried again";
  refuse = false;
  Push();
  WaitUntil([&] { return Exported() == 1; });
}

TEST_F(ExporterTest, CountsSpansThatTheCollectorRejects) {
  otlp::ExportTraceServiceResponse answer;
  answer.mutable_partial_success()->set_rejected_spans(2);
  answer.mutable_partial_success()->set_error_message("too old");
  client::FakeServer server([&](const auto&) { return client::FakeReply{.body = answer.SerializeAsString()}; });
  Start(server.url());
  Push();
  WaitUntil([&] { return Exported() == 1; });
  EXPECT_EQ(Value("tandem_trace_spans_rejected_total"), 2);
}

TEST_F(ExporterTest, GivesUpOnABatchWhenNobodyAnswersAndCountsIt) {
  settings_.give_up_s = 0.02;
  std::string url;
  {
    client::FakeServer gone([](const auto&) { return client::FakeReply(); });
    url = gone.url();
  }
  Start(url);
  Push(3);
  WaitUntil([&] { return Dropped("undelivered") == 3; });
  EXPECT_EQ(Exported(), 0);
}

TEST_F(ExporterTest, AFullQueueDropsAndCountsWhileTheCollectorHangs) {
  client::FakeServer server([](const auto&) { return client::FakeReply{.hang = true}; });
  Start(server.url());
  Push();
  WaitUntil([&] { return !server.requests().empty(); });
  for (size_t i = 0; i <= Tracer::kRing; ++i) exporter_->tracer()->Begin(kContext, "");
  EXPECT_EQ(Dropped("queue_full"), 1);
  exporter_->Stop(0);  // and it ends although nobody answers
  EXPECT_EQ(Dropped("undelivered"), Tracer::kRing + 1);
}

TEST_F(ExporterTest, SendsWhatIsLeftWhenItStops) {
  client::FakeServer server([](const auto&) { return client::FakeReply(); });
  settings_.delay_s = 600;
  Start(server.url());
  Push(2);
  exporter_->Stop(60);
  EXPECT_EQ(Exported(), 2);
}

TEST_F(ExporterTest, RefusesAnEndpointThatItCannotReach) {
  settings_.endpoint = "https://collector:4318";
  EXPECT_THAT(std::string(MessageOf(TraceExporter::Create(settings_, &metrics_).status())), HasSubstr("TLS"));
}

}  // namespace
}  // namespace tandem::daemon
