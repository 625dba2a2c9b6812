// /api/v1/models.
#include <limits>

#include "api/http/handlers.h"
#include "api/http/uri.h"
#include "api/http/wire_json.h"
#include "base/status.h"

namespace tandem::api::http {
namespace {

absl::StatusOr<int32_t> VersionOf(const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(int64_t version, QueryInt(request.query, "version", 0));
  if (version < 0 || version > std::numeric_limits<int32_t>::max()) {
    return InvalidArgument("query parameter 'version' is ", version, ", must be a version number");
  }
  return static_cast<int32_t>(version);
}

// Reads a body that may name the model again; the path is what counts, and both must agree.
template <typename Message>
absl::Status ReadForModel(const Request& request, Message* message) {
  TANDEM_RETURN_IF_ERROR(FromJson(request.body, message));
  std::string name(request.Param("name"));
  if (!message->model().empty() && message->model() != name) {
    return InvalidArgument("field 'model' is '", message->model(), "', but the path names '", name, "'");
  }
  message->set_model(name);
  return absl::OkStatus();
}

absl::StatusOr<Reply> Decide(const Services& services, const Request& request, bool approved) {
  wire::ApproveRequest word;
  TANDEM_RETURN_IF_ERROR(ReadForModel(request, &word));
  TANDEM_ASSIGN_OR_RETURN(wire::ModelVersion version, services.models->Approve(request.caller, word, approved));
  return MessageReply(version);
}

}  // namespace

absl::StatusOr<Reply> ListModels(const Services& services, const Request&) {
  return MessageReply(services.models->List());
}

absl::StatusOr<Reply> ShowModel(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(wire::Model model, services.models->Show(request.Param("name")));
  return MessageReply(model);
}

absl::StatusOr<Reply> ImportModel(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(std::string source, QueryText(request.query, "source"));
  TANDEM_ASSIGN_OR_RETURN(std::string precision, QueryText(request.query, "precision"));
  if (precision.empty()) precision = "f32";
  TANDEM_ASSIGN_OR_RETURN(wire::ModelVersion version, services.models->Import(request.caller, request.Param("name"),
                                                                              source, precision, request.upload_path));
  return MessageReply(version);
}

absl::StatusOr<Reply> DeployModel(const Services& services, const Request& request) {
  wire::DeployRequest deploy;
  TANDEM_RETURN_IF_ERROR(ReadForModel(request, &deploy));
  TANDEM_ASSIGN_OR_RETURN(wire::ModelVersion version, services.models->Deploy(request.caller, deploy));
  return MessageReply(version);
}

absl::StatusOr<Reply> RollBackModel(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(wire::ModelVersion version, services.models->RollBack(request.caller, request.Param("name")));
  return MessageReply(version);
}

absl::StatusOr<Reply> PromoteModel(const Services& services, const Request& request) {
  wire::PromoteRequest promote;
  TANDEM_RETURN_IF_ERROR(ReadForModel(request, &promote));
  TANDEM_ASSIGN_OR_RETURN(wire::ModelVersion version, services.models->Promote(request.caller, promote));
  return MessageReply(version);
}

absl::StatusOr<Reply> MeasureModel(const Services& services, const Request& request) {
  wire::MeasureRequest measure;
  TANDEM_RETURN_IF_ERROR(ReadForModel(request, &measure));
  TANDEM_ASSIGN_OR_RETURN(wire::ModelVersion version, services.models->Measure(request.caller, measure));
  return MessageReply(version);
}

absl::StatusOr<Reply> SetModelCanary(const Services& services, const Request& request) {
  wire::SplitRequest set;
  TANDEM_RETURN_IF_ERROR(ReadForModel(request, &set));
  TANDEM_ASSIGN_OR_RETURN(wire::TrafficSplit split, services.models->SetCanary(request.caller, set));
  return MessageReply(split);
}

absl::StatusOr<Reply> SetModelShadow(const Services& services, const Request& request) {
  wire::SplitRequest set;
  TANDEM_RETURN_IF_ERROR(ReadForModel(request, &set));
  TANDEM_ASSIGN_OR_RETURN(wire::TrafficSplit split, services.models->SetShadow(request.caller, set));
  return MessageReply(split);
}

absl::StatusOr<Reply> ApproveModel(const Services& services, const Request& request) {
  return Decide(services, request, true);
}

absl::StatusOr<Reply> RejectModel(const Services& services, const Request& request) {
  return Decide(services, request, false);
}

absl::StatusOr<Reply> GetModelConfig(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(wire::ServingConfig config, services.models->Config(request.Param("name")));
  return MessageReply(config);
}

absl::StatusOr<Reply> PutModelConfig(const Services& services, const Request& request) {
  wire::ConfigureRequest configure;
  TANDEM_RETURN_IF_ERROR(ReadForModel(request, &configure));
  TANDEM_ASSIGN_OR_RETURN(wire::ServingConfig config, services.models->Configure(request.caller, configure));
  return MessageReply(config);
}

absl::StatusOr<Reply> SetModelAlias(const Services& services, const Request& request) {
  wire::SetAliasRequest set;
  TANDEM_RETURN_IF_ERROR(ReadForModel(request, &set));
  TANDEM_RETURN_IF_ERROR(services.models->SetAlias(request.caller, set));
  return JsonReply("{}");
}

absl::StatusOr<Reply> ModelFile(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(std::string alias, QueryText(request.query, "alias"));
  TANDEM_ASSIGN_OR_RETURN(int32_t version, VersionOf(request));
  Reply reply;
  reply.content_type = "application/octet-stream";
  TANDEM_ASSIGN_OR_RETURN(reply.file, services.models->FileOf(request.Param("name"), alias, version));
  return reply;
}

absl::StatusOr<Reply> DeleteModel(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(int32_t version, VersionOf(request));
  TANDEM_RETURN_IF_ERROR(services.models->Delete(request.caller, request.Param("name"), version));
  return JsonReply("{}");
}

}  // namespace tandem::api::http
