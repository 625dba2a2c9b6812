// Open Inference Protocol v2: the extension model_configuration, as the JSON of Triton's message ModelConfig.
#include <algorithm>

#include "absl/strings/str_split.h"
#include "api/http/handlers.h"
#include "api/http/json_writer.h"
#include "base/status.h"

namespace tandem::api::http {
namespace {

int64_t Micros(double millis) { return static_cast<int64_t>(millis * 1000); }

// The configuration's own names: TYPE_STRING for BYTES, else TYPE_ and the protocol's name.
std::string ConfigType(DType dtype) {
  return dtype == DType::kString ? "TYPE_STRING" : StrCat("TYPE_", ProtocolName(dtype));
}

// With batching the first dimension is the batch, which dims leave out.
void WriteTensors(std::string_view key, const std::vector<TensorSignature>& tensors, bool batching, JsonWriter* json) {
  json->Key(key).BeginArray();
  for (const TensorSignature& tensor : tensors) {
    json->BeginObject().Key("name").String(tensor.name).Key("data_type").String(ConfigType(tensor.dtype));
    const size_t first = batching && !tensor.shape.empty() ? 1 : 0;
    json->Key("dims").Numbers(tensor.shape.data() + first, static_cast<int64_t>(tensor.shape.size() - first));
    json->EndObject();
  }
  json->EndArray();
}

void WriteVersionPolicy(std::string_view versions, JsonWriter* json) {
  constexpr std::string_view kLatest = "latest:";
  json->Key("version_policy").BeginObject();
  if (versions == "all") {
    json->Key("all").BeginObject().EndObject();
  } else if (versions.empty() || versions.starts_with(kLatest)) {
    json->Key("latest").BeginObject().Key("num_versions");
    json->Raw(versions.empty() ? "1" : versions.substr(kLatest.size())).EndObject();
  } else {
    json->Key("specific").BeginObject().Key("versions").Raw(StrCat("[", versions, "]")).EndObject();
  }
  json->EndObject();
}

void WriteBatching(const spec::ModelConfig& config, JsonWriter* json) {
  const std::vector<int>& preferred = config.preferred_batch_sizes;
  json->Key("preferred_batch_size").Numbers(preferred.data(), static_cast<int64_t>(preferred.size()));
  json->Key("max_queue_delay_microseconds").Number(Micros(config.max_queue_delay_ms));
}

void WriteDynamicBatching(const spec::ModelConfig& config, JsonWriter* json) {
  json->Key("dynamic_batching").BeginObject();
  WriteBatching(config, json);
  json->Key("priority_levels").Number(config.priority_levels);
  json->Key("default_priority_level").Number(config.default_priority);
  json->Key("default_queue_policy").BeginObject().Key("timeout_action").String("REJECT");
  json->Key("default_timeout_microseconds").Number(Micros(config.timeout_ms));
  json->Key("allow_timeout_override").Bool(true).Key("max_queue_size").Number(config.queue_limit);
  json->EndObject().EndObject();
}

std::string_view ControlKind(std::string_view kind) {
  if (kind == "start") return "CONTROL_SEQUENCE_START";
  if (kind == "end") return "CONTROL_SEQUENCE_END";
  return kind == "ready" ? "CONTROL_SEQUENCE_READY" : "CONTROL_SEQUENCE_CORRID";
}

void WriteSequenceBatching(const spec::ModelConfig& config, JsonWriter* json) {
  const spec::SequenceConfig& sequence = config.sequence;
  json->Key("sequence_batching").BeginObject();
  json->Key("max_sequence_idle_microseconds").Number(Micros(sequence.max_idle_s * 1000));
  json->Key("control_input").BeginArray();
  for (const spec::SequenceConfig::Control& control : sequence.controls) {
    json->BeginObject().Key("name").String(control.input).Key("control").BeginArray();
    json->BeginObject().Key("kind").String(ControlKind(control.kind)).EndObject().EndArray().EndObject();
  }
  json->EndArray().Key("state").BeginArray();
  for (const spec::SequenceConfig::State& state : sequence.states) {
    json->BeginObject().Key("input_name").String(state.input).Key("output_name").String(state.output).EndObject();
  }
  json->EndArray();
  if (sequence.strategy == "oldest") {
    json->Key("oldest").BeginObject().Key("max_candidate_sequences").Number(sequence.max_candidates);
    WriteBatching(config, json);
  } else {
    json->Key("direct").BeginObject();
    json->Key("max_queue_delay_microseconds").Number(Micros(config.max_queue_delay_ms));
  }
  json->EndObject().EndObject();
}

}  // namespace

absl::StatusOr<Reply> ModelConfig(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(auto session, services.inference->Open(request.Param("model"), request.Param("version")));
  const spec::ModelConfig& config = session->config();
  const std::string_view platform = session->platform();
  const bool batching = config.max_batch_size > 0;
  Reply reply;
  JsonWriter json(&reply.body);
  json.BeginObject().Key("name").String(session->model()).Key("platform").String(platform);
  json.Key("backend").String(platform.substr(platform.find('_') + 1));
  json.Key("max_batch_size").Number(config.max_batch_size);
  WriteVersionPolicy(config.versions, &json);
  WriteTensors("input", session->inputs(), batching, &json);
  WriteTensors("output", session->outputs(), batching, &json);
  if (!config.sequence.strategy.empty()) {
    WriteSequenceBatching(config, &json);
  } else if (batching) {
    WriteDynamicBatching(config, &json);
  }
  json.Key("instance_group").BeginArray().BeginObject().Key("name").String(session->model());
  json.Key("kind").String("KIND_CPU").Key("count").Number(std::max(config.instances, 1)).EndObject().EndArray();
  json.Key("default_model_filename").String(platform.starts_with("onnx") ? "model.onnx" : "");
  json.Key("response_cache").BeginObject().Key("enable").Bool(config.response_cache).EndObject();
  json.Key("model_transaction_policy").BeginObject().Key("decoupled").Bool(false).EndObject();
  json.EndObject();
  return reply;
}

}  // namespace tandem::api::http
