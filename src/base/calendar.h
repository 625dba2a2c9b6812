#pragma once
// Civil time for policies: cron expressions and windows of the week, in a time zone. Pure: the same arguments give the
// same answers (the time zone data base is read once a zone). Times are milliseconds since 1970 (UTC).
//
// Daylight saving. A civil time that a change skips is taken as the first instant after the gap; one that a change
// repeats is taken once, the first time for the start of a window and for a cron match, the second time for the end of
// a window: a window never loses its hour, a recurring job never runs twice. A clock that jumps changes nothing kept
// here: every answer is computed anew from `now_ms`.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/civil_time.h"
#include "absl/time/time.h"

namespace tandem {

// "Europe/Berlin", "UTC", "local" or "" (the machine's). InvalidArgument names the zone and where names are listed.
absl::StatusOr<absl::TimeZone> LoadZone(std::string_view name);

// Five fields: minute hour day-of-month month day-of-week, with * , - / and names (mon, jan); day 7 is Sunday; when
// neither day field begins with *, either matches (as in Vixie cron). Also @hourly @daily @weekly @monthly. A value,
// immutable once parsed.
class Cron {
 public:
  // InvalidArgument names the field and what it may hold.
  static absl::StatusOr<Cron> Parse(std::string_view text, absl::TimeZone zone);
  // The first match strictly after `after_ms`; nothing if there is none within 9 years (29 February may be 8 away), as
  // for 30 February.
  std::optional<int64_t> Next(int64_t after_ms) const;
  const std::string& text() const { return text_; }

 private:
  bool Matches(absl::CivilDay day) const;

  std::string text_;
  absl::TimeZone zone_;
  uint64_t minutes_ = 0;  // bit = value
  uint32_t hours_ = 0, days_ = 0, months_ = 0, weekdays_ = 0;
  bool any_day_ = true, any_weekday_ = true;
};

// From `from` to `to` of each chosen day; to <= from ends on the next day; 24:00 is allowed as an end.
struct WindowSpec {
  // mon..sun, weekdays, weekend, holidays; daily (also: empty) = every day, holidays too.
  std::vector<std::string> days;
  std::string from = "00:00", to = "24:00";
  std::string time_zone;              // "" = the machine's
  std::vector<std::string> holidays;  // "2026-12-25": days that count as `holidays` and as no day of the week
};

// A value, immutable once created.
class CalendarWindow {
 public:
  // InvalidArgument, beginning with the field's name, for an unknown day, time, date or zone, and for a window that
  // never opens.
  static absl::StatusOr<CalendarWindow> Create(const WindowSpec& spec);

  bool IsOpen(int64_t now_ms) const;
  // The next instant after `after_ms` at which IsOpen changes; nothing if it never does (always open).
  std::optional<int64_t> NextEdge(int64_t after_ms) const;
  // The next opening at or after `now_ms` (now_ms itself when open).
  std::optional<int64_t> NextOpening(int64_t now_ms) const;
  // Whether there is an instant, in the year after `from_ms`, at which both are open.
  bool Overlaps(const CalendarWindow& other, int64_t from_ms) const;
  absl::TimeZone zone() const { return zone_; }

 private:
  struct Interval {
    int64_t begin_ms, end_ms;
  };
  // The interval that begins on `day`; nothing if the day is not chosen.
  std::optional<Interval> IntervalOf(absl::CivilDay day) const;
  bool Chosen(absl::CivilDay day) const;
  // The end of the intervals that contain `ms`; `ms` itself if none does.
  int64_t OpenUntil(int64_t ms) const;
  // REQUIRES: open, closed at `after_ms`.
  std::optional<int64_t> NextClosing(int64_t after_ms) const;
  std::optional<int64_t> NextBegin(int64_t after_ms) const;
  // The first holiday after `day`.
  std::optional<absl::CivilDay> HolidayAfter(absl::CivilDay day) const;

  absl::TimeZone zone_;
  uint8_t weekdays_ = 0x7f;  // bit 0 = Monday
  bool on_holidays_ = false;
  std::vector<absl::CivilDay> holidays_;       // sorted
  int from_minute_ = 0, to_minute_ = 24 * 60;  // to in (from, from + 24 h]
};

// "2026-11-21 22:00 CET": for reasons in words.
std::string CivilText(int64_t ms, absl::TimeZone zone);

}  // namespace tandem
