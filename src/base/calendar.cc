#include "base/calendar.h"

#include <algorithm>
#include <array>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "base/text.h"

namespace tandem {
namespace {

constexpr int kMinutesOfADay = 24 * 60;
// Weekly patterns repeat within this many days, also when a change of daylight saving swallows one occurrence.
constexpr int kPatternDays = 16;

const std::vector<std::string>& DayNames() {
  static const auto& names = *new std::vector<std::string>{"mon", "tue", "wed", "thu", "fri", "sat", "sun"};
  return names;
}

absl::CivilSecond CivilAt(int64_t ms, absl::TimeZone zone) { return zone.At(absl::FromUnixMillis(ms)).cs; }

// Which instant of a civil time that a change skips or repeats (see the header).
enum class Which { kFirst, kLast };
int64_t InstantOf(absl::CivilSecond civil, absl::TimeZone zone, Which which) {
  const absl::TimeZone::TimeInfo info = zone.At(civil);
  if (info.kind == absl::TimeZone::TimeInfo::SKIPPED) return absl::ToUnixMillis(info.trans);
  return absl::ToUnixMillis(which == Which::kFirst ? info.pre : info.post);
}

// "22:00" -> 1320.
absl::StatusOr<int> ParseMinute(std::string_view field, std::string_view text, int last) {
  int hour = 0, minute = 0;
  std::vector<std::string> parts = absl::StrSplit(AbslView(text), ':');
  const bool well_formed = parts.size() == 2 && !parts[0].empty() && parts[0].size() <= 2 && parts[1].size() == 2 &&
                           text.find_first_not_of("0123456789:") == std::string_view::npos &&
                           absl::SimpleAtoi(parts[0], &hour) && absl::SimpleAtoi(parts[1], &minute);
  if (!well_formed || minute > 59 || hour * 60 + minute > last) {
    return InvalidArgument(field, ": '", text, "' is not a time of day; write HH:MM, 00:00 to ",
                           last == kMinutesOfADay ? "24:00" : "23:59");
  }
  return hour * 60 + minute;
}

absl::StatusOr<absl::CivilDay> ParseDate(std::string_view text) {
  absl::CivilDay day;
  // The length refuses what ParseCivilTime also takes: blanks, signs, years of five digits.
  if (text.size() == 10 && text.find_first_not_of("0123456789-") == std::string_view::npos &&
      absl::ParseCivilTime(AbslView(text), &day)) {
    return day;
  }
  return InvalidArgument("holidays: '", text, "' is not a date; write YYYY-MM-DD");
}

}  // namespace

absl::StatusOr<absl::TimeZone> LoadZone(std::string_view name) {
  if (name.empty() || name == "local") return absl::LocalTimeZone();
  absl::TimeZone zone;
  // A name, never a path: the loader would open any file.
  const bool is_name = name.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-/") ==
                           std::string_view::npos &&
                       name.front() != '/';
  if (is_name && absl::LoadTimeZone(AbslView(name), &zone)) return zone;
  return InvalidArgument("time_zone: '", name,
                         "' is not known; write a name such as Europe/Berlin or UTC (files under /usr/share/zoneinfo, "
                         "package tzdata), or local");
}

std::string CivilText(int64_t ms, absl::TimeZone zone) {
  return absl::FormatTime("%Y-%m-%d %H:%M %Z", absl::FromUnixMillis(ms), zone);
}

absl::StatusOr<CalendarWindow> CalendarWindow::Create(const WindowSpec& spec) {
  CalendarWindow window;
  TANDEM_ASSIGN_OR_RETURN(window.zone_, LoadZone(spec.time_zone));
  TANDEM_ASSIGN_OR_RETURN(window.from_minute_, ParseMinute("from", spec.from, kMinutesOfADay - 1));
  TANDEM_ASSIGN_OR_RETURN(window.to_minute_, ParseMinute("to", spec.to, kMinutesOfADay));
  if (window.to_minute_ <= window.from_minute_) window.to_minute_ += kMinutesOfADay;
  for (const std::string& text : spec.holidays) {
    TANDEM_ASSIGN_OR_RETURN(absl::CivilDay day, ParseDate(text));
    window.holidays_.push_back(day);
  }
  std::sort(window.holidays_.begin(), window.holidays_.end());

  window.weekdays_ = 0;
  for (const std::string& day : spec.days.empty() ? std::vector<std::string>{"daily"} : spec.days) {
    auto name = std::find(DayNames().begin(), DayNames().end(), day);
    if (name != DayNames().end()) {
      window.weekdays_ |= 1 << (name - DayNames().begin());
    } else if (day == "weekdays") {
      window.weekdays_ |= 0x1f;
    } else if (day == "weekend") {
      window.weekdays_ |= 0x60;
    } else if (day == "daily") {
      window.weekdays_ |= 0x7f;
      window.on_holidays_ = true;
    } else if (day == "holidays") {
      window.on_holidays_ = true;
    } else {
      std::vector<std::string> known = DayNames();
      known.insert(known.end(), {"weekdays", "weekend", "daily", "holidays"});
      return InvalidArgument("days: '", day, "' is not known", DidYouMean(day, known),
                             "; write mon to sun, weekdays, weekend, daily or holidays");
    }
  }
  if (window.weekdays_ == 0 && window.holidays_.empty()) {
    return InvalidArgument(
        "days: the window never opens: it is for holidays, and none is listed; add them to holidays");
  }
  return window;
}

bool CalendarWindow::Chosen(absl::CivilDay day) const {
  if (std::binary_search(holidays_.begin(), holidays_.end(), day)) return on_holidays_;
  return (weekdays_ >> static_cast<int>(absl::GetWeekday(day)) & 1) != 0;
}

std::optional<CalendarWindow::Interval> CalendarWindow::IntervalOf(absl::CivilDay day) const {
  if (!Chosen(day)) return std::nullopt;
  const absl::CivilMinute midnight(day);
  return Interval{InstantOf(midnight + from_minute_, zone_, Which::kFirst),
                  InstantOf(midnight + to_minute_, zone_, Which::kLast)};
}

int64_t CalendarWindow::OpenUntil(int64_t ms) const {
  const absl::CivilDay today(CivilAt(ms, zone_));
  int64_t until = ms;
  // Yesterday's may still last. Tomorrow's may have begun: a change at midnight can set the date back.
  for (absl::CivilDay day = today - 1; day <= today + 1; ++day) {
    const std::optional<Interval> interval = IntervalOf(day);
    if (interval.has_value() && interval->begin_ms <= ms) until = std::max(until, interval->end_ms);
  }
  return until;
}

bool CalendarWindow::IsOpen(int64_t now_ms) const { return OpenUntil(now_ms) > now_ms; }

std::optional<absl::CivilDay> CalendarWindow::HolidayAfter(absl::CivilDay day) const {
  auto next = std::upper_bound(holidays_.begin(), holidays_.end(), day);
  if (next == holidays_.end()) return std::nullopt;
  return *next;
}

// Both searches walk day by day while the week's pattern can still change the answer, then from holiday to holiday.
std::optional<int64_t> CalendarWindow::NextClosing(int64_t after_ms) const {
  int64_t at = after_ms;
  absl::CivilDay last = absl::CivilDay(CivilAt(at, zone_)) + kPatternDays;
  while (true) {
    const int64_t until = OpenUntil(at);
    if (until == at) return at;
    at = until;
    const absl::CivilDay day(CivilAt(at, zone_));
    if (day <= last) continue;
    const std::optional<absl::CivilDay> holiday = HolidayAfter(day - 1);
    if (!holiday.has_value()) return std::nullopt;
    at = std::max(at, InstantOf(absl::CivilSecond(*holiday - 1), zone_, Which::kFirst));
    last = *holiday + kPatternDays;
  }
}

std::optional<int64_t> CalendarWindow::NextBegin(int64_t after_ms) const {
  absl::CivilDay day = absl::CivilDay(CivilAt(after_ms, zone_)) - 1;
  absl::CivilDay last = day + kPatternDays;
  while (true) {
    const std::optional<Interval> interval = IntervalOf(day);
    if (interval.has_value() && interval->begin_ms > after_ms && interval->begin_ms < interval->end_ms) {
      return interval->begin_ms;
    }
    if (++day <= last) continue;
    const std::optional<absl::CivilDay> holiday = HolidayAfter(day - 1);
    if (!holiday.has_value()) return std::nullopt;
    day = *holiday;
    last = day + kPatternDays;
  }
}

std::optional<int64_t> CalendarWindow::NextEdge(int64_t after_ms) const {
  return IsOpen(after_ms) ? NextClosing(after_ms) : NextBegin(after_ms);
}

std::optional<int64_t> CalendarWindow::NextOpening(int64_t now_ms) const {
  return IsOpen(now_ms) ? now_ms : NextBegin(now_ms);
}

bool CalendarWindow::Overlaps(const CalendarWindow& other, int64_t from_ms) const {
  const int64_t until_ms = from_ms + int64_t{366} * kMinutesOfADay * 60'000;
  for (int64_t at = from_ms; at <= until_ms;) {
    const std::optional<int64_t> mine = NextOpening(at);
    const std::optional<int64_t> others = other.NextOpening(at);
    if (!mine.has_value() || !others.has_value()) return false;
    const int64_t later = std::max(*mine, *others);
    if (later > until_ms) return false;
    if (IsOpen(later) && other.IsOpen(later)) return true;
    at = later;
  }
  return false;
}

}  // namespace tandem
