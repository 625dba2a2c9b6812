#include "base/calendar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status.h"

namespace tandem {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// "2026-03-29T01:30:00+02:00" -> ms; the offset tells a repeated hour's two halves apart.
int64_t At(std::string_view text) {
  absl::Time time;
  std::string error;
  EXPECT_TRUE(absl::ParseTime(absl::RFC3339_sec, AbslView(text), &time, &error)) << text << ": " << error;
  return absl::ToUnixMillis(time);
}

absl::TimeZone Zone(std::string_view name) {
  absl::StatusOr<absl::TimeZone> zone = LoadZone(name);
  EXPECT_TRUE(zone.ok()) << zone.status();
  return *zone;
}

std::string Utc(std::optional<int64_t> ms) {
  if (!ms.has_value()) return "never";
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::FromUnixMillis(*ms), absl::UTCTimeZone());
}

std::vector<std::string> NextMatches(std::string_view cron, std::string_view zone, std::string_view after, int count) {
  absl::StatusOr<Cron> parsed = Cron::Parse(cron, Zone(zone));
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  std::vector<std::string> matches;
  std::optional<int64_t> at = At(after);
  for (int i = 0; i < count && at.has_value(); ++i) {
    at = parsed->Next(*at);
    matches.push_back(Utc(at));
  }
  return matches;
}

std::string CronError(std::string_view text) {
  return std::string(MessageOf(Cron::Parse(text, absl::UTCTimeZone()).status()));
}

CalendarWindow Window(WindowSpec spec) {
  absl::StatusOr<CalendarWindow> window = CalendarWindow::Create(spec);
  EXPECT_TRUE(window.ok()) << window.status();
  return *std::move(window);
}

std::string WindowError(WindowSpec spec) { return std::string(MessageOf(CalendarWindow::Create(spec).status())); }

// The next edges after `after`, in UTC.
std::vector<std::string> Edges(const CalendarWindow& window, std::string_view after, int count) {
  std::vector<std::string> edges;
  std::optional<int64_t> at = At(after);
  for (int i = 0; i < count && at.has_value(); ++i) {
    at = window.NextEdge(*at);
    edges.push_back(Utc(at));
  }
  return edges;
}

TEST(LoadZone, NamesAnUnknownZoneAndWhereNamesAreListed) {
  EXPECT_TRUE(LoadZone("Europe/Berlin").ok());
  EXPECT_TRUE(LoadZone("").ok());
  EXPECT_TRUE(LoadZone("local").ok());
  for (std::string_view bad : {"Europe/Atlantis", "/etc/passwd", "../../etc/passwd", "file:/etc/passwd", "Berlin "}) {
    EXPECT_THAT(std::string(MessageOf(LoadZone(bad).status())),
                testing::AllOf(HasSubstr(StrCat("time_zone: '", bad, "' is not known")), HasSubstr("zoneinfo")));
  }
}

TEST(CivilTextTest, SaysDateTimeAndZone) {
  EXPECT_EQ(CivilText(At("2026-11-21T21:00:00Z"), Zone("Europe/Berlin")), "2026-11-21 22:00 CET");
  EXPECT_EQ(CivilText(At("2026-07-21T20:00:00Z"), Zone("Europe/Berlin")), "2026-07-21 22:00 CEST");
}

TEST(CronTest, FindsTheNextMatchStrictlyAfter) {
  EXPECT_THAT(
      NextMatches("*/20 22 * * *", "UTC", "2026-11-21T22:00:00Z", 4),
      ElementsAre("2026-11-21T22:20:00Z", "2026-11-21T22:40:00Z", "2026-11-22T22:00:00Z", "2026-11-22T22:20:00Z"));
  EXPECT_THAT(NextMatches("0 22 * * *", "UTC", "2026-11-21T21:59:59Z", 1), ElementsAre("2026-11-21T22:00:00Z"));
  EXPECT_THAT(NextMatches("5 0 31 12 *", "UTC", "2026-12-31T00:05:00Z", 1), ElementsAre("2027-12-31T00:05:00Z"));
}

TEST(CronTest, TakesNamesRangesListsAndSteps) {
  EXPECT_THAT(NextMatches("30 18 * * mon,WED,fri", "UTC", "2026-11-21T00:00:00Z", 3),
              ElementsAre("2026-11-23T18:30:00Z", "2026-11-25T18:30:00Z", "2026-11-27T18:30:00Z"));
  EXPECT_THAT(NextMatches("0 12 * * fri-sun", "UTC", "2026-11-20T12:00:00Z", 3),
              ElementsAre("2026-11-21T12:00:00Z", "2026-11-22T12:00:00Z", "2026-11-27T12:00:00Z"));
  EXPECT_THAT(NextMatches("0 12 * * 7", "UTC", "2026-11-21T00:00:00Z", 1), ElementsAre("2026-11-22T12:00:00Z"));
  EXPECT_THAT(NextMatches("10/25 3 1 jan-mar/2 *", "UTC", "2026-11-21T00:00:00Z", 3),
              ElementsAre("2027-01-01T03:10:00Z", "2027-01-01T03:35:00Z", "2027-03-01T03:10:00Z"));
}

TEST(CronTest, MatchesEitherDayFieldWhenBothAreRestricted) {
  // 13 November 2026 is a Friday; so is 20.
  EXPECT_THAT(NextMatches("0 0 14 * fri", "UTC", "2026-11-12T00:00:00Z", 3),
              ElementsAre("2026-11-13T00:00:00Z", "2026-11-14T00:00:00Z", "2026-11-20T00:00:00Z"));
  // A field that begins with * restricts, and both must match.
  EXPECT_THAT(NextMatches("0 0 */2 * fri", "UTC", "2026-11-12T00:00:00Z", 2),
              ElementsAre("2026-11-13T00:00:00Z", "2026-11-27T00:00:00Z"));
}

TEST(CronTest, KnowsNicknames) {
  EXPECT_THAT(NextMatches("@hourly", "UTC", "2026-11-21T22:10:00Z", 1), ElementsAre("2026-11-21T23:00:00Z"));
  EXPECT_THAT(NextMatches("@daily", "UTC", "2026-11-21T22:10:00Z", 1), ElementsAre("2026-11-22T00:00:00Z"));
  EXPECT_THAT(NextMatches("@weekly", "UTC", "2026-11-23T22:10:00Z", 1), ElementsAre("2026-11-29T00:00:00Z"));
  EXPECT_THAT(NextMatches("@monthly", "UTC", "2026-11-21T22:10:00Z", 1), ElementsAre("2026-12-01T00:00:00Z"));
}

TEST(CronTest, FindsALeapDayAndGivesUpOnADayThatNeverComes) {
  EXPECT_THAT(NextMatches("0 6 29 2 *", "UTC", "2026-11-21T00:00:00Z", 2),
              ElementsAre("2028-02-29T06:00:00Z", "2032-02-29T06:00:00Z"));
  EXPECT_THAT(NextMatches("0 6 29 2 *", "UTC", "2096-03-01T00:00:00Z", 1), ElementsAre("2104-02-29T06:00:00Z"));
  EXPECT_THAT(NextMatches("0 6 30 2 *", "UTC", "2026-11-21T00:00:00Z", 1), ElementsAre("never"));
}

TEST(CronTest, RunsASkippedTimeOnceRightAfterTheGap) {
  // Berlin, 29 March 2026: 02:00 CET is 03:00 CEST (01:00 UTC). New York, 8 March 2026: 02:00 EST is 03:00 EDT (07:00
  // UTC).
  EXPECT_THAT(NextMatches("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3),
              ElementsAre("2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"));
  EXPECT_THAT(NextMatches("*/20 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 3),
              ElementsAre("2026-03-29T01:00:00Z", "2026-03-29T01:20:00Z", "2026-03-29T01:40:00Z"));
  EXPECT_THAT(NextMatches("30 2 * * *", "America/New_York", "2026-03-08T06:00:00Z", 2),
              ElementsAre("2026-03-08T07:00:00Z", "2026-03-09T06:30:00Z"));
}

TEST(CronTest, RunsARepeatedTimeOnceTheFirstTime) {
  // Berlin, 25 October 2026: 03:00 CEST is 02:00 CET (01:00 UTC). New York, 1 November 2026: 02:00 EDT is 01:00 EST
  // (06:00 UTC).
  EXPECT_THAT(NextMatches("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
              ElementsAre("2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"));
  EXPECT_THAT(NextMatches("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1),
              ElementsAre("2026-10-26T01:30:00Z"));
  EXPECT_THAT(NextMatches("30 1 * * *", "America/New_York", "2026-11-01T04:00:00Z", 2),
              ElementsAre("2026-11-01T05:30:00Z", "2026-11-02T06:30:00Z"));
}

TEST(CronTest, ErrorsNameTheField) {
  EXPECT_THAT(CronError("61 * * * *"), HasSubstr("cron '61 * * * *': minute: '61' is not in 0-59"));
  EXPECT_THAT(CronError("0 24 * * *"), HasSubstr("hour: '24' is not in 0-23"));
  EXPECT_THAT(CronError("0 0 0 * *"), HasSubstr("day-of-month: '0' is not in 1-31"));
  EXPECT_THAT(CronError("0 0 1 foo *"), HasSubstr("month: 'foo' is not in 1-12 or jan.."));
  EXPECT_THAT(CronError("0 0 1 1 8"), HasSubstr("day-of-week: '8'"));
  EXPECT_THAT(CronError("0 22-6 * * *"), HasSubstr("hour: '22-6' runs backwards; write it as two ranges, 22-23,0-6"));
  EXPECT_THAT(CronError("*/0 * * * *"), HasSubstr("minute: the step of '*/0'"));
  EXPECT_THAT(CronError("*/x * * * *"), HasSubstr("minute: the step"));
  EXPECT_THAT(CronError("1, * * * *"), HasSubstr("minute: ''"));
  EXPECT_THAT(CronError("-1 * * * *"), HasSubstr("minute: ''"));
  EXPECT_THAT(CronError("99999999999 * * * *"), HasSubstr("minute"));
  EXPECT_THAT(CronError("* * * *"), HasSubstr("has 4 fields, must have 5"));
  EXPECT_THAT(CronError(""), HasSubstr("has 0 fields"));
  EXPECT_THAT(CronError("@reboot"), HasSubstr("@hourly"));
}

TEST(CalendarWindowTest, CrossesMidnightMonthAndYear) {
  CalendarWindow night = Window({.from = "22:00", .to = "06:00", .time_zone = "UTC"});
  EXPECT_THAT(Edges(night, "2026-12-31T12:00:00Z", 3),
              ElementsAre("2026-12-31T22:00:00Z", "2027-01-01T06:00:00Z", "2027-01-01T22:00:00Z"));
  EXPECT_TRUE(night.IsOpen(At("2027-01-01T05:59:59Z")));
  EXPECT_FALSE(night.IsOpen(At("2027-01-01T06:00:00Z")));
  EXPECT_THAT(Edges(night, "2028-02-29T12:00:00Z", 2), ElementsAre("2028-02-29T22:00:00Z", "2028-03-01T06:00:00Z"));
  // The day is the one it begins on: Friday's window lasts into Saturday.
  CalendarWindow friday = Window({.days = {"fri"}, .from = "22:00", .to = "06:00", .time_zone = "UTC"});
  EXPECT_TRUE(friday.IsOpen(At("2026-11-21T05:00:00Z")));
  EXPECT_FALSE(friday.IsOpen(At("2026-11-20T05:00:00Z")));
}

TEST(CalendarWindowTest, JoinsWindowsThatTouch) {
  CalendarWindow weekend = Window({.days = {"weekend"}, .time_zone = "UTC"});
  EXPECT_THAT(Edges(weekend, "2026-11-18T00:00:00Z", 3),
              ElementsAre("2026-11-21T00:00:00Z", "2026-11-23T00:00:00Z", "2026-11-28T00:00:00Z"));
}

TEST(CalendarWindowTest, IsAlwaysOpenWithoutAnEdge) {
  for (const WindowSpec& spec : {WindowSpec{.time_zone = "Europe/Berlin"},
                                 WindowSpec{.from = "02:30", .to = "02:30", .time_zone = "Europe/Berlin"}}) {
    CalendarWindow window = Window(spec);
    EXPECT_TRUE(window.IsOpen(At("2026-03-29T01:10:00Z")));
    EXPECT_EQ(window.NextEdge(At("2026-03-01T00:00:00Z")), std::nullopt);
    EXPECT_EQ(window.NextOpening(At("2026-03-01T00:00:00Z")), At("2026-03-01T00:00:00Z"));
  }
}

TEST(CalendarWindowTest, HolidaysAreNoDayOfTheWeek) {
  CalendarWindow work =
      Window({.days = {"weekdays"}, .from = "08:00", .to = "18:00", .time_zone = "UTC", .holidays = {"2026-12-25"}});
  EXPECT_THAT(Edges(work, "2026-12-24T20:00:00Z", 1), ElementsAre("2026-12-28T08:00:00Z"));
  CalendarWindow free = Window({.days = {"weekend", "holidays"}, .time_zone = "UTC", .holidays = {"2026-12-25"}});
  EXPECT_THAT(Edges(free, "2026-12-24T20:00:00Z", 2), ElementsAre("2026-12-25T00:00:00Z", "2026-12-28T00:00:00Z"));
  CalendarWindow daily = Window({.from = "22:00", .to = "23:00", .time_zone = "UTC", .holidays = {"2026-12-25"}});
  EXPECT_TRUE(daily.IsOpen(At("2026-12-25T22:30:00Z")));
}

TEST(CalendarWindowTest, FindsAFarHolidayFromEitherSide) {
  CalendarWindow far = Window({.days = {"holidays"}, .time_zone = "UTC", .holidays = {"2031-07-01", "2026-11-30"}});
  EXPECT_THAT(Edges(far, "2026-11-21T00:00:00Z", 5),
              ElementsAre("2026-11-30T00:00:00Z", "2026-12-01T00:00:00Z", "2031-07-01T00:00:00Z",
                          "2031-07-02T00:00:00Z", "never"));
  for (std::string_view holiday :
       {"2027-07-01", "2026-12-07", "2026-12-08", "2026-12-09"}) {  // near the search's limit
    CalendarWindow closed_then =
        Window({.days = {"weekdays", "weekend"}, .time_zone = "UTC", .holidays = {std::string(holiday)}});
    std::optional<int64_t> edge = closed_then.NextEdge(At("2026-11-21T12:00:00Z"));
    EXPECT_EQ(Utc(edge), StrCat(holiday, "T00:00:00Z"));
  }
}

TEST(CalendarWindowTest, NeverLosesItsHourWhenTheClockGoesBack) {
  // 25 October 2026 in Berlin has two 02:30; the first is 00:30 UTC, the second 01:30 UTC.
  EXPECT_THAT(Edges(Window({.from = "02:30", .to = "04:00", .time_zone = "Europe/Berlin"}), "2026-10-24T12:00:00Z", 2),
              ElementsAre("2026-10-25T00:30:00Z", "2026-10-25T03:00:00Z"));
  EXPECT_THAT(Edges(Window({.from = "01:00", .to = "02:30", .time_zone = "Europe/Berlin"}), "2026-10-24T12:00:00Z", 2),
              ElementsAre("2026-10-24T23:00:00Z", "2026-10-25T01:30:00Z"));
  EXPECT_THAT(
      Edges(Window({.from = "22:00", .to = "06:00", .time_zone = "America/New_York"}), "2026-10-31T12:00:00Z", 2),
      ElementsAre("2026-11-01T02:00:00Z", "2026-11-01T11:00:00Z"));
}

TEST(CalendarWindowTest, BeginsAndEndsAfterTheGapWhenTheClockGoesForward) {
  EXPECT_THAT(Edges(Window({.from = "02:30", .to = "04:00", .time_zone = "Europe/Berlin"}), "2026-03-28T12:00:00Z", 2),
              ElementsAre("2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"));
  EXPECT_THAT(
      Edges(Window({.from = "01:00", .to = "02:30", .time_zone = "America/New_York"}), "2026-03-07T12:00:00Z", 2),
      ElementsAre("2026-03-08T06:00:00Z", "2026-03-08T07:00:00Z"));
  // Wholly inside the gap: that day it does not open, and is found a week later.
  EXPECT_THAT(Edges(Window({.days = {"sun"}, .from = "02:10", .to = "02:50", .time_zone = "Europe/Berlin"}),
                    "2026-03-23T00:00:00Z", 1),
              ElementsAre("2026-04-05T00:10:00Z"));
}

TEST(CalendarWindowTest, HandlesAClockSetBackOverMidnight) {
  // St. John's, 7 November 2010: 00:01 NDT (02:31 UTC) was set back to 23:01 NST of the 6th.
  CalendarWindow sunday = Window({.days = {"sun"}, .from = "00:00", .to = "01:00", .time_zone = "America/St_Johns"});
  EXPECT_THAT(Edges(sunday, "2010-11-06T12:00:00Z", 2), ElementsAre("2010-11-07T02:30:00Z", "2010-11-07T04:30:00Z"));
  EXPECT_TRUE(sunday.IsOpen(At("2010-11-07T03:00:00Z")));  // the second 23:30 of Saturday
}

TEST(CalendarWindowTest, TellsWhetherTwoAreEverOpenTogether) {
  const int64_t from = At("2026-11-21T00:00:00Z");
  CalendarWindow night = Window({.from = "22:00", .to = "06:00", .time_zone = "UTC"});
  CalendarWindow day = Window({.from = "06:00", .to = "22:00", .time_zone = "UTC"});
  CalendarWindow monday = Window({.days = {"mon"}, .from = "05:00", .to = "07:00", .time_zone = "UTC"});
  CalendarWindow past = Window({.days = {"holidays"}, .time_zone = "UTC", .holidays = {"2020-01-01"}});
  EXPECT_FALSE(night.Overlaps(day, from));
  EXPECT_TRUE(night.Overlaps(monday, from));
  EXPECT_TRUE(monday.Overlaps(day, from));
  EXPECT_FALSE(night.Overlaps(past, from));
  EXPECT_TRUE(night.Overlaps(night, from));
  // The same wall times in two zones meet.
  EXPECT_TRUE(night.Overlaps(Window({.from = "06:00", .to = "22:00", .time_zone = "Asia/Tokyo"}), from));
  // Apart in winter, an hour in common while only New York has summer time.
  CalendarWindow york = Window({.from = "08:00", .to = "09:00", .time_zone = "America/New_York"});
  EXPECT_TRUE(york.Overlaps(Window({.from = "12:00", .to = "13:00", .time_zone = "UTC"}), from));
}

TEST(CalendarWindowTest, ErrorsNameTheField) {
  EXPECT_THAT(WindowError({.days = {"mom"}}), HasSubstr("days: 'mom' is not known; did you mean 'mon'?"));
  EXPECT_THAT(WindowError({.from = "24:00"}),
              HasSubstr("from: '24:00' is not a time of day; write HH:MM, 00:00 to 23:59"));
  EXPECT_THAT(WindowError({.to = "24:01"}), HasSubstr("to: '24:01' is not a time of day; write HH:MM, 00:00 to 24:00"));
  for (const char* bad : {"", "7", "7:5", "12:60", "-1:00", "1:-1", "12:00:00", "noon", "12 :00"}) {
    EXPECT_THAT(WindowError({.from = bad}), HasSubstr(StrCat("from: '", bad, "'")));
  }
  EXPECT_THAT(WindowError({.time_zone = "Mars/Base"}), HasSubstr("time_zone: 'Mars/Base'"));
  for (const char* bad : {"2026-02-30", "26-12-25", "2026-13-01", "christmas", " 2026-1-01"}) {
    EXPECT_THAT(WindowError({.holidays = {bad}}), HasSubstr(StrCat("holidays: '", bad, "' is not a date")));
  }
  EXPECT_THAT(WindowError({.days = {"holidays"}}), HasSubstr("days: the window never opens"));
}

// Every edge that NextEdge gives over two years is where a look at each minute sees one.
void ExpectEdgesWhereAScanSeesThem(const WindowSpec& spec) {
  CalendarWindow window = Window(spec);
  const int64_t begin = At("2026-01-01T00:00:00Z"), end = At("2028-01-01T00:00:00Z");
  std::optional<int64_t> expected = window.NextEdge(begin);
  bool open = window.IsOpen(begin);
  int64_t edges = 0;
  for (int64_t at = begin + 60'000; at < end; at += 60'000) {
    if (window.IsOpen(at) == open) continue;
    open = !open;
    ASSERT_EQ(Utc(expected), Utc(at));
    expected = window.NextEdge(at);
    ++edges;
  }
  EXPECT_GT(edges, 200);
  EXPECT_TRUE(!expected.has_value() || *expected >= end) << Utc(expected);
}

TEST(CalendarWindowTest, NextEdgeAgreesWithAScanInBerlin) {
  ExpectEdgesWhereAScanSeesThem({.from = "02:30", .to = "02:10", .time_zone = "Europe/Berlin"});
}

TEST(CalendarWindowTest, NextEdgeAgreesWithAScanInNewYork) {
  ExpectEdgesWhereAScanSeesThem({.days = {"mon", "wed", "weekend", "holidays"},
                                 .from = "01:30",
                                 .to = "24:00",
                                 .time_zone = "America/New_York",
                                 .holidays = {"2026-12-25", "2027-03-14", "2026-11-01"}});
}

// Its daylight saving is half an hour.
TEST(CalendarWindowTest, NextEdgeAgreesWithAScanOnLordHowe) {
  ExpectEdgesWhereAScanSeesThem({.days = {"weekend", "tue"},
                                 .from = "22:15",
                                 .to = "01:45",
                                 .time_zone = "Australia/Lord_Howe",
                                 .holidays = {"2026-04-05"}});
}

}  // namespace
}  // namespace tandem
