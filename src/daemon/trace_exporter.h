#pragma once
// Sends the spans of traced requests to a collector, by OpenTelemetry's protocol over HTTP with protobuf bodies.
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "client/transport.h"
#include "otlp.pb.h"
#include "telemetry/metrics.h"
#include "telemetry/trace.h"

namespace tandem::daemon {

struct TraceExporterSettings {
  std::string endpoint;  // "http://host:4318", perhaps with a path; "/v1/traces" is appended
  std::string service_name = "tandem";
  double ratio = 0;  // of the requests without a context that begin a trace
  // A batch goes out when so much time has passed or it is full. Queue and batch are those of OpenTelemetry's batch
  // processor by default (2048; 512 spans); its 5 s are 1 s here, which costs one wake-up a second.
  double delay_s = 1;
  double call_timeout_s = 10;
  double first_wait_s = 0.5;  // after a failure; then twice as long each time, up to longest_wait_s
  double longest_wait_s = 10;
  double give_up_s = 60;  // on one batch
};

// A thread of the normal class. While it waits for a collector requests are traced until the ring is full, and then
// dropped and counted: nothing of a request ever waits for it. Thread-safe.
class TraceExporter {
 public:
  // Starts it. `metrics` outlives it. InvalidArgument for an endpoint that is no http URL.
  static absl::StatusOr<std::unique_ptr<TraceExporter>> Create(TraceExporterSettings settings, Metrics* metrics);
  ~TraceExporter();

  // For the doors; lives as long as this.
  Tracer* tracer() { return &tracer_; }
  // Sends what is left, for `flush_s` at most, and ends the thread. After the doors were stopped; once.
  void Stop(double flush_s);

 private:
  enum class Outcome { kDelivered, kRefused, kTryAgain };

  TraceExporter(TraceExporterSettings settings, Metrics* metrics);
  absl::Status Connect();
  void Run();
  void ExportAll();
  void Deliver(std::string body, size_t requests);
  Outcome Post(std::string body, double* wait_s, std::string* reason);
  void ReadPartialSuccess(const std::string& body);
  void LogFailure(std::string_view what, std::string_view reason);
  bool Stopping();
  bool OutOfTime();
  void Sleep(double seconds);

  const TraceExporterSettings settings_;
  Counter* const exported_;
  Counter* const undelivered_;
  Counter* const refused_;
  Counter* const rejected_;
  Tracer tracer_;
  // Of the thread.
  std::string target_;
  std::unique_ptr<client::Transport> transport_;
  otlp::ExportTraceServiceRequest batch_;  // its memory is used again
  int64_t next_log_ns_ = 0;

  std::mutex mutex_;
  std::condition_variable stop_;
  bool stopping_ = false;  // guarded by mutex_
  int64_t end_ns_ = 0;     // guarded by mutex_; monotonic, once stopping
  std::thread thread_;
};

}  // namespace tandem::daemon
