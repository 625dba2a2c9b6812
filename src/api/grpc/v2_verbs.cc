// inference.GRPCInferenceService: its table of methods, and every verb but the two that infer.
#include "api/grpc/infer_stream.h"
#include "api/grpc/method.h"
#include "api/grpc/v2_codec.h"
#include "api/grpc/v2_config.h"
#include "api/v2/extensions.h"
#include "api/v2/log_switches.h"
#include "api/v2/model_load.h"
#include "api/v2/shared_memory.h"
#include "base/status.h"
#include "base/version.h"
#include "inference.pb.h"

// A verb of the table: TANDEM_VERB(ServerLive) { ... } reads `request`, writes `response`.
#define TANDEM_VERB(name)                                                                                              \
  absl::Status name([[maybe_unused]] const Context& context, [[maybe_unused]] const inference::name##Request& request, \
                    [[maybe_unused]] inference::name##Response* response)

namespace tandem::api::rpc {
namespace {

absl::StatusOr<v2::ParameterValue> ValueOf(const std::string& key, const inference::ModelRepositoryParameter& value) {
  using Parameter = inference::ModelRepositoryParameter;
  switch (value.parameter_choice_case()) {
    case Parameter::kBoolParam:
      return v2::ParameterValue(value.bool_param());
    case Parameter::kInt64Param:
      return v2::ParameterValue(value.int64_param());
    case Parameter::kStringParam:
      return v2::ParameterValue(std::string_view(value.string_param()));
    case Parameter::kBytesParam:
      return v2::ParameterValue(std::string_view(value.bytes_param()));
    default:
      return InvalidArgument("parameter '", key, "' has no value");
  }
}

absl::StatusOr<v2::ParameterValue> ValueOf(const std::string& key,
                                           const inference::LogSettingsRequest::SettingValue& value) {
  using Value = inference::LogSettingsRequest::SettingValue;
  switch (value.parameter_choice_case()) {
    case Value::kBoolParam:
      return v2::ParameterValue(value.bool_param());
    case Value::kUint32Param:
      return v2::ParameterValue(uint64_t{value.uint32_param()});
    case Value::kStringParam:
      return v2::ParameterValue(std::string_view(value.string_param()));
    default:
      return InvalidArgument("log setting '", key, "' has no value");
  }
}

void FillTensors(const std::vector<TensorSignature>& tensors,
                 google::protobuf::RepeatedPtrField<inference::ModelMetadataResponse::TensorMetadata>* out) {
  for (const TensorSignature& tensor : tensors) {
    auto* added = out->Add();
    added->set_name(tensor.name);
    added->set_datatype(std::string(ProtocolName(tensor.dtype)));
    added->mutable_shape()->Add(tensor.shape.begin(), tensor.shape.end());
  }
}

void FillDuration(const ModelStatistics::Duration& duration, inference::StatisticDuration* out) {
  out->set_count(duration.count);
  out->set_ns(duration.ns);
}

void FillStatistics(const ModelStatistics& stats, inference::ModelStatistics* out) {
  out->set_name(stats.model);
  out->set_version(stats.version);
  out->set_last_inference(static_cast<uint64_t>(stats.last_inference_ms));
  out->set_inference_count(stats.inference_count);
  out->set_execution_count(stats.execution_count);
  inference::InferStatistics* all = out->mutable_inference_stats();
  FillDuration(stats.success, all->mutable_success());
  FillDuration(stats.fail, all->mutable_fail());
  FillDuration(stats.queue, all->mutable_queue());
  FillDuration(stats.compute_input, all->mutable_compute_input());
  FillDuration(stats.compute_infer, all->mutable_compute_infer());
  FillDuration(stats.compute_output, all->mutable_compute_output());
  FillDuration(stats.cache_hit, all->mutable_cache_hit());
  FillDuration(stats.cache_miss, all->mutable_cache_miss());
  for (const ModelStatistics::Batch& batch : stats.batches) {
    inference::InferBatchStatistics* added = out->add_batch_stats();
    added->set_batch_size(static_cast<uint64_t>(batch.rows));
    FillDuration(batch.compute_input, added->mutable_compute_input());
    FillDuration(batch.compute_infer, added->mutable_compute_infer());
    FillDuration(batch.compute_output, added->mutable_compute_output());
  }
  inference::MemoryUsage* memory = out->add_memory_usage();
  memory->set_type("CPU");
  memory->set_byte_size(static_cast<uint64_t>(stats.memory_bytes));
}

TANDEM_VERB(ServerLive) {
  response->set_live(context.services.inference->Live());
  return absl::OkStatus();
}

TANDEM_VERB(ServerReady) {
  response->set_ready(context.services.inference->Ready());
  return absl::OkStatus();
}

// Clients ask this of models that are unloaded or never were, and take an error for a broken server.
TANDEM_VERB(ModelReady) {
  absl::Status status = context.services.inference->Open(request.name(), request.version()).status();
  response->set_ready(status.ok());
  return absl::IsUnavailable(status) || absl::IsNotFound(status) ? absl::OkStatus() : status;
}

TANDEM_VERB(ServerMetadata) {
  response->set_name("tandem");
  response->set_version(std::string(kVersion));
  for (std::string_view extension : v2::kExtensions) response->add_extensions(std::string(extension));
  return absl::OkStatus();
}

TANDEM_VERB(ModelMetadata) {
  Inference* inference = context.services.inference;
  TANDEM_ASSIGN_OR_RETURN(auto session, inference->Open(request.name(), request.version()));
  response->set_name(session->model());
  for (const std::string& version : inference->ServedVersions(session->model())) response->add_versions(version);
  response->set_platform(session->platform());
  FillTensors(session->inputs(), response->mutable_inputs());
  FillTensors(session->outputs(), response->mutable_outputs());
  return absl::OkStatus();
}

TANDEM_VERB(ModelConfig) {
  TANDEM_ASSIGN_OR_RETURN(auto session, context.services.inference->Open(request.name(), request.version()));
  FillConfig(*session, response->mutable_config());
  return absl::OkStatus();
}

TANDEM_VERB(ModelStatistics) {
  TANDEM_ASSIGN_OR_RETURN(auto all, context.services.inference->Statistics(request.name(), request.version()));
  for (const api::ModelStatistics& stats : all) FillStatistics(stats, response->add_model_stats());
  return absl::OkStatus();
}

TANDEM_VERB(RepositoryIndex) {
  for (const RepositoryEntry& entry : context.services.inference->Repository(request.ready())) {
    auto* model = response->add_models();
    model->set_name(entry.model);
    model->set_version(entry.version);
    model->set_state(entry.state);
    model->set_reason(entry.reason);
  }
  return absl::OkStatus();
}

TANDEM_VERB(RepositoryModelLoad) {
  v2::LoadParameters parameters;
  for (const auto& [key, parameter] : request.parameters()) {
    TANDEM_ASSIGN_OR_RETURN(v2::ParameterValue value, ValueOf(key, parameter));
    TANDEM_RETURN_IF_ERROR(v2::SetLoadParameter(key, value, false, &parameters));
  }
  return v2::LoadModel(context.services.models, context.caller, request.model_name(), parameters);
}

TANDEM_VERB(RepositoryModelUnload) {
  for (const auto& [key, parameter] : request.parameters()) {
    TANDEM_ASSIGN_OR_RETURN(v2::ParameterValue value, ValueOf(key, parameter));
    TANDEM_RETURN_IF_ERROR(v2::CheckUnloadParameter(key, value));
  }
  return context.services.models->SetEnabled(context.caller, request.model_name(), false);
}

TANDEM_VERB(SystemSharedMemoryStatus) {
  TANDEM_ASSIGN_OR_RETURN(auto regions, context.services.regions->Status(request.name()));
  for (const v2::SharedMemory::Region& region : regions) {
    auto& added = (*response->mutable_regions())[region.name];
    added.set_name(region.name);
    added.set_key(region.key);
    added.set_offset(region.offset);
    added.set_byte_size(region.byte_size);
  }
  return absl::OkStatus();
}

TANDEM_VERB(SystemSharedMemoryRegister) {
  TANDEM_ASSIGN_OR_RETURN(std::optional<uid_t> user, v2::SharedMemory::UserOf(context.caller));
  return context.services.regions->Register(
      {.name = request.name(), .key = request.key(), .offset = request.offset(), .byte_size = request.byte_size()},
      user);
}

TANDEM_VERB(SystemSharedMemoryUnregister) {
  TANDEM_ASSIGN_OR_RETURN(std::optional<uid_t> user, v2::SharedMemory::UserOf(context.caller));
  return context.services.regions->Unregister(request.name(), user);
}

TANDEM_VERB(CudaSharedMemoryStatus) {
  if (request.name().empty()) return absl::OkStatus();
  return NotFound("region '", request.name(), "' is not registered: there are no CUDA regions here");
}

TANDEM_VERB(CudaSharedMemoryRegister) {
  return Unimplemented("this build has no CUDA shared memory; use system shared memory");
}

// Clients unregister everything before they begin, on servers without a GPU too.
TANDEM_VERB(CudaSharedMemoryUnregister) { return absl::OkStatus(); }

TANDEM_VERB(TraceSetting) {
  return Unimplemented(
      "traces are not set by clients; send a W3C traceparent, and spans go where the server's "
      "settings say");
}

TANDEM_VERB(LogSettings) {
  v2::LogSwitches switches = v2::SwitchesOf(CurrentLogLevel());
  if (!request.settings().empty()) {
    if (!context.caller.may_manage) return PermissionDenied("log settings are changed by those who may manage only");
    for (const auto& [key, setting] : request.settings()) {
      TANDEM_ASSIGN_OR_RETURN(v2::ParameterValue value, ValueOf(key, setting));
      TANDEM_RETURN_IF_ERROR(v2::SetLogSwitch(key, value, &switches));
    }
    TANDEM_ASSIGN_OR_RETURN(LogLevel level, v2::LevelOf(switches));
    TANDEM_RETURN_IF_ERROR(context.services.admin->SetLogLevel(context.caller, LogLevelName(level)));
    switches = v2::SwitchesOf(level);
  }
  auto& settings = *response->mutable_settings();
  settings["log_file"].set_string_param("");
  settings["log_info"].set_bool_param(switches.info);
  settings["log_warning"].set_bool_param(switches.warning);
  settings["log_error"].set_bool_param(switches.error);
  settings["log_verbose_level"].set_uint32_param(static_cast<uint32_t>(switches.verbose));
  settings["log_format"].set_string_param("default");
  return absl::OkStatus();
}

}  // namespace
#undef TANDEM_VERB

std::vector<Method> InferenceMethods() {
  using http::Need;
  using http::Plane;
#define TANDEM_ROW(name, ...) \
  Unary<inference::name##Request, inference::name##Response>("/inference.GRPCInferenceService/" #name, __VA_ARGS__)
  std::vector<Method> methods = {
      TANDEM_ROW(ServerLive, Need::kNothing, ServerLive, Plane::kAtOnce),
      TANDEM_ROW(ServerReady, Need::kNothing, ServerReady, Plane::kAtOnce),
      TANDEM_ROW(ModelReady, Need::kUse, ModelReady, Plane::kAtOnce),
      TANDEM_ROW(ServerMetadata, Need::kUse, ServerMetadata),
      TANDEM_ROW(ModelMetadata, Need::kUse, ModelMetadata),
      TANDEM_ROW(ModelConfig, Need::kUse, ModelConfig),
      TANDEM_ROW(ModelStatistics, Need::kUse, ModelStatistics),
      TANDEM_ROW(RepositoryIndex, Need::kUse, RepositoryIndex),
      TANDEM_ROW(RepositoryModelLoad, Need::kManage, RepositoryModelLoad, Plane::kSlow),
      TANDEM_ROW(RepositoryModelUnload, Need::kManage, RepositoryModelUnload, Plane::kSlow),
      TANDEM_ROW(SystemSharedMemoryStatus, Need::kUse, SystemSharedMemoryStatus),
      TANDEM_ROW(SystemSharedMemoryRegister, Need::kLocal, SystemSharedMemoryRegister),
      TANDEM_ROW(SystemSharedMemoryUnregister, Need::kLocal, SystemSharedMemoryUnregister),
      TANDEM_ROW(CudaSharedMemoryStatus, Need::kUse, CudaSharedMemoryStatus),
      TANDEM_ROW(CudaSharedMemoryRegister, Need::kUse, CudaSharedMemoryRegister),
      TANDEM_ROW(CudaSharedMemoryUnregister, Need::kUse, CudaSharedMemoryUnregister),
      TANDEM_ROW(TraceSetting, Need::kUse, TraceSetting),
      TANDEM_ROW(LogSettings, Need::kLocal, LogSettings),
  };
#undef TANDEM_ROW
  Method& infer = methods.emplace_back();
  infer.path = "/inference.GRPCInferenceService/ModelInfer";
  infer.codec = [] { return std::make_unique<V2Codec>(false); };
  Method& stream = methods.emplace_back();
  stream.path = "/inference.GRPCInferenceService/ModelStreamInfer";
  stream.stream = [](IoGroup* group, size_t method) { return std::make_unique<InferStream>(group, method); };
  return methods;
}

}  // namespace tandem::api::rpc
