#pragma once
// The one error type of the code base, its two macros, and its one mapping to HTTP.
//
// A message names what was wrong, where (file, line, field) and what to do. No exception crosses a module: libraries
// that throw are called through CatchToStatus.
#include <exception>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/strings.h"

#define TANDEM_CONCAT_INNER(a, b) a##b
#define TANDEM_CONCAT(a, b) TANDEM_CONCAT_INNER(a, b)

// Returns from the enclosing function if `expr` is not OK.
#define TANDEM_RETURN_IF_ERROR(expr)                 \
  do {                                               \
    absl::Status tandem_status_ = (expr);            \
    if (!tandem_status_.ok()) return tandem_status_; \
  } while (false)

// Evaluates `expr` (a StatusOr), returns its error, or assigns its value to `lhs` (which may be a declaration).
#define TANDEM_ASSIGN_OR_RETURN(lhs, expr) \
  TANDEM_ASSIGN_OR_RETURN_INNER(TANDEM_CONCAT(tandem_statusor_, __LINE__), lhs, expr)
#define TANDEM_ASSIGN_OR_RETURN_INNER(var, lhs, expr)                                             \
  auto var = (expr);                             /* NOLINT(bugprone-macro-parentheses): a name */ \
  if (!var.ok()) return std::move(var).status(); /* NOLINT(bugprone-macro-parentheses): a name */ \
  lhs = std::move(var).value()                   /* NOLINT(bugprone-macro-parentheses): a declaration takes none */

namespace tandem {

// InvalidArgument("batch is ", n, ", must be 1 or more") and so on: a status from pieces of text.
#define TANDEM_DEFINE_ERROR(name)              \
  template <typename... Args>                  \
  absl::Status name(const Args&... args) {     \
    return absl::name##Error(StrCat(args...)); \
  }
TANDEM_DEFINE_ERROR(InvalidArgument)
TANDEM_DEFINE_ERROR(NotFound)
TANDEM_DEFINE_ERROR(FailedPrecondition)
TANDEM_DEFINE_ERROR(AlreadyExists)
TANDEM_DEFINE_ERROR(PermissionDenied)
TANDEM_DEFINE_ERROR(Unauthenticated)
TANDEM_DEFINE_ERROR(ResourceExhausted)
TANDEM_DEFINE_ERROR(Unavailable)
TANDEM_DEFINE_ERROR(DeadlineExceeded)
TANDEM_DEFINE_ERROR(Unimplemented)
TANDEM_DEFINE_ERROR(OutOfRange)
TANDEM_DEFINE_ERROR(Aborted)
TANDEM_DEFINE_ERROR(Cancelled)
TANDEM_DEFINE_ERROR(Internal)
#undef TANDEM_DEFINE_ERROR

// The HTTP code of a status code: 400 for a client's mistake, 404, 403, 401, 409, 413, 501, 503, 504, else 500.
int HttpCode(absl::StatusCode code);

// The status code of an HTTP code: the inverse of HttpCode as far as it has one.
absl::StatusCode CodeFromHttp(int http);

// A hint for the client that is to try again, kept beside the message: seconds, > 0. OK stays OK.
absl::Status WithRetryAfter(absl::Status status, double seconds);
double RetryAfterOf(const absl::Status& status);  // 0 = there is no hint

// "<context>: <message>" with the code and the hint kept; OK stays OK.
absl::Status Annotate(const absl::Status& status, std::string_view context);

// Runs `body` and turns what it throws into an Internal (std::exception) status that begins with `context`.
// `body` returns absl::Status or StatusOr<T>.
template <typename Body>
auto CatchToStatus(std::string_view context, Body&& body) -> decltype(body()) {
  try {
    return std::forward<Body>(body)();
  } catch (const std::exception& e) {
    return Internal(context, ": ", e.what());
  } catch (...) {
    return Internal(context, ": unknown exception");
  }
}

}  // namespace tandem
