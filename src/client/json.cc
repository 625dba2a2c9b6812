#include "client/json.h"

#include "base/status.h"
#include "google/protobuf/util/json_util.h"

namespace tandem::client {

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string json;
  // Fails only for text that is not UTF-8, which proto3 refuses to hold.
  if (!google::protobuf::util::MessageToJsonString(message, &json, options).ok()) return "{}";
  return json;
}

absl::Status FromJson(std::string_view json, google::protobuf::Message* message) {
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  auto status = google::protobuf::util::JsonStringToMessage({json.data(), json.size()}, message, options);
  if (status.ok()) return absl::OkStatus();
  return Internal("the server's answer is not the JSON of a ", message->GetTypeName(), ": ",
                  std::string_view(status.message().data(), status.message().size()));
}

}  // namespace tandem::client
