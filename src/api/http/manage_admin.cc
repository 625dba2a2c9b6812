// /api/v1: the server itself.
#include "api/http/handlers.h"
#include "api/http/wire_json.h"
#include "base/status.h"

namespace tandem::api::http {

absl::StatusOr<Reply> GetStatus(const Services& services, const Request&) {
  return MessageReply(services.admin->Status());
}

absl::StatusOr<Reply> GetDoctor(const Services& services, const Request&) {
  return MessageReply(services.admin->Doctor());
}

absl::StatusOr<Reply> PostStop(const Services& services, const Request& request) {
  services.admin->Stop(request.caller);
  return JsonReply("{}");
}

absl::StatusOr<Reply> PostGc(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(bool dry_run, BoolField(request.body, "dry_run", false));
  TANDEM_ASSIGN_OR_RETURN(wire::GcReport report, services.admin->CollectGarbage(request.caller, dry_run));
  return MessageReply(report);
}

absl::StatusOr<Reply> PutLogLevel(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(std::string level, TextField(request.body, "level"));
  if (level.empty()) return InvalidArgument("field 'level' is missing: debug, info, warning or error");
  TANDEM_RETURN_IF_ERROR(services.admin->SetLogLevel(request.caller, level));
  return JsonReply("{}");
}

}  // namespace tandem::api::http
