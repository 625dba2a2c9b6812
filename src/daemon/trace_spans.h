#pragma once
// A request's trace as spans of OpenTelemetry: the request itself, its wait for an instance, its run.
#include "otlp.pb.h"
#include "telemetry/trace.h"

namespace tandem::daemon {

// Appends one to three spans. Names and attributes follow OpenTelemetry's semantic conventions, 1.37, for HTTP and gRPC
// servers; what they have no name for begins with "tandem.". Any bytes may be in the texts of `trace`.
void AddSpans(const RequestTrace& trace, otlp::ScopeSpans* out);

void AddAttribute(std::string_view key, std::string_view value, google::protobuf::RepeatedPtrField<otlp::KeyValue>* to);
void AddAttribute(std::string_view key, int64_t value, google::protobuf::RepeatedPtrField<otlp::KeyValue>* to);

}  // namespace tandem::daemon
