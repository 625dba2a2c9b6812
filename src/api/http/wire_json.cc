#include "api/http/wire_json.h"

#include "base/status.h"
#include "google/protobuf/util/json_util.h"

namespace tandem::api::http {
namespace {

namespace dom = simdjson::dom;
constexpr size_t kMostDepth = 32;

// Calls `use` with the field's value; does nothing when the body is empty or has no such field.
absl::Status WithField(std::string_view json, std::string_view field,
                       const std::function<absl::Status(dom::element)>& use) {
  return WithBody(json, [&](dom::object object) {
    dom::element value;
    if (object[field].get(value) != simdjson::SUCCESS) return absl::OkStatus();
    return use(value);
  });
}

}  // namespace

absl::Status WithBody(std::string_view json, const std::function<absl::Status(dom::object)>& use) {
  if (json.empty()) return absl::OkStatus();
  dom::parser parser;
  dom::object object;
  simdjson::error_code error = parser.allocate(json.size(), kMostDepth);
  if (!error) error = parser.parse(json.data(), json.size()).get(object);
  if (error) return InvalidArgument("body is not a JSON object: ", simdjson::error_message(error));
  return use(object);
}

absl::StatusOr<std::string> ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string json;
  auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  if (!status.ok()) return Internal("write ", message.GetTypeName(), " as JSON: ", status.ToString());
  return json;
}

absl::StatusOr<Reply> MessageReply(const google::protobuf::Message& message) {
  TANDEM_ASSIGN_OR_RETURN(std::string json, ToJson(message));
  return JsonReply(std::move(json));
}

absl::Status FromJson(std::string_view json, google::protobuf::Message* message) {
  if (json.empty()) return absl::OkStatus();
  auto status = google::protobuf::util::JsonStringToMessage({json.data(), json.size()}, message);
  if (status.ok()) return absl::OkStatus();
  return InvalidArgument("body is not a ", message->GetDescriptor()->name(),
                         " in JSON: ", std::string_view(status.message().data(), status.message().size()));
}

absl::StatusOr<bool> BoolField(std::string_view json, std::string_view field, bool missing) {
  bool result = missing;
  TANDEM_RETURN_IF_ERROR(WithField(json, field, [&](dom::element value) {
    if (value.get(result) == simdjson::SUCCESS) return absl::OkStatus();
    return InvalidArgument("field '", field, "' must be true or false");
  }));
  return result;
}

absl::StatusOr<std::string> TextField(std::string_view json, std::string_view field) {
  std::string result;
  TANDEM_RETURN_IF_ERROR(WithField(json, field, [&](dom::element value) {
    std::string_view text;
    if (value.get(text) != simdjson::SUCCESS) return InvalidArgument("field '", field, "' must be a text");
    result = text;
    return absl::OkStatus();
  }));
  return result;
}

}  // namespace tandem::api::http
