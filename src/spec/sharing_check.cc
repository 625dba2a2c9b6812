// The rules over several keys of a sharing document.
#include <algorithm>
#include <optional>

#include "absl/strings/str_format.h"
#include "absl/time/civil_time.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "base/text.h"
#include "spec/sharing_node.h"

namespace tandem::spec {
namespace {

constexpr double kRounding = 1e-9;
constexpr int64_t kHourMs = 3'600'000;
// Where contradictions of the week's pattern are looked for: from a Monday, nine days in one zone (in January no clock
// is changed), a year in two. Always the same, since a document that is right today must not be wrong tomorrow.
constexpr int64_t kBeginMs = 1'767'571'200'000;  // 2026-01-05
constexpr int64_t kWeekEndMs = kBeginMs + 9 * 24 * kHourMs;
constexpr int64_t kYearEndMs = kBeginMs + 366 * 24 * kHourMs;

// Where `key` of a side is written on this level, else the level.
std::string WhereOf(const Node& level, std::string_view key) {
  for (std::string_view side : {"training", "serving"}) {
    const Node* map = level.Find(side);
    const Node* value = map == nullptr ? nullptr : map->Find(key);
    if (value != nullptr) return value->where;
  }
  return level.where;
}

absl::Status CheckSums(const Node& level, const std::string& path, const SplitSpec& split) {
  auto check = [&](std::string_view key, double serving, double training) {
    if (serving + training <= 1 + kRounding) return absl::OkStatus();
    return ErrorAt(WhereOf(level, key), StrCat(Join(path, "serving."), key, " is ", ShareText(serving), " and ",
                                               Join(path, "training."), key, " is ", ShareText(training), ", together ",
                                               absl::StrFormat("%.5g", (serving + training) * 100),
                                               "%; the machine has 100%: lower one of them"));
  };
  TANDEM_RETURN_IF_ERROR(check("cpu", split.serving.cpu, split.training.cpu));
  return check("memory", split.serving.memory, split.training.memory);
}

bool CannotServe(const SplitSpec& split) { return split.serving.cpu == 0 && !split.lend; }
bool CannotTrain(const SplitSpec& split) {
  return (split.training.cpu == 0 && !split.lend) || (split.ratio_every_s > 0 && split.ratio_training == 0);
}

absl::Status CheckThatBothRun(const Node& root, const SharingSpec& sharing) {
  auto never = [&](bool (*cannot)(const SplitSpec&)) {
    return cannot(sharing.split) && std::ranges::all_of(sharing.windows, cannot, &WindowOfSharing::split);
  };
  std::string_view side = never(CannotServe) ? "serving" : never(CannotTrain) ? "training" : "";
  if (side.empty()) return absl::OkStatus();
  std::string_view key = root.Find("lend") != nullptr ? "lend" : side;
  const Node* place = root.Find(key);
  std::string_view windows = sharing.windows.empty() ? "" : ", outside the windows and in each of them";
  return ErrorAt(place == nullptr ? root.where : place->where,
                 StrCat(side, " could never run: its share, or its part of the ratio, is 0% and nothing is lent to it",
                        windows, "; give it a share, or set lend: true"));
}

// --- windows ---

// The first instant of [from_ms, until_ms) at which both are open.
std::optional<int64_t> BothOpen(const CalendarWindow& a, const CalendarWindow& b, int64_t from_ms, int64_t until_ms) {
  for (int64_t now = from_ms; now < until_ms;) {
    std::optional<int64_t> next_a = a.NextOpening(now), next_b = b.NextOpening(now);
    if (!next_a || !next_b) return std::nullopt;
    int64_t both = std::max(*next_a, *next_b);
    if (both == now) return now;
    now = both;
  }
  return std::nullopt;
}

// The window as it is in weeks without a holiday; nothing for one of holidays alone.
std::optional<CalendarWindow> InAWeek(const WindowOfSharing& window) {
  WindowSpec spec = window.when;
  spec.holidays.clear();
  absl::StatusOr<CalendarWindow> calendar = CalendarWindow::Create(spec);
  if (!calendar.ok()) return std::nullopt;
  return *std::move(calendar);
}

bool IsForHolidays(const WindowOfSharing& window) {
  return std::ranges::find(window.when.days, "holidays") != window.when.days.end();
}

// The first instant found at which both are open: in the week's pattern, then around holidays.
absl::StatusOr<std::optional<int64_t>> BothOpen(const WindowOfSharing& a, const WindowOfSharing& b) {
  std::optional<CalendarWindow> week_a = InAWeek(a), week_b = InAWeek(b);
  if (week_a && week_b) {
    int64_t end_ms = a.when.time_zone == b.when.time_zone ? kWeekEndMs : kYearEndMs;
    if (std::optional<int64_t> both = BothOpen(*week_a, *week_b, kBeginMs, end_ms)) return both;
  }
  if (!IsForHolidays(a) && !IsForHolidays(b)) return std::nullopt;
  TANDEM_ASSIGN_OR_RETURN(absl::TimeZone zone_a, LoadZone(a.when.time_zone));
  TANDEM_ASSIGN_OR_RETURN(absl::TimeZone zone_b, LoadZone(b.when.time_zone));
  for (const std::string& text : a.when.holidays) {
    absl::CivilDay day;
    if (!absl::ParseCivilTime(text, &day)) continue;  // refused before
    absl::Time begin = std::min(absl::FromCivil(day, zone_a), absl::FromCivil(day, zone_b));
    int64_t begin_ms = absl::ToUnixMillis(begin);
    if (std::optional<int64_t> both = BothOpen(a.window, b.window, begin_ms, begin_ms + 48 * kHourMs)) return both;
  }
  return std::nullopt;
}

// What a split says, as (key, value), what matters most first.
std::vector<std::pair<std::string, std::string>> Sayings(const SplitSpec& split) {
  std::vector<std::pair<std::string, std::string>> sayings;
  auto add = [&](std::string_view side, const SideSpec& spec) {
    for (const Field<SideSpec>& field : SideFields()) {
      sayings.emplace_back(StrCat(side, ".", field.key), field.write(spec)->text);
    }
  };
  add("training", split.training);
  add("serving", split.serving);
  sayings.emplace_back("lend", split.lend ? "true" : "false");
  sayings.emplace_back("ratio", RatioText(split));
  return sayings;
}

absl::Status CheckPair(const Node& node_a, const WindowOfSharing& a, const Node& node_b, const WindowOfSharing& b) {
  if (a.split == b.split || std::ranges::find(a.over, b.name) != a.over.end()) return absl::OkStatus();
  TANDEM_ASSIGN_OR_RETURN(std::optional<int64_t> both, BothOpen(a, b));
  if (!both) return absl::OkStatus();
  auto said_a = Sayings(a.split), said_b = Sayings(b.split);
  auto [differs_a, differs_b] = std::ranges::mismatch(said_a, said_b);
  TANDEM_ASSIGN_OR_RETURN(absl::TimeZone zone, LoadZone(a.when.time_zone));
  return ErrorAt(
      node_b.where,
      StrCat("windows '", a.name, "' (", LineOf(node_a.where), ") and '", b.name, "' (", LineOf(node_b.where),
             ") are both open on ", absl::FormatTime("%A %Y-%m-%d from %H:%M", absl::FromUnixMillis(*both), zone),
             " and give ", differs_a->first, " ", differs_a->second, " and ", differs_b->second,
             "; change the hours of one, or let '", a.name, "' win there: over: ", b.name));
}

// Each name of `over` is a later window, so that the first open one counts.
absl::Status CheckOver(const Node& list, const SharingSpec& sharing, size_t index) {
  const WindowOfSharing& window = sharing.windows[index];
  for (const std::string& name : window.over) {
    auto other = std::ranges::find(sharing.windows, name, &WindowOfSharing::name);
    const std::string& where = list.items[index].Find("over")->where;
    if (other == sharing.windows.end()) {
      return ErrorAt(where, StrCat("window '", window.name, "' is to be over ", Quoted(name), ", which is no window"));
    }
    size_t at = static_cast<size_t>(other - sharing.windows.begin());
    if (at > index) continue;
    return ErrorAt(where,
                   StrCat("window '", window.name, "' is to be over '", name, "' (", LineOf(list.items[at].where),
                          "); write it above that one, since the first open window counts"));
  }
  return absl::OkStatus();
}

absl::Status CheckWindows(const Node& list, const std::string& path, const SharingSpec& sharing) {
  for (size_t i = 0; i < sharing.windows.size(); ++i) {
    const WindowOfSharing& window = sharing.windows[i];
    TANDEM_RETURN_IF_ERROR(CheckSums(list.items[i], StrCat(path, ".", i), window.split));
    for (size_t k = 0; k < i; ++k) {
      if (sharing.windows[k].name != window.name) continue;
      return ErrorAt(list.items[i].where, StrCat("the window name '", window.name, "' is given twice (first in ",
                                                 LineOf(list.items[k].where), "); rename one"));
    }
  }
  for (size_t i = 0; i < sharing.windows.size(); ++i) {
    TANDEM_RETURN_IF_ERROR(CheckOver(list, sharing, i));
    for (size_t k = 0; k < i; ++k) {
      TANDEM_RETURN_IF_ERROR(CheckPair(list.items[k], sharing.windows[k], list.items[i], sharing.windows[i]));
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string LineOf(std::string_view where) {
  size_t column = where.rfind(':');
  size_t line = column == std::string_view::npos || column == 0 ? column : where.rfind(':', column - 1);
  if (where.starts_with("--set") || line == std::string_view::npos) return std::string(where);
  return StrCat("line ", where.substr(line + 1, column - line - 1));
}

absl::Status CheckSharing(const Node& root, const std::string& path, const SharingSpec& sharing) {
  TANDEM_RETURN_IF_ERROR(CheckSums(root, path, sharing.split));
  if (sharing.automatic && sharing.min_training > sharing.training_share) {
    const Node* place = root.Find("min_training");
    return ErrorAt(place == nullptr ? root.where : place->where,
                   StrCat(Join(path, "min_training"), " is ", ShareText(sharing.min_training), ", more than ",
                          Join(path, "training_share"), " of ", ShareText(sharing.training_share), "; lower it"));
  }
  if (const Node* windows = root.Find("windows")) {
    TANDEM_RETURN_IF_ERROR(CheckWindows(*windows, Join(path, "windows"), sharing));
  }
  return CheckThatBothRun(root, sharing);
}

}  // namespace tandem::spec
