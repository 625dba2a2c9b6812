// /api/v1/datasets.
#include "api/http/handlers.h"
#include "api/http/uri.h"
#include "api/http/wire_json.h"
#include "base/status.h"

namespace tandem::api::http {

absl::StatusOr<Reply> AddDataset(const Services& services, const Request& request) {
  wire::AddDatasetRequest add;
  TANDEM_RETURN_IF_ERROR(FromJson(request.body, &add));
  if (!request.caller.local) {
    return PermissionDenied("data set '", add.dataset().name(), "' names a path of the server's machine, which only ",
                            "callers on that machine may do; upload the files instead");
  }
  TANDEM_ASSIGN_OR_RETURN(wire::Dataset dataset, services.datasets->Add(request.caller, add));
  return MessageReply(dataset);
}

absl::StatusOr<Reply> UploadDataset(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(std::string json, QueryText(request.query, "request"));
  if (json.empty()) return InvalidArgument("query parameter 'request' (an AddDatasetRequest in JSON) is missing");
  wire::AddDatasetRequest add;
  TANDEM_RETURN_IF_ERROR(FromJson(json, &add));
  TANDEM_ASSIGN_OR_RETURN(wire::Dataset dataset, services.datasets->Upload(request.caller, add, request.upload_path));
  return MessageReply(dataset);
}

absl::StatusOr<Reply> ListDatasets(const Services& services, const Request&) {
  return MessageReply(services.datasets->List());
}

absl::StatusOr<Reply> ShowDataset(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(wire::Dataset dataset, services.datasets->Show(request.Param("name")));
  return MessageReply(dataset);
}

absl::StatusOr<Reply> DeleteDataset(const Services& services, const Request& request) {
  TANDEM_RETURN_IF_ERROR(services.datasets->Delete(request.caller, request.Param("name")));
  return JsonReply("{}");
}

}  // namespace tandem::api::http
