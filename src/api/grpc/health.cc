// grpc.health.v1: the server as a whole and the inference service are healthy while the server is ready.
#include <grpc/support/time.h>
#include <grpcpp/alarm.h>

#include <algorithm>
#include <optional>

#include "api/grpc/method.h"
#include "api/grpc/stream_call.h"
#include "base/status.h"
#include "health.pb.h"

namespace tandem::api::rpc {
namespace {

using ::grpc::health::v1::HealthCheckRequest;
using ::grpc::health::v1::HealthCheckResponse;
using Status = HealthCheckResponse::ServingStatus;

// How often a watched state is looked at. Readiness has no events, and watchers are few.
constexpr int kLookMillis = 500;

bool IsKnown(const std::vector<std::string>& services, const std::string& name) {
  return name.empty() || std::find(services.begin(), services.end(), name) != services.end();
}

Status StatusOf(const Services& services) {
  return services.inference->Ready() ? HealthCheckResponse::SERVING : HealthCheckResponse::NOT_SERVING;
}

const std::vector<std::string>& WatchedServices() {
  static const std::vector<std::string> services = {"inference.GRPCInferenceService"};
  return services;
}

absl::Status Check(const Context& context, const HealthCheckRequest& request, HealthCheckResponse* response) {
  if (!IsKnown(WatchedServices(), request.service())) {
    return NotFound("there is no service '", request.service(), "' with a health; ask for '' or '",
                    WatchedServices()[0], "'");
  }
  response->set_status(StatusOf(context.services));
  return absl::OkStatus();
}

// Sends the state, and again when it changed.
class Watch : public StreamCall {
 public:
  using StreamCall::StreamCall;

 private:
  struct Report : public Item {
    const ::grpc::ByteBuffer& bytes() const override { return buffer; }
    void Sent() override { sending = false; }
    ::grpc::ByteBuffer buffer;
    bool sending = false;
  };

  void Opened() override {
    asked_ = false;
    reported_.reset();
  }

  void Received(::grpc::ByteBuffer* message) override {
    if (asked_) return;
    asked_ = true;
    Hold();
    HealthCheckRequest request;
    absl::Status parsed = ParseMessage(message, &request);
    if (!parsed.ok()) return Drop(parsed);
    known_ = IsKnown(WatchedServices(), request.service());
    Look();
    SetAlarm();
  }

  void Look() {
    Status status = known_ ? StatusOf(group()->door()->services) : HealthCheckResponse::SERVICE_UNKNOWN;
    if (status == reported_ || report_.sending) return;
    reported_ = status;
    HealthCheckResponse response;
    response.set_status(status);
    WriteMessage(response, &report_.buffer);
    report_.sending = true;
    SendNow(&report_);
  }

  void SetAlarm() {
    waits_ = true;
    gpr_timespec time = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(kLookMillis, GPR_TIMESPAN));
    alarm_.Set(group()->queue(), time, &look_event_);
  }

  void OnLook(bool ok) {
    waits_ = false;
    if (!ok || over_) return Drop();
    Look();
    SetAlarm();
  }

  void Abandoned() override {
    over_ = true;
    if (waits_) alarm_.Cancel();
  }

  void Closed() override { over_ = false; }

  bool asked_ = false, known_ = false, waits_ = false, over_ = false;
  std::optional<Status> reported_;
  Report report_;
  EventTo<Watch, &Watch::OnLook> look_event_{this};
  ::grpc::Alarm alarm_;
};

}  // namespace

std::vector<Method> HealthMethods() {
  Method watch{.path = "/grpc.health.v1.Health/Watch", .need = http::Need::kNothing};
  watch.stream = [](IoGroup* group, size_t method) { return std::make_unique<Watch>(group, method); };
  return {Unary<HealthCheckRequest, HealthCheckResponse>("/grpc.health.v1.Health/Check", http::Need::kNothing, Check,
                                                         http::Plane::kAtOnce),
          std::move(watch)};
}

}  // namespace tandem::api::rpc
