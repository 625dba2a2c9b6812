#include "daemon/sharing_service.h"

#include <set>

#include "base/status.h"
#include "base/text.h"
#include "scheduling/simulator.h"
#include "telemetry/log.h"

namespace tandem::daemon {
namespace {

wire::PolicyChange ToWire(const PolicyRevision& revision) {
  wire::PolicyChange change;
  change.set_revision(revision.revision);
  change.set_when_ms(static_cast<double>(revision.when_ms));
  change.set_who(revision.who);
  change.set_why(revision.why);
  change.set_text(revision.text);
  return change;
}

wire::GateChange ToWire(const GateChange& change) {
  wire::GateChange out;
  out.set_change(std::string(GateStepName(change.step)));
  out.set_first_ms(static_cast<double>(change.first_ms));
  out.set_last_ms(static_cast<double>(change.last_ms));
  out.set_times(change.times);
  out.set_from(change.from);
  out.set_to(change.to);
  out.set_reason(change.reason);
  return out;
}

}  // namespace

wire::PolicyState SharingService::Show() {
  GovernorView view = parts_.governor->View();
  wire::PolicyState state;
  *state.mutable_current() = ToWire(parts_.book->Current());
  state.set_window(view.grant.window);
  state.set_next_edge_ms(static_cast<double>(view.grant.next_edge_ms));
  state.set_training_open(view.grant.training_open);
  state.set_training_share(view.memory.training_share);
  state.set_training_threads(view.allowed_threads);
  state.set_training_cpus(view.grant.training_cpus);
  state.set_serving_cpus(view.grant.serving_cpus);
  state.set_automatic(view.automatic);
  for (const KeptDecision& kept : parts_.book->Decisions()) {
    if (state.decisions_size() == 20) break;
    wire::PolicyDecision* decision = state.add_decisions();
    decision->set_when_ms(static_cast<double>(kept.when_ms));
    decision->set_what(kept.decision.what);
    decision->set_from(kept.decision.from);
    decision->set_to(kept.decision.to);
    decision->set_reason(kept.decision.reason);
  }
  state.set_gate(view.rules->spec.gate);
  for (const GateChange& change : parts_.book->gate().Changes()) *state.add_gate_changes() = ToWire(change);
  // What a limit in force says again is said once.
  std::set<std::string> sentences(view.not_enforced.begin(), view.not_enforced.end());
  for (const std::string& sentence : parts_.isolation->capabilities().not_enforced) sentences.insert(sentence);
  for (const std::string& sentence : sentences) state.add_not_enforced(sentence);
  return state;
}

wire::PolicyHistory SharingService::History() {
  wire::PolicyHistory history;
  for (const PolicyRevision& revision : parts_.book->History()) *history.add_changes() = ToWire(revision);
  return history;
}

absl::Status SharingService::CheckAgainstLoaded(const spec::SharingSpec& sharing) const {
  const double share = sharing.split.serving.memory;
  if (share <= 0) return absl::OkStatus();
  const auto limit = static_cast<int64_t>(share * static_cast<double>(parts_.memory_bytes));
  int64_t loaded = 0;
  std::string largest;
  int64_t largest_bytes = 0;
  for (const serving::VersionStatus& status : parts_.serving->States()) {
    if (status.state != serving::VersionState::kReady) continue;
    loaded += status.memory_bytes;
    if (status.memory_bytes <= largest_bytes) continue;
    largest_bytes = status.memory_bytes;
    largest = StrCat("'", status.model, "' version ", status.version);
  }
  if (loaded <= limit) return absl::OkStatus();
  return FailedPrecondition("serving.memory: ", share * 100, " % of the machine are ", HumanBytes(limit),
                            ", but the loaded models take ", HumanBytes(loaded), " (the largest is ", largest, ", ",
                            HumanBytes(largest_bytes), "); unload one first, or give serving more");
}

absl::Status SharingService::Adopt(const spec::SharingSpec& sharing, std::string_view who, std::string_view why) {
  TANDEM_RETURN_IF_ERROR(CheckAgainstLoaded(sharing));
  TANDEM_ASSIGN_OR_RETURN(std::shared_ptr<const Rules> rules, MakeRules(sharing));
  TANDEM_RETURN_IF_ERROR(parts_.book->Add(spec::ToYaml(sharing), who, why).status());
  parts_.governor->SetRules(std::move(rules));
  parts_.on_change();
  Log(LogLevel::kInfo, "the sharing of the machine was changed", {{"who", who}, {"why", why}});
  return absl::OkStatus();
}

absl::StatusOr<wire::PolicyState> SharingService::Set(const api::Caller& caller,
                                                      const wire::SetPolicyRequest& request) {
  if (request.text().empty() && request.overrides().empty())
    return InvalidArgument("nothing to set: give a document, or overrides like training.cpu=30%");
  std::lock_guard lock(change_mutex_);
  const bool whole = !request.text().empty();
  std::string source = !whole ? "policy" : request.source().empty() ? "policy" : request.source();
  std::vector<std::string> overrides(request.overrides().begin(), request.overrides().end());
  TANDEM_ASSIGN_OR_RETURN(spec::SharingSpec sharing,
                          spec::ParseSharing(whole ? request.text() : parts_.book->Current().text, source, overrides));
  TANDEM_RETURN_IF_ERROR(Adopt(sharing, caller.name, request.why()));
  return Show();
}

absl::StatusOr<wire::PolicyState> SharingService::Revert(const api::Caller& caller,
                                                         const wire::RevertPolicyRequest& request) {
  std::lock_guard lock(change_mutex_);
  TANDEM_ASSIGN_OR_RETURN(PolicyRevision revision, parts_.book->Get(request.revision()));
  TANDEM_ASSIGN_OR_RETURN(spec::SharingSpec sharing,
                          spec::ParseSharing(revision.text, StrCat("policy revision ", revision.revision)));
  std::string why = StrCat("back to revision ", revision.revision, request.why().empty() ? "" : ": ", request.why());
  TANDEM_RETURN_IF_ERROR(Adopt(sharing, caller.name, why));
  return Show();
}

absl::StatusOr<wire::PolicyState> SharingService::Undo(const api::Caller&) {
  TANDEM_RETURN_IF_ERROR(parts_.governor->Undo());
  parts_.on_change();
  return Show();
}

absl::StatusOr<std::string> SharingService::RecordedLoad(double seconds) {
  if (!(seconds > 0 && seconds <= 3600))
    return InvalidArgument("seconds is ", seconds, "; it must be above 0, to 3600");
  std::string text = scheduling::LoadHeader() + '\n';
  const int64_t from_ms = parts_.clock->UnixMillis() - static_cast<int64_t>(seconds * 1000);
  for (const scheduling::LoadPoint& point : parts_.governor->meter().Recorded(from_ms)) {
    text += scheduling::ToCsv(point) + '\n';
  }
  return text;
}

absl::StatusOr<wire::UsageReport> SharingService::Usage(int64_t from_ms, int64_t to_ms, std::string_view by,
                                                        std::string_view side, std::string_view kind) {
  if (by != "name" && by != "side" && by != "day" && !by.empty())
    return InvalidArgument("by is '", by, "'; it can be name, side or day");
  parts_.housekeeper->Account();  // up to now
  accounting::Query query{.from_ms = from_ms,
                          .to_ms = to_ms,
                          .side = std::string(side),
                          .kind = std::string(kind),
                          .by_day = by == "day",
                          .by_name = by != "side"};
  TANDEM_ASSIGN_OR_RETURN(std::vector<accounting::Row> rows, parts_.accounting->Read(query));
  wire::UsageReport report;
  report.set_from_ms(static_cast<double>(from_ms));
  report.set_to_ms(static_cast<double>(to_ms));
  for (const accounting::Row& row : rows) {
    wire::UsageRow* out = report.add_rows();
    out->set_day(row.day);
    out->set_side(row.side);
    out->set_kind(row.kind);
    out->set_name(row.name);
    out->set_cpu_seconds(row.amount.cpu_seconds);
    out->set_memory_gb_hours(row.amount.memory_byte_seconds / 1e9 / 3600);
    out->set_disk_read_bytes(row.amount.disk_read_bytes);
    out->set_disk_written_bytes(row.amount.disk_written_bytes);
    out->set_requests(row.amount.requests);
  }
  return report;
}

}  // namespace tandem::daemon
