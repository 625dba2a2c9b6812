#include "api/http/json_parameters.h"

#include "api/http/json_tensor.h"
#include "api/http/wire_json.h"

namespace tandem::api::http {

namespace dom = simdjson::dom;

absl::StatusOr<v2::ParameterValue> ReadParameter(std::string_view key, dom::element value) {
  switch (value.type()) {
    case dom::element_type::BOOL:
      return v2::ParameterValue(bool(value));
    case dom::element_type::INT64:
      return v2::ParameterValue(int64_t(value));
    case dom::element_type::UINT64:
      return v2::ParameterValue(uint64_t(value));
    case dom::element_type::DOUBLE:
      return v2::ParameterValue(double(value));
    case dom::element_type::STRING:
      return v2::ParameterValue(std::string_view(value));
    default:
      return InvalidArgument("parameter '", key, "' is ", TypeName(value), ", must be a text, a number, true or false");
  }
}

absl::Status ForEachInBody(std::string_view body, const SetParameter& set) {
  return WithBody(body, [&](dom::object object) { return ForEachParameter(object, set); });
}

absl::Status ForEachParameterInBody(std::string_view body, const SetParameter& set) {
  return WithBody(body, [&](dom::object object) -> absl::Status {
    dom::element field;
    if (object["parameters"].get(field) != simdjson::SUCCESS || field.is_null()) return absl::OkStatus();
    dom::object parameters;
    TANDEM_RETURN_IF_ERROR(Get(field, "'parameters'", "an object", &parameters));
    return ForEachParameter(parameters, set);
  });
}

}  // namespace tandem::api::http
