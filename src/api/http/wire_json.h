#pragma once
// JSON bodies of the control routes: wire messages in protobuf's JSON mapping, and single fields of small objects.
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "api/http/request.h"
#include "google/protobuf/message.h"
#include "simdjson.h"

namespace tandem::api::http {

// Field names as in the .proto, every field written.
absl::StatusOr<std::string> ToJson(const google::protobuf::Message& message);
absl::StatusOr<Reply> MessageReply(const google::protobuf::Message& message);
// Unknown fields and wrong types are InvalidArgument. An empty body is an empty message.
absl::Status FromJson(std::string_view json, google::protobuf::Message* message);

// One optional field of a body that is a JSON object or empty.
absl::StatusOr<bool> BoolField(std::string_view json, std::string_view field, bool missing);
absl::StatusOr<std::string> TextField(std::string_view json, std::string_view field);
// Calls `use` with the body, which must be a JSON object; does nothing when it is empty.
absl::Status WithBody(std::string_view json, const std::function<absl::Status(simdjson::dom::object)>& use);

}  // namespace tandem::api::http
