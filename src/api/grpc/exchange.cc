#include "api/grpc/exchange.h"

#include <grpc/support/time.h>

#include <algorithm>

#include "base/clock.h"
#include "base/status.h"

namespace tandem::api::rpc {
namespace {

constexpr int64_t kLongestTimeoutUs = int64_t{3600} * 1'000'000;
// A client may say 99,999,999 hours: more nanoseconds than a number holds. What is so far away is no deadline.
constexpr int64_t kNeverSeconds = int64_t{100} * 365 * 86'400;

std::string_view Find(const std::multimap<::grpc::string_ref, ::grpc::string_ref>& metadata, const char* key) {
  auto found = metadata.find(key);
  if (found == metadata.end()) return {};
  return {found->second.data(), found->second.size()};
}

// "" also for what was sent several times.
std::string_view FindOnly(const std::multimap<::grpc::string_ref, ::grpc::string_ref>& metadata, const char* key) {
  return metadata.count(key) == 1 ? Find(metadata, key) : std::string_view();
}

int64_t DeadlineOf(const ::grpc::ServerContext& context) {
  gpr_timespec deadline = context.raw_deadline();
  if (gpr_time_cmp(deadline, gpr_inf_future(deadline.clock_type)) == 0) return 0;
  deadline = gpr_convert_clock_type(deadline, GPR_CLOCK_MONOTONIC);
  if (deadline.tv_sec > kNeverSeconds) return 0;
  // 0 would mean none.
  return std::max<int64_t>(1, deadline.tv_sec * 1'000'000'000 + deadline.tv_nsec);
}

// The earlier of the two, 0 = none.
int64_t Earlier(int64_t a, int64_t b) {
  if (a == 0 || b == 0) return a + b;
  return std::min(a, b);
}

}  // namespace

Arrival Arrival::Of(const ::grpc::ServerContext& context, std::string_view path, const Services& services) {
  Arrival arrival;
  arrival.received_ns = Clock::Real()->MonotonicNanos();
  arrival.deadline_ns = DeadlineOf(context);
  arrival.route_key = Find(context.client_metadata(), "x-route-key");
  if (arrival.route_key.empty()) arrival.route_key = Find(context.client_metadata(), "x-request-id");
  arrival.path = path;
  if (services.tracer != nullptr) {
    arrival.traceparent = FindOnly(context.client_metadata(), "traceparent");
    arrival.tracestate = FindOnly(context.client_metadata(), "tracestate");
  }
  return arrival;
}

void Exchange::Run(const Arrival& arrival, ::grpc::ByteBuffer* message) {
  arrival_ = arrival;
  status_ = CatchToStatus("infer", [&] { return Prepare(arrival, message); });
  if (status_.ok()) {
    session_->Start(&call_.request);
    return;
  }
  Done(status_, {}, Clock::Real()->MonotonicNanos());
  sink_->Answered(this);
}

void Exchange::Refuse(const Arrival& arrival, const absl::Status& status) {
  Release();
  arrival_ = arrival;
  status_ = status;
  Done(status_, {}, arrival.received_ns);
  sink_->Answered(this);
}

absl::Status Exchange::Prepare(const Arrival& arrival, ::grpc::ByteBuffer* message) {
  Release();
  InferRequest& request = call_.request;
  request.cancelled.store(false);
  decoded_ns_ = 0;
  const absl::Status parsed = codec_->Parse(message, &call_);
  message->Clear();  // as long as its pieces live, gRPC counts them against all messages
  TANDEM_RETURN_IF_ERROR(parsed);
  model_ = codec_->model();
  TANDEM_ASSIGN_OR_RETURN(session_, services_.inference->Open(codec_->model(), codec_->version()));
  TANDEM_RETURN_IF_ERROR(codec_->Decode(*session_, *services_.regions, &call_));
  TANDEM_RETURN_IF_ERROR(v2::PrepareOutputs(*session_, *services_.regions, &call_));
  request.owner = this;
  request.route_key = arrival.route_key.empty() ? request.id : arrival.route_key;
  int64_t timeout_us = std::min(call_.timeout_us, kLongestTimeoutUs);
  request.deadline_ns = Earlier(arrival.deadline_ns, timeout_us == 0 ? 0 : arrival.received_ns + timeout_us * 1000);
  decoded_ns_ = Clock::Real()->MonotonicNanos();
  return absl::OkStatus();
}

void Exchange::Finished(InferRequest* request) {
  int64_t ran_ns = Clock::Real()->MonotonicNanos();
  status_ = std::move(request->status);
  if (status_.ok()) {
    status_ = CatchToStatus("infer", [&]() -> absl::Status {
      TANDEM_RETURN_IF_ERROR(v2::FinishOutputs(*session_, &call_));
      return codec_->Encode(*session_, &call_, &answer_);
    });
  }
  Done(status_, request->timing, ran_ns);
  sink_->Answered(this);
}

void Exchange::Done(const absl::Status& status, InferTiming timing, int64_t ran_ns) {
  int64_t now = Clock::Real()->MonotonicNanos();
  if (services_.tracer != nullptr) Trace(status, timing, now);
  if (session_ == nullptr) return;
  timing.received_ns = arrival_.received_ns;
  int64_t decoded_ns = decoded_ns_ == 0 ? ran_ns : decoded_ns_;
  session_->Done(status.ok(), timing, decoded_ns - arrival_.received_ns, now - ran_ns);
}

void Exchange::Trace(const absl::Status& status, const InferTiming& timing, int64_t end_ns) {
  Tracer::Record trace = services_.tracer->Begin(arrival_.traceparent, arrival_.tracestate);
  if (!trace) return;
  trace->door = RequestTrace::Door::kGrpc;
  trace->code = static_cast<int>(status.code());
  trace->route.Set(arrival_.path.substr(1));
  trace->error.Set(MessageOf(status));
  trace->model.Set(model_);
  trace->begin_ns = arrival_.received_ns;
  trace->end_ns = end_ns;
  v2::Describe(session_.get(), call_.request, timing, decoded_ns_, trace.operator->());
}

void Exchange::Release() {
  session_.reset();
  model_ = {};
  answer_.Clear();
  codec_->Release();
  call_.Clear();
}

}  // namespace tandem::api::rpc
