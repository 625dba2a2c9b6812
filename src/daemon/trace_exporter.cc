#include "daemon/trace_exporter.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "base/clock.h"
#include "base/status.h"
#include "base/version.h"
#include "daemon/trace_spans.h"
#include "telemetry/log.h"

namespace tandem::daemon {
namespace {

constexpr size_t kSpansOfRequest = 3, kSpansOfBatch = 512;
constexpr int64_t kLogEveryNs = 60'000'000'000;

int64_t Now() { return Clock::Real()->MonotonicNanos(); }
int64_t Nanos(double seconds) { return static_cast<int64_t>(seconds * 1e9); }

// Up to a fifth more or less, so that many servers do not come back to a collector at the same moment.
double Jitter(double seconds) { return seconds * (0.8 + 0.4 * static_cast<double>(RandomBits() >> 11) * 0x1p-53); }

// The seconds of a Retry-After header; 0 = there is none, or it is a date.
double RetryAfter(const client::HttpResponse& response) {
  for (const auto& [name, value] : response.headers) {
    double seconds = 0;
    if (absl::EqualsIgnoreCase(name, "retry-after") && absl::SimpleAtod(value, &seconds)) {
      return std::clamp(seconds, 0.0, 3600.0);
    }
  }
  return 0;
}

Counter* DroppedCounter(Metrics* metrics, const char* reason) {
  return metrics->AddCounter("tandem_traced_requests_dropped_total",
                             "Requests whose spans were dropped: queue_full, undelivered (no collector answered in "
                             "time) or refused (by the collector).",
                             {{"reason", reason}});
}

void DescribeSender(const std::string& service_name, otlp::ResourceSpans* resource) {
  auto* attributes = resource->mutable_resource()->mutable_attributes();
  AddAttribute("service.name", service_name, attributes);
  AddAttribute("service.version", kVersion, attributes);
  AddAttribute("process.pid", int64_t{getpid()}, attributes);
  otlp::InstrumentationScope* scope = resource->add_scope_spans()->mutable_scope();
  scope->set_name("tandem");
  scope->set_version(kVersion);
}

}  // namespace

TraceExporter::TraceExporter(TraceExporterSettings settings, Metrics* metrics)
    : settings_(std::move(settings)),
      exported_(metrics->AddCounter("tandem_traced_requests_exported_total", "Requests whose spans a collector took.")),
      undelivered_(DroppedCounter(metrics, "undelivered")),
      refused_(DroppedCounter(metrics, "refused")),
      rejected_(metrics->AddCounter("tandem_trace_spans_rejected_total",
                                    "Spans that a collector rejected out of batches that it took.")),
      tracer_(settings_.ratio, DroppedCounter(metrics, "queue_full")) {}

absl::StatusOr<std::unique_ptr<TraceExporter>> TraceExporter::Create(TraceExporterSettings settings, Metrics* metrics) {
  std::unique_ptr<TraceExporter> exporter(new TraceExporter(std::move(settings), metrics));
  DescribeSender(exporter->settings_.service_name, exporter->batch_.add_resource_spans());
  TANDEM_RETURN_IF_ERROR(Annotate(exporter->Connect(), "telemetry.otlp_endpoint"));
  exporter->thread_ = std::thread([self = exporter.get()] {
    pthread_setname_np(pthread_self(), "trace-export");
    self->Run();
  });
  return exporter;
}

TraceExporter::~TraceExporter() { Stop(0); }

absl::Status TraceExporter::Connect() {
  // Scheme and host, then the path that the signal's own is appended to.
  const std::string& endpoint = settings_.endpoint;
  const size_t host = endpoint.find("://");
  const size_t path = endpoint.find('/', host == endpoint.npos ? 0 : host + 3);
  std::string base = path == endpoint.npos ? "" : endpoint.substr(path);
  while (base.ends_with('/')) base.pop_back();
  target_ = StrCat(base, "/v1/traces");
  TANDEM_ASSIGN_OR_RETURN(transport_, client::Transport::Create({.url = endpoint.substr(0, path),
                                                                 .interrupted = [this] { return OutOfTime(); }}));
  return absl::OkStatus();
}

void TraceExporter::Stop(double flush_s) {
  {
    std::lock_guard lock(mutex_);
    if (!std::exchange(stopping_, true)) end_ns_ = Now() + Nanos(flush_s);
  }
  stop_.notify_all();
  tracer_.Wake();
  if (thread_.joinable()) thread_.join();
}

bool TraceExporter::Stopping() {
  std::lock_guard lock(mutex_);
  return stopping_;
}

bool TraceExporter::OutOfTime() {
  std::lock_guard lock(mutex_);
  return stopping_ && Now() >= end_ns_;
}

void TraceExporter::Sleep(double seconds) {
  std::unique_lock lock(mutex_);
  stop_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return stopping_; });
}

void TraceExporter::Run() {
  bool last = false;
  while (!last) {
    tracer_.Wait(settings_.delay_s);
    last = Stopping();  // what came before it is sent, too
    ExportAll();
  }
}

void TraceExporter::ExportAll() {
  otlp::ScopeSpans* spans = batch_.mutable_resource_spans(0)->mutable_scope_spans(0);
  while (true) {
    spans->clear_spans();
    const size_t requests =
        tracer_.Drain(kSpansOfBatch / kSpansOfRequest, [spans](const RequestTrace& trace) { AddSpans(trace, spans); });
    if (requests == 0) return;
    Deliver(batch_.SerializeAsString(), requests);
  }
}

void TraceExporter::Deliver(std::string body, size_t requests) {
  const int64_t give_up_ns = Now() + Nanos(settings_.give_up_s);
  double wait_s = settings_.first_wait_s;
  std::string reason = "the server stops";
  while (!OutOfTime()) {
    const bool last = Stopping();
    double asked_s = 0;
    const Outcome outcome = Post(body, &asked_s, &reason);
    if (outcome == Outcome::kDelivered) return exported_->Add(requests);
    if (outcome == Outcome::kRefused) {
      refused_->Add(requests);
      return LogFailure("the collector refuses spans", reason);
    }
    LogFailure("spans cannot be delivered", reason);
    const double pause_s = std::max(asked_s, Jitter(wait_s));
    if (last || Now() + Nanos(pause_s) >= give_up_ns) break;
    Sleep(pause_s);
    wait_s = std::min(2 * wait_s, settings_.longest_wait_s);
  }
  undelivered_->Add(requests);
}

TraceExporter::Outcome TraceExporter::Post(std::string body, double* wait_s, std::string* reason) {
  client::HttpRequest request{.method = "POST",
                              .target = target_,
                              .content_type = "application/x-protobuf",
                              .body = std::move(body),
                              .timeout_s = settings_.call_timeout_s};
  absl::StatusOr<client::HttpResponse> response = CatchToStatus("export", [&] { return transport_->Call(request); });
  if (!response.ok()) {
    // The client's own words are for people who look for a tandem server.
    *reason = absl::IsDeadlineExceeded(response.status()) ? "no answer in time" : "nobody answers there";
    return Outcome::kTryAgain;
  }
  *reason = StrCat("HTTP ", response->code);
  if (response->code / 100 == 2) {
    ReadPartialSuccess(response->body);
    return Outcome::kDelivered;
  }
  // The codes that the protocol calls retryable.
  for (int code : {429, 502, 503, 504}) {
    if (response->code != code) continue;
    *wait_s = RetryAfter(*response);
    return Outcome::kTryAgain;
  }
  return Outcome::kRefused;
}

void TraceExporter::ReadPartialSuccess(const std::string& body) {
  otlp::ExportTraceServiceResponse answer;
  if (!answer.ParseFromString(body) || answer.partial_success().rejected_spans() <= 0) return;
  rejected_->Add(answer.partial_success().rejected_spans());
  LogFailure("the collector rejects some spans", answer.partial_success().error_message());
}

void TraceExporter::LogFailure(std::string_view what, std::string_view reason) {
  const int64_t now = Now();
  if (now < next_log_ns_) return;
  next_log_ns_ = now + kLogEveryNs;
  Log(LogLevel::kWarning, what, {{"endpoint", settings_.endpoint}, {"reason", reason}});
}

}  // namespace tandem::daemon
