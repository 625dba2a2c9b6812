#pragma once
// Wire messages as JSON with the field names of proto/api.proto. All fields are written, also those that are 0 or "",
// so that scripts find every key.
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "google/protobuf/message.h"

namespace tandem::client {

// On one line.
std::string ToJson(const google::protobuf::Message& message);
// Unknown fields are ignored: a newer server may send more.
absl::Status FromJson(std::string_view json, google::protobuf::Message* message);

}  // namespace tandem::client
