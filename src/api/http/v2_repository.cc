// Open Inference Protocol v2: the extension model_repository.
#include "api/http/handlers.h"
#include "api/http/json_parameters.h"
#include "api/http/json_writer.h"
#include "api/http/wire_json.h"
#include "api/v2/model_load.h"
#include "base/status.h"

namespace tandem::api::http {

absl::StatusOr<Reply> RepositoryIndex(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(bool ready_only, BoolField(request.body, "ready", false));
  Reply reply;
  JsonWriter json(&reply.body);
  json.BeginArray();
  for (const RepositoryEntry& entry : services.inference->Repository(ready_only)) {
    json.BeginObject().Key("name").String(entry.model).Key("version").String(entry.version);
    json.Key("state").String(entry.state).Key("reason").String(entry.reason).EndObject();
  }
  json.EndArray();
  return reply;
}

absl::StatusOr<Reply> RepositoryLoad(const Services& services, const Request& request) {
  v2::LoadParameters parameters;
  TANDEM_RETURN_IF_ERROR(ForEachParameterInBody(
      request.body, [&](auto key, const auto& value) { return v2::SetLoadParameter(key, value, true, &parameters); }));
  TANDEM_RETURN_IF_ERROR(v2::LoadModel(services.models, request.caller, request.Param("model"), parameters));
  return Reply();
}

absl::StatusOr<Reply> RepositoryUnload(const Services& services, const Request& request) {
  TANDEM_RETURN_IF_ERROR(ForEachParameterInBody(request.body, v2::CheckUnloadParameter));
  TANDEM_RETURN_IF_ERROR(services.models->SetEnabled(request.caller, request.Param("model"), false));
  return Reply();
}

}  // namespace tandem::api::http
