#include <algorithm>
#include <cmath>

#include "absl/time/civil_time.h"
#include "absl/time/time.h"
#include "tandem/commands.h"
#include "tandem/sharing_text.h"
#include "tandem/usage_query.h"

namespace tandem::cli {
namespace {

int64_t StartOf(absl::CivilDay day) { return absl::ToUnixMillis(absl::FromCivil(day, absl::UTCTimeZone())); }

absl::StatusOr<absl::CivilDay> ParseDay(std::string_view option, std::string_view text) {
  absl::CivilDay day;
  if (!absl::ParseCivilTime(AbslView(text), &day)) {
    return Usage(option, " is '", text, "'; write a day like 2026-11-21");
  }
  return day;
}

absl::Status CheckWord(std::string_view option, std::string_view text, std::string_view first, std::string_view second,
                       std::string_view third) {
  if (text == first || text == second || (!third.empty() && text == third)) return absl::OkStatus();
  return Usage(option, " is '", text, "'; write ", first, third.empty() ? " or " : ", ", second,
               third.empty() ? "" : " or ", third);
}

absl::StatusOr<Exit> RunUsage(Session& session, const UsageOptions& options) {
  TANDEM_ASSIGN_OR_RETURN(client::UsageQuery query, MakeUsageQuery(options, NowUnixMillis()));
  TANDEM_ASSIGN_OR_RETURN(client::Client * client, session.Client());
  TANDEM_ASSIGN_OR_RETURN(wire::UsageReport report, client->sharing().Usage(query));
  if (session.json) {
    session.PrintJson(report);
  } else {
    session.Print(UsageText(report, session.style));
  }
  return Exit::kOk;
}

}  // namespace

absl::StatusOr<client::UsageQuery> MakeUsageQuery(const UsageOptions& options, double now_unix_ms) {
  TANDEM_RETURN_IF_ERROR(CheckWord("--by", options.by, "name", "side", "day"));
  if (!options.side.empty()) TANDEM_RETURN_IF_ERROR(CheckWord("--side", options.side, "serving", "training", ""));
  if (!options.kind.empty()) TANDEM_RETURN_IF_ERROR(CheckWord("--kind", options.kind, "job", "model", "server"));
  client::UsageQuery query{.by = options.by, .side = options.side, .kind = options.kind};
  bool dates = !options.from.empty() || !options.to.empty();
  if (options.days > 0 && dates) return Usage("give either --days or --from and --to");
  absl::Time now = absl::FromUnixMillis(static_cast<int64_t>(now_unix_ms));
  absl::CivilDay today = absl::ToCivilDay(now, absl::UTCTimeZone());
  if (options.days > 0) {
    if (options.days != std::floor(options.days) || options.days > 100'000) {
      return Usage("--days is ", options.days, ", must be a whole number of days; 1 is today");
    }
    // Before 1970 there is nothing, and no such time on the wire.
    query.from_ms = StartOf(std::max(today - static_cast<int>(options.days) + 1, absl::CivilDay(1970)));
    query.to_ms = StartOf(today + 1);
  }
  if (!dates) return query;
  absl::CivilDay first(1970), last = today;
  if (!options.from.empty()) {
    TANDEM_ASSIGN_OR_RETURN(first, ParseDay("--from", options.from));
  }
  if (!options.to.empty()) {
    TANDEM_ASSIGN_OR_RETURN(last, ParseDay("--to", options.to));
  }
  if (last < first) return Usage("--from ", options.from, " is after ", options.to.empty() ? "today" : options.to);
  if (first < absl::CivilDay(1970)) return Usage("--from ", options.from, " is before 1970");
  query.from_ms = StartOf(first);
  query.to_ms = StartOf(last + 1);
  return query;
}

void AddUsageCommand(Command& root, Session& session) {
  auto options = std::make_shared<UsageOptions>();
  root.Add("usage", "Who used what: CPU, memory, disk, requests; by job, model, side or day (UTC)")
      .Option("--days", &options->days, "The last so many days, today included; all days if absent")
      .Option("--from", &options->from, "First day, 2026-11-01")
      .Option("--to", &options->to, "Last day, 2026-11-30; today if absent")
      .Option("--by", &options->by, "name (each job, model and server), side or day")
      .Option("--side", &options->side, "serving or training only")
      .Option("--kind", &options->kind, "job, model or server only")
      .Example("usage --days 7")
      .Example("usage --from 2026-11-01 --to 2026-11-30 --by day --side training")
      .Run([&session, options] { return RunUsage(session, *options); });
}

}  // namespace tandem::cli
