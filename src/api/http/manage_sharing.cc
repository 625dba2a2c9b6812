// /api/v1/policy and /api/v1/usage: how the machine is shared, and who used what.
#include <initializer_list>

#include "api/http/handlers.h"
#include "api/http/uri.h"
#include "api/http/wire_json.h"
#include "base/status.h"

namespace tandem::api::http {
namespace {

constexpr double kLoadSeconds = 60;  // when the query does not say

// A query parameter that is one of a few words; `missing` when it is not there.
absl::StatusOr<std::string> QueryWord(std::string_view query, std::string_view key, std::string_view missing,
                                      std::initializer_list<std::string_view> words) {
  TANDEM_ASSIGN_OR_RETURN(std::string text, QueryText(query, key));
  if (text.empty()) return std::string(missing);
  std::string known;
  for (std::string_view word : words) {
    if (text == word) return text;
    StrAppend(&known, known.empty() ? "" : ", ", word);
  }
  return InvalidArgument("query parameter '", key, "' is '", text, "', must be one of: ", known);
}

absl::StatusOr<int64_t> QueryTime(std::string_view query, std::string_view key) {
  TANDEM_ASSIGN_OR_RETURN(int64_t ms, QueryInt(query, key, 0));
  if (ms < 0) return InvalidArgument("query parameter '", key, "' is ", ms, ", must be milliseconds since 1970");
  return ms;
}

}  // namespace

absl::StatusOr<Reply> ShowPolicy(const Services& services, const Request&) {
  return MessageReply(services.sharing->Show());
}

absl::StatusOr<Reply> PolicyHistory(const Services& services, const Request&) {
  return MessageReply(services.sharing->History());
}

absl::StatusOr<Reply> SetPolicy(const Services& services, const Request& request) {
  wire::SetPolicyRequest set;
  TANDEM_RETURN_IF_ERROR(FromJson(request.body, &set));
  if (set.text().empty() && set.overrides().empty()) {
    return InvalidArgument("there is nothing to set: give 'text' (the whole policy as YAML) or 'overrides' (",
                           R"(["training.cpu=30%"]))");
  }
  TANDEM_ASSIGN_OR_RETURN(wire::PolicyState state, services.sharing->Set(request.caller, set));
  return MessageReply(state);
}

absl::StatusOr<Reply> RevertPolicy(const Services& services, const Request& request) {
  wire::RevertPolicyRequest revert;
  TANDEM_RETURN_IF_ERROR(FromJson(request.body, &revert));
  if (revert.revision() < 0) {
    return InvalidArgument("field 'revision' is ", revert.revision(), "; tandem policy history shows them");
  }
  TANDEM_ASSIGN_OR_RETURN(wire::PolicyState state, services.sharing->Revert(request.caller, revert));
  return MessageReply(state);
}

absl::StatusOr<Reply> UndoPolicy(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(wire::PolicyState state, services.sharing->Undo(request.caller));
  return MessageReply(state);
}

absl::StatusOr<Reply> RecordedLoad(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(double seconds, QuerySeconds(request.query, "seconds", kLoadSeconds));
  Reply reply;
  reply.content_type = "text/csv";
  TANDEM_ASSIGN_OR_RETURN(reply.body, services.sharing->RecordedLoad(seconds));
  return reply;
}

absl::StatusOr<Reply> GetUsage(const Services& services, const Request& request) {
  TANDEM_ASSIGN_OR_RETURN(int64_t from_ms, QueryTime(request.query, "from_ms"));
  TANDEM_ASSIGN_OR_RETURN(int64_t to_ms, QueryTime(request.query, "to_ms"));
  if (to_ms > 0 && to_ms <= from_ms) {
    return InvalidArgument("query parameter 'to_ms' is ", to_ms, ", must be greater than 'from_ms' (", from_ms, ")");
  }
  TANDEM_ASSIGN_OR_RETURN(std::string by, QueryWord(request.query, "by", "name", {"name", "side", "day"}));
  TANDEM_ASSIGN_OR_RETURN(std::string side, QueryWord(request.query, "side", "", {"serving", "training"}));
  TANDEM_ASSIGN_OR_RETURN(std::string kind, QueryWord(request.query, "kind", "", {"job", "model", "server"}));
  TANDEM_ASSIGN_OR_RETURN(wire::UsageReport report, services.sharing->Usage(from_ms, to_ms, by, side, kind));
  return MessageReply(report);
}

}  // namespace tandem::api::http
