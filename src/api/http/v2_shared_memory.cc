// Open Inference Protocol v2: the extensions system_shared_memory, and as much of cuda_shared_memory as clients ask of
// every server.
#include <limits>

#include "api/http/handlers.h"
#include "api/http/json_parameters.h"
#include "api/http/json_writer.h"
#include "api/v2/shared_memory.h"
#include "base/status.h"

namespace tandem::api::http {
namespace {

// The body of a register request.
absl::Status SetRegionField(std::string_view key, const v2::ParameterValue& value, v2::SharedMemory::Region* region) {
  constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();
  if (key == "key") {
    TANDEM_ASSIGN_OR_RETURN(region->key, v2::TextOf(key, value));
  } else if (key == "offset") {
    TANDEM_ASSIGN_OR_RETURN(region->offset, v2::CountOf(key, value, kMost));
  } else if (key == "byte_size") {
    TANDEM_ASSIGN_OR_RETURN(region->byte_size, v2::CountOf(key, value, kMost));
  } else {
    return InvalidArgument("field '", key, "' is unknown; there are: key, offset and byte_size");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Reply> SharedMemoryStatus(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(auto regions, services.regions->Status(request.Param("region")));
  Reply reply;
  JsonWriter json(&reply.body);
  json.BeginArray();
  for (const v2::SharedMemory::Region& region : regions) {
    json.BeginObject().Key("name").String(region.name).Key("key").String(region.key);
    json.Key("offset").Number(region.offset).Key("byte_size").Number(region.byte_size).EndObject();
  }
  json.EndArray();
  return reply;
}

absl::StatusOr<Reply> RegisterSharedMemory(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(std::optional<uid_t> user, v2::SharedMemory::UserOf(request.caller));
  v2::SharedMemory::Region region;
  region.name = request.Param("region");
  TANDEM_RETURN_IF_ERROR(
      ForEachInBody(request.body, [&](auto key, const auto& value) { return SetRegionField(key, value, &region); }));
  TANDEM_RETURN_IF_ERROR(services.regions->Register(region, user));
  return Reply();
}

absl::StatusOr<Reply> UnregisterSharedMemory(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(std::optional<uid_t> user, v2::SharedMemory::UserOf(request.caller));
  TANDEM_RETURN_IF_ERROR(services.regions->Unregister(request.Param("region"), user));
  return Reply();
}

absl::StatusOr<Reply> CudaSharedMemoryStatus(const Services&, const Request& request) {
  if (request.Param("region").empty()) return JsonReply("[]");
  return NotFound("region '", request.Param("region"), "' is not registered: there are no CUDA regions here");
}

absl::StatusOr<Reply> RegisterCudaSharedMemory(const Services&, const Request&) {
  return Unimplemented("this build has no CUDA shared memory; use system shared memory");
}

// Clients unregister everything before they begin, on servers without a GPU too.
absl::StatusOr<Reply> UnregisterCudaSharedMemory(const Services&, const Request&) { return Reply(); }

}  // namespace tandem::api::http
