#include "daemon/trace_spans.h"

#include <algorithm>
#include <string>

#include "absl/status/status.h"
#include "base/strings.h"
#include "base/text.h"

namespace tandem::daemon {
namespace {

using Attributes = google::protobuf::RepeatedPtrField<otlp::KeyValue>;

constexpr uint32_t kKnowsRemote = 0x100, kRemoteParent = 0x200;

template <size_t N>
std::string BytesOf(const std::array<uint8_t, N>& id) {
  return std::string(id.begin(), id.end());
}

otlp::AnyValue* Add(std::string_view key, Attributes* to) {
  otlp::KeyValue* attribute = to->Add();
  attribute->set_key(std::string(key));
  return attribute->mutable_value();
}

// Of the codes that mean a failure of the server, as the conventions for gRPC list them.
bool IsServerFault(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDataLoss:
      return true;
    default:
      return false;
  }
}

// What went wrong, for the server; "" = nothing did.
std::string DescribeHttp(const RequestTrace& trace, otlp::Span* span) {
  Attributes* to = span->mutable_attributes();
  span->set_name(StrCat(trace.verb.view(), " ", trace.route.view()));
  AddAttribute("http.request.method", trace.verb.view(), to);
  AddAttribute("http.route", trace.route.view(), to);
  AddAttribute("url.path", trace.path.view(), to);
  AddAttribute("url.scheme", "http", to);
  if (trace.code == 0) return "cancelled";
  AddAttribute("http.response.status_code", trace.code, to);
  return trace.code >= 500 ? StrCat(trace.code) : "";
}

std::string DescribeGrpc(const RequestTrace& trace, otlp::Span* span) {
  Attributes* to = span->mutable_attributes();
  const std::string_view route = trace.route.view();
  const size_t slash = std::min(route.rfind('/'), route.size());
  span->set_name(std::string(route));
  AddAttribute("rpc.system", "grpc", to);
  AddAttribute("rpc.service", route.substr(0, slash), to);
  AddAttribute("rpc.method", route.substr(std::min(slash + 1, route.size())), to);
  AddAttribute("rpc.grpc.status_code", trace.code, to);
  const auto code = static_cast<absl::StatusCode>(trace.code);
  return IsServerFault(code) ? absl::StatusCodeToString(code) : "";
}

otlp::Span* AddSpan(const RequestTrace& trace, int64_t begin_ns, int64_t end_ns, otlp::ScopeSpans* out) {
  otlp::Span* span = out->add_spans();
  span->set_trace_id(BytesOf(trace.context.trace_id));
  span->set_trace_state(std::string(trace.state.view()));
  span->set_start_time_unix_nano(begin_ns + trace.unix_offset_ns);
  span->set_end_time_unix_nano(std::max(begin_ns, end_ns) + trace.unix_offset_ns);
  span->set_flags(trace.context.flags | kKnowsRemote);
  return span;
}

void AddPart(std::string name, const RequestTrace& trace, int64_t begin_ns, int64_t duration_ns,
             otlp::ScopeSpans* out) {
  otlp::Span* span = AddSpan(trace, begin_ns, begin_ns + duration_ns, out);
  span->set_name(std::move(name));
  span->set_kind(otlp::Span::SPAN_KIND_INTERNAL);
  span->set_span_id(BytesOf(NewSpanId()));
  span->set_parent_span_id(BytesOf(trace.span_id));
}

}  // namespace

// Collectors refuse a whole batch for one text that is no UTF-8.
void AddAttribute(std::string_view key, std::string_view value, Attributes* to) {
  Add(key, to)->set_string_value(AsUtf8(std::string(value)));
}

void AddAttribute(std::string_view key, int64_t value, Attributes* to) { Add(key, to)->set_int_value(value); }

void AddSpans(const RequestTrace& trace, otlp::ScopeSpans* out) {
  otlp::Span* span = AddSpan(trace, trace.begin_ns, trace.end_ns, out);
  span->set_kind(otlp::Span::SPAN_KIND_SERVER);
  span->set_span_id(BytesOf(trace.span_id));
  if (trace.context.parent_id != SpanId{}) {
    span->set_parent_span_id(BytesOf(trace.context.parent_id));
    span->set_flags(span->flags() | kRemoteParent);
  }
  const bool http = trace.door == RequestTrace::Door::kHttp;
  const std::string fault = http ? DescribeHttp(trace, span) : DescribeGrpc(trace, span);
  Attributes* to = span->mutable_attributes();
  if (!fault.empty()) {
    AddAttribute("error.type", fault, to);
    span->mutable_status()->set_code(otlp::Status::STATUS_CODE_ERROR);
    span->mutable_status()->set_message(AsUtf8(std::string(trace.error.view())));
  } else if (!trace.error.view().empty()) {
    AddAttribute("tandem.error", trace.error.view(), to);
  }
  if (!trace.model.view().empty()) AddAttribute("tandem.model.name", trace.model.view(), to);
  if (!trace.version.view().empty()) AddAttribute("tandem.model.version", trace.version.view(), to);
  if (!trace.request_id.view().empty()) AddAttribute("tandem.request.id", trace.request_id.view(), to);
  Add("tandem.cached", to)->set_bool_value(trace.cached);

  // What ran at once waited no time.
  const bool ran = trace.infer_ns > 0;
  if (ran || trace.queue_ns > 0) AddPart("queue", trace, trace.queued_ns, trace.queue_ns, out);
  if (ran) AddPart("compute", trace, trace.queued_ns + trace.queue_ns, trace.infer_ns, out);
}

}  // namespace tandem::daemon
