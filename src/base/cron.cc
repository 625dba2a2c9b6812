// Cron expressions (declared in calendar.h).
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "base/calendar.h"
#include "base/status.h"

namespace tandem {
namespace {

struct Field {
  std::string_view name;
  int low, high;
  std::vector<std::string> names;  // of low, low + 1 ...
};

const std::vector<Field>& Fields() {
  static const auto& fields = *new std::vector<Field>{
      {"minute", 0, 59, {}},
      {"hour", 0, 23, {}},
      {"day-of-month", 1, 31, {}},
      {"month", 1, 12, {"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
      {"day-of-week", 0, 7, {"sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun"}}};
  return fields;
}

absl::StatusOr<int> ParseValue(const Field& field, const std::string& text, bool ends_range) {
  // As the end of a range, sun is 7: fri-sun.
  if (ends_range && !field.names.empty() && field.names.back() == text) return field.high;
  auto name = std::find(field.names.begin(), field.names.end(), text);
  if (name != field.names.end()) return field.low + static_cast<int>(name - field.names.begin());
  int value = 0;
  const bool digits = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
  if (!digits || !absl::SimpleAtoi(text, &value) || value < field.low || value > field.high) {
    return InvalidArgument(field.name, ": '", text, "' is not in ", field.low, "-", field.high,
                           field.names.empty() ? "" : StrCat(" or ", field.names.front(), ".."));
  }
  return value;
}

// One of a field's comma-separated items: *, 5, 5-9, each also with /step; 5/step runs to the field's end.
absl::StatusOr<uint64_t> ParseItem(const Field& field, const std::string& item) {
  const std::pair<std::string, std::string> stepped = absl::StrSplit(item, absl::MaxSplits('/', 1));
  const auto& [range, step_text] = stepped;
  int step = 1;
  const bool has_step = item.find('/') != std::string::npos;
  if (has_step && (!absl::SimpleAtoi(step_text, &step) || step < 1 || step > field.high)) {
    return InvalidArgument(field.name, ": the step of '", item, "' is not in 1-", field.high);
  }
  int low = field.low, high = field.high;
  if (range != "*") {
    const std::pair<std::string, std::string> ends = absl::StrSplit(range, absl::MaxSplits('-', 1));
    TANDEM_ASSIGN_OR_RETURN(low, ParseValue(field, ends.first, false));
    if (range.find('-') != std::string::npos) {
      TANDEM_ASSIGN_OR_RETURN(high, ParseValue(field, ends.second, true));
    } else if (!has_step) {
      high = low;
    }
    if (high < low) {
      return InvalidArgument(field.name, ": '", range, "' runs backwards; write it as two ranges, ", low, "-",
                             field.high, ",", field.low, "-", high);
    }
  }
  uint64_t bits = 0;
  for (int value = low; value <= high; value += step) bits |= uint64_t{1} << value;
  return bits;
}

absl::StatusOr<uint64_t> ParseField(const Field& field, const std::string& text) {
  uint64_t bits = 0;
  for (const std::string& item : std::vector<std::string>(absl::StrSplit(text, ','))) {
    TANDEM_ASSIGN_OR_RETURN(uint64_t more, ParseItem(field, item));
    bits |= more;
  }
  return bits;
}

std::string_view Expand(std::string_view text) {
  static constexpr std::pair<std::string_view, std::string_view> kNicknames[] = {
      {"@hourly", "0 * * * *"}, {"@daily", "0 0 * * *"}, {"@weekly", "0 0 * * 0"}, {"@monthly", "0 0 1 * *"}};
  for (const auto& [name, meaning] : kNicknames) {
    if (text == name) return meaning;
  }
  return text;
}

}  // namespace

absl::StatusOr<Cron> Cron::Parse(std::string_view text, absl::TimeZone zone) {
  const std::string lower = absl::AsciiStrToLower(AbslView(text));
  const std::vector<std::string> parts = absl::StrSplit(AbslView(Expand(StdView(absl::StripAsciiWhitespace(lower)))),
                                                        absl::ByAnyChar(" \t"), absl::SkipEmpty());
  if (parts.size() != Fields().size()) {
    return InvalidArgument(
        "cron '", text, "' has ", parts.size(),
        " fields, must have 5: minute hour day-of-month month day-of-week (\"0 22 * * mon-fri\"), or "
        "@hourly, @daily, @weekly, @monthly");
  }
  uint64_t bits[5];
  for (size_t i = 0; i < parts.size(); ++i) {
    absl::StatusOr<uint64_t> parsed = ParseField(Fields()[i], parts[i]);
    if (!parsed.ok()) return Annotate(parsed.status(), StrCat("cron '", text, "'"));
    bits[i] = *parsed;
  }
  Cron cron;
  cron.text_ = std::string(text);
  cron.zone_ = zone;
  cron.minutes_ = bits[0];
  cron.hours_ = static_cast<uint32_t>(bits[1]);
  cron.days_ = static_cast<uint32_t>(bits[2]);
  cron.months_ = static_cast<uint32_t>(bits[3]);
  cron.weekdays_ = static_cast<uint32_t>(bits[4] | bits[4] >> 7);  // 7 is 0
  cron.any_day_ = parts[2].front() == '*';
  cron.any_weekday_ = parts[4].front() == '*';
  return cron;
}

bool Cron::Matches(absl::CivilDay day) const {
  // absl counts from Monday, cron from Sunday.
  const int weekday = (static_cast<int>(absl::GetWeekday(day)) + 1) % 7;
  const bool by_date = (days_ >> day.day() & 1) != 0, by_weekday = (weekdays_ >> weekday & 1) != 0;
  return any_day_ || any_weekday_ ? by_date && by_weekday : by_date || by_weekday;
}

std::optional<int64_t> Cron::Next(int64_t after_ms) const {
  // Instants rise with civil minutes (skipped ones share one instant, repeated ones count once), so the first minute
  // whose instant is late enough is the answer, and none before `now` can be.
  const absl::CivilMinute now(zone_.At(absl::FromUnixMillis(after_ms)).cs);
  const absl::CivilDay last = absl::CivilDay(now) + int64_t{9} * 366;
  for (absl::CivilDay day(now); day <= last; ++day) {
    if ((months_ >> day.month() & 1) == 0) {
      day = absl::CivilDay(absl::CivilMonth(day) + 1) - 1;
      continue;
    }
    if (!Matches(day)) continue;
    for (int of_day = 0; of_day < 24 * 60; ++of_day) {
      if ((hours_ >> (of_day / 60) & 1) == 0 || (minutes_ >> (of_day % 60) & 1) == 0) continue;
      const absl::CivilMinute minute = absl::CivilMinute(day) + of_day;
      if (minute < now) continue;
      const absl::TimeZone::TimeInfo info = zone_.At(absl::CivilSecond(minute));
      const bool skipped = info.kind == absl::TimeZone::TimeInfo::SKIPPED;
      const int64_t at_ms = absl::ToUnixMillis(skipped ? info.trans : info.pre);
      if (at_ms > after_ms) return at_ms;
    }
  }
  return std::nullopt;
}

}  // namespace tandem
