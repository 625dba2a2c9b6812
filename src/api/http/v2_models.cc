// Open Inference Protocol v2: everything but infer.
#include "api/http/handlers.h"
#include "api/http/json_writer.h"
#include "api/http/wire_json.h"
#include "base/status.h"
#include "base/version.h"

namespace tandem::api::http {
namespace {

// What works, and nothing else: clients switch on these names.
constexpr std::string_view kExtensions[] = {"binary_tensor_data", "model_configuration", "model_repository",
                                            "statistics"};

std::string_view ConfigType(DType dtype, std::string* buffer) {
  // The configuration's own names: TYPE_STRING for BYTES, else TYPE_ and the protocol's name.
  *buffer = dtype == DType::kString ? "TYPE_STRING" : StrCat("TYPE_", ProtocolName(dtype));
  return *buffer;
}

void WriteShape(const Shape& shape, JsonWriter* json) { json->Numbers(shape.data(), shape.size()); }

void WriteMetadataTensors(std::string_view key, const std::vector<TensorSignature>& tensors, JsonWriter* json) {
  json->Key(key).BeginArray();
  for (const TensorSignature& tensor : tensors) {
    json->BeginObject().Key("name").String(tensor.name).Key("datatype").String(ProtocolName(tensor.dtype));
    json->Key("shape");
    WriteShape(tensor.shape, json);
    json->EndObject();
  }
  json->EndArray();
}

void WriteConfigTensors(std::string_view key, const std::vector<TensorSignature>& tensors, JsonWriter* json) {
  std::string type;
  json->Key(key).BeginArray();
  for (const TensorSignature& tensor : tensors) {
    json->BeginObject().Key("name").String(tensor.name).Key("data_type").String(ConfigType(tensor.dtype, &type));
    json->Key("dims");
    WriteShape(tensor.shape, json);
    json->EndObject();
  }
  json->EndArray();
}

void WriteDuration(std::string_view key, const ModelStatistics::Duration& duration, JsonWriter* json) {
  json->Key(key).BeginObject().Key("count").Number(duration.count).Key("ns").Number(duration.ns).EndObject();
}

void WriteStatistics(const ModelStatistics& stats, JsonWriter* json) {
  json->BeginObject().Key("name").String(stats.model).Key("version").String(stats.version);
  json->Key("last_inference").Number(stats.last_inference_ms);
  json->Key("inference_count").Number(stats.inference_count).Key("execution_count").Number(stats.execution_count);
  json->Key("inference_stats").BeginObject();
  WriteDuration("success", stats.success, json);
  WriteDuration("fail", stats.fail, json);
  WriteDuration("queue", stats.queue, json);
  WriteDuration("compute_input", stats.compute_input, json);
  WriteDuration("compute_infer", stats.compute_infer, json);
  WriteDuration("compute_output", stats.compute_output, json);
  // Clients need all eight members; there is no response cache, so these two stay zero.
  WriteDuration("cache_hit", {}, json);
  WriteDuration("cache_miss", {}, json);
  json->EndObject().Key("batch_stats").BeginArray().EndArray().EndObject();
}

// tandem has one repository and no overrides: a request that wants more is told so.
absl::Status CheckLoadParameters(std::string_view body) {
  TANDEM_ASSIGN_OR_RETURN(std::vector<std::string> keys, KeysOfField(body, "parameters"));
  for (const std::string& key : keys) {
    if (key != "unload_dependents") {
      return InvalidArgument("parameter '", key,
                             "' is not supported; import a version with the wanted content instead");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Reply> HealthLive(const Services& services, const Request&) {
  if (!services.inference->Live()) return ErrorReply(503, "the server is not live");
  return JsonReply(R"({"live":true})");
}

absl::StatusOr<Reply> HealthReady(const Services& services, const Request&) {
  if (services.inference->Ready()) return JsonReply(R"({"live":true,"ready":true})");
  Reply reply = JsonReply(R"({"live":true,"ready":false,"error":"models are still being loaded"})");
  reply.code = 503;
  return reply;
}

absl::StatusOr<Reply> ServerMetadata(const Services&, const Request&) {
  Reply reply;
  JsonWriter json(&reply.body);
  json.BeginObject().Key("name").String("tandem").Key("version").String(kVersion).Key("extensions").BeginArray();
  for (std::string_view extension : kExtensions) json.String(extension);
  json.EndArray().EndObject();
  return reply;
}

absl::StatusOr<Reply> ModelMetadata(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(auto session, services.inference->Open(request.Param("model"), request.Param("version")));
  Reply reply;
  JsonWriter json(&reply.body);
  json.BeginObject().Key("name").String(session->model()).Key("versions").BeginArray();
  for (const std::string& version : services.inference->ReadyVersions(session->model())) json.String(version);
  json.EndArray().Key("platform").String(session->platform());
  WriteMetadataTensors("inputs", session->inputs(), &json);
  WriteMetadataTensors("outputs", session->outputs(), &json);
  json.EndObject();
  return reply;
}

absl::StatusOr<Reply> ModelReady(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(auto session, services.inference->Open(request.Param("model"), request.Param("version")));
  Reply reply;
  JsonWriter(&reply.body).BeginObject().Key("name").String(session->model()).Key("ready").Bool(true).EndObject();
  return reply;
}

absl::StatusOr<Reply> ModelConfig(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(auto session, services.inference->Open(request.Param("model"), request.Param("version")));
  Reply reply;
  JsonWriter json(&reply.body);
  json.BeginObject().Key("name").String(session->model()).Key("platform").String(session->platform());
  // 0: shapes are given whole, the batch dimension included, and requests are not merged.
  json.Key("max_batch_size").Number(0);
  WriteConfigTensors("input", session->inputs(), &json);
  WriteConfigTensors("output", session->outputs(), &json);
  json.EndObject();
  return reply;
}

absl::StatusOr<Reply> ModelStats(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(auto all, services.inference->Statistics(request.Param("model"), request.Param("version")));
  Reply reply;
  JsonWriter json(&reply.body);
  json.BeginObject().Key("model_stats").BeginArray();
  for (const ModelStatistics& stats : all) WriteStatistics(stats, &json);
  json.EndArray().EndObject();
  return reply;
}

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
  TANDEM_RETURN_IF_ERROR(CheckLoadParameters(request.body));
  TANDEM_RETURN_IF_ERROR(services.models->SetEnabled(request.caller, request.Param("model"), true));
  return Reply();
}

absl::StatusOr<Reply> RepositoryUnload(const Services& services, const Request& request) {
  TANDEM_RETURN_IF_ERROR(CheckLoadParameters(request.body));
  TANDEM_RETURN_IF_ERROR(services.models->SetEnabled(request.caller, request.Param("model"), false));
  return Reply();
}

}  // namespace tandem::api::http
