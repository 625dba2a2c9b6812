// Open Inference Protocol v2: health, metadata and statistics.
#include "api/http/handlers.h"
#include "api/http/json_writer.h"
#include "api/v2/extensions.h"
#include "base/status.h"
#include "base/version.h"

namespace tandem::api::http {
namespace {

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
  WriteDuration("cache_hit", stats.cache_hit, json);
  WriteDuration("cache_miss", stats.cache_miss, json);
  // Of decoupled models only, which there are none of.
  json->EndObject().Key("response_stats").BeginObject().EndObject();
  json->Key("batch_stats").BeginArray();
  for (const ModelStatistics::Batch& batch : stats.batches) {
    json->BeginObject().Key("batch_size").Number(batch.rows);
    WriteDuration("compute_input", batch.compute_input, json);
    WriteDuration("compute_infer", batch.compute_infer, json);
    WriteDuration("compute_output", batch.compute_output, json);
    json->EndObject();
  }
  json->EndArray().Key("memory_usage").BeginArray();
  json->BeginObject().Key("type").String("CPU").Key("id").Number(0);
  json->Key("byte_size").Number(stats.memory_bytes).EndObject().EndArray().EndObject();
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
  for (std::string_view extension : v2::kExtensions) json.String(extension);
  json.EndArray().EndObject();
  return reply;
}

absl::StatusOr<Reply> ModelMetadata(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(auto session, services.inference->Open(request.Param("model"), request.Param("version")));
  Reply reply;
  JsonWriter json(&reply.body);
  json.BeginObject().Key("name").String(session->model()).Key("versions").BeginArray();
  for (const std::string& version : services.inference->ServedVersions(session->model())) json.String(version);
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

absl::StatusOr<Reply> ModelStats(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(auto all, services.inference->Statistics(request.Param("model"), request.Param("version")));
  Reply reply;
  JsonWriter json(&reply.body);
  json.BeginObject().Key("model_stats").BeginArray();
  for (const ModelStatistics& stats : all) WriteStatistics(stats, &json);
  json.EndArray().EndObject();
  return reply;
}

}  // namespace tandem::api::http
