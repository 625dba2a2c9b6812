#include "tandem/exit_code.h"

#include "client/transport.h"

namespace tandem::cli {

Exit ExitOf(const absl::Status& status) {
  if (status.ok()) return Exit::kOk;
  if (client::IsUnreachable(status)) return Exit::kUnreachable;
  if (status.GetPayload("tandem/usage").has_value()) return Exit::kUsage;
  switch (status.code()) {
    case absl::StatusCode::kNotFound:
      return Exit::kNotFound;
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kUnavailable:
      return Exit::kRefused;
    default:
      return Exit::kFailed;
  }
}

}  // namespace tandem::cli
