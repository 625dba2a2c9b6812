#include "base/status.h"

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"

namespace tandem {
namespace {

constexpr const char* kRetryAfter = "tandem/retry-after";

struct CodePair {
  absl::StatusCode code;
  int http;
};

// First match wins in both directions.
constexpr CodePair kCodes[] = {
    {absl::StatusCode::kOk, 200},
    {absl::StatusCode::kInvalidArgument, 400},
    {absl::StatusCode::kUnauthenticated, 401},
    {absl::StatusCode::kPermissionDenied, 403},
    {absl::StatusCode::kNotFound, 404},
    {absl::StatusCode::kFailedPrecondition, 409},
    {absl::StatusCode::kAlreadyExists, 409},
    {absl::StatusCode::kAborted, 409},
    {absl::StatusCode::kOutOfRange, 400},
    {absl::StatusCode::kCancelled, 400},
    {absl::StatusCode::kUnimplemented, 501},
    {absl::StatusCode::kUnavailable, 503},
    {absl::StatusCode::kResourceExhausted, 507},
    {absl::StatusCode::kDeadlineExceeded, 504},
    {absl::StatusCode::kInternal, 500},
};

}  // namespace

int HttpCode(absl::StatusCode code) {
  for (const CodePair& pair : kCodes) {
    if (pair.code == code) return pair.http;
  }
  return 500;
}

absl::StatusCode CodeFromHttp(int http) {
  for (const CodePair& pair : kCodes) {
    if (pair.http == http) return pair.code;
  }
  if (http == 413 || http == 405 || http == 431) return absl::StatusCode::kInvalidArgument;
  return http >= 200 && http < 300 ? absl::StatusCode::kOk : absl::StatusCode::kInternal;
}

absl::Status Annotate(const absl::Status& status, std::string_view context) {
  if (status.ok()) return status;
  return WithRetryAfter(absl::Status(status.code(), StrCat(context, ": ", MessageOf(status))), RetryAfterOf(status));
}

absl::Status WithRetryAfter(absl::Status status, double seconds) {
  if (seconds > 0) status.SetPayload(kRetryAfter, absl::Cord(StrCat(seconds)));
  return status;
}

double RetryAfterOf(const absl::Status& status) {
  auto hint = status.GetPayload(kRetryAfter);
  double seconds = 0;
  return hint && absl::SimpleAtod(std::string(*hint), &seconds) ? seconds : 0;
}

}  // namespace tandem
