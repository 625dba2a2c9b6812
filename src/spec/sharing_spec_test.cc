#include "spec/sharing_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "absl/time/civil_time.h"
#include "base/strings.h"
#include "spec/sharing_node.h"

namespace tandem::spec {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;
using ::testing::StartsWith;

SharingSpec MustParse(std::string_view yaml, const std::vector<std::string>& overrides = {}) {
  absl::StatusOr<SharingSpec> sharing = ParseSharing(yaml, "share.yaml", overrides);
  EXPECT_TRUE(sharing.ok()) << sharing.status();
  return sharing.ok() ? *sharing : SharingSpec();
}

std::string ErrorOf(std::string_view yaml, const std::vector<std::string>& overrides = {}) {
  absl::StatusOr<SharingSpec> sharing = ParseSharing(yaml, "share.yaml", overrides);
  EXPECT_FALSE(sharing.ok()) << yaml;
  return std::string(MessageOf(sharing.status()));
}

int64_t Berlin(int day, int hour) {  // of January 2026; the 5th is a Monday
  return absl::ToUnixMillis(absl::FromCivil(absl::CivilHour(2026, 1, day, hour), *LoadZone("Europe/Berlin")));
}

constexpr std::string_view kFull = R"(
policy: windows
automatic: false
training_share: 80%
min_training: 0.025
gate: false
lend: false
serving: {cpu: 70%, memory: 60%, disk_write: 50MB/s, disk_read: 0, disk_iops: 2000, disk_area: 20GB}
training: {cpu: 0.3, memory: 40%, disk_write: 20000000, disk_area: 100GB}
ratio: {training: 70%, every: 10s}
time_zone: Europe/Berlin
holidays: [2026-12-25]
slo_ms: {fashion: 5, größe: 0.25}
windows:
  - {name: weekend, days: [weekend, holidays], training: {cpu: 100%}, ratio: none, lend: true, over: night}
  - {name: night, days: daily, from: "22:00", to: "06:00", serving: {cpu: 10%}}
  - {name: lunch, days: wed, from: 12:00, to: 13:00, training: {memory: 30%, disk_write: 0}, time_zone: UTC}
)";

TEST(SharingSpec, AnOverrideOfOneSideGivesTheOtherTheRest) {
  const std::string both =
      "serving: {cpu: 70%}\ntraining: {cpu: 30%}\nwindows:\n- {name: n, from: '1:00', to: '2:00', serving: {cpu: 10%}, "
      "training: {cpu: 90%}}\n";
  SharingSpec one = MustParse(both, {"training.cpu=20%", "windows.n.serving.cpu=40%"});
  EXPECT_DOUBLE_EQ(one.split.serving.cpu, 0.8);
  EXPECT_DOUBLE_EQ(one.split.training.cpu, 0.2);
  EXPECT_DOUBLE_EQ(one.windows[0].split.serving.cpu, 0.4);
  EXPECT_DOUBLE_EQ(one.windows[0].split.training.cpu, 0.6);
  SharingSpec gap = MustParse(both, {"training.cpu=20%", "serving.cpu=50%"});
  EXPECT_DOUBLE_EQ(gap.split.serving.cpu, 0.5);
  EXPECT_DOUBLE_EQ(gap.split.training.cpu, 0.2);
}

TEST(SharingSpec, GivesServingTheMachineWithoutAnyKey) {
  SharingSpec sharing = MustParse("");
  EXPECT_EQ(sharing.policy, "latency_first");
  EXPECT_TRUE(sharing.automatic);
  EXPECT_TRUE(sharing.gate);
  EXPECT_TRUE(sharing.split == SplitSpec());
  EXPECT_EQ(sharing.split.serving.cpu, 1);
  EXPECT_TRUE(sharing.windows.empty());
}

TEST(SharingSpec, TheTextOfADocumentWithTheGateOnDoesNotNameIt) {
  EXPECT_EQ(ToYaml(MustParse("gate: true")), ToYaml(MustParse("")));
  EXPECT_THAT(ToYaml(MustParse("gate: true")), Not(HasSubstr("gate")));
  EXPECT_THAT(ToYaml(MustParse("", {"gate=false"})), HasSubstr("gate: false\n"));
}

TEST(SharingSpec, ReadsEveryKey) {
  SharingSpec sharing = MustParse(kFull);
  EXPECT_EQ(sharing.policy, "windows");
  EXPECT_FALSE(sharing.automatic);
  EXPECT_FALSE(sharing.gate);
  EXPECT_EQ(sharing.training_share, 0.8);
  EXPECT_EQ(sharing.min_training, 0.025);
  EXPECT_FALSE(sharing.split.lend);
  EXPECT_EQ(sharing.split.serving.cpu, 0.7);
  EXPECT_EQ(sharing.split.serving.disk_write_bytes_per_s, 50'000'000);
  EXPECT_EQ(sharing.split.serving.disk_read_bytes_per_s, 0);
  EXPECT_EQ(sharing.split.serving.disk_iops, 2000);
  EXPECT_EQ(sharing.split.serving.disk_area_bytes, 20'000'000'000);
  EXPECT_EQ(sharing.split.training.memory, 0.4);
  EXPECT_EQ(sharing.split.training.disk_write_bytes_per_s, 20'000'000);
  EXPECT_EQ(sharing.split.ratio_training, 0.7);
  EXPECT_EQ(sharing.split.ratio_every_s, 10);
  EXPECT_THAT(sharing.slo_ms, ElementsAre(Pair("fashion", 5), Pair("größe", 0.25)));
  EXPECT_THAT(sharing.holidays, ElementsAre("2026-12-25"));
}

TEST(SharingSpec, AWindowTakesWhatItDoesNotSayFromTheOuterLevel) {
  SharingSpec sharing = MustParse(kFull);
  ASSERT_EQ(sharing.windows.size(), 3u);
  const WindowOfSharing &weekend = sharing.windows[0], &night = sharing.windows[1], &lunch = sharing.windows[2];
  EXPECT_EQ(weekend.split.training.cpu, 1);
  EXPECT_EQ(weekend.split.serving.cpu, 0);
  EXPECT_EQ(weekend.split.serving.memory, 0.6);
  EXPECT_TRUE(weekend.split.lend);
  EXPECT_EQ(weekend.split.ratio_every_s, 0);
  EXPECT_EQ(night.split.serving.cpu, 0.1);
  EXPECT_EQ(night.split.training.cpu, 0.9);
  EXPECT_FALSE(night.split.lend);
  EXPECT_EQ(night.split.ratio_training, 0.7);
  EXPECT_EQ(lunch.split.serving.cpu, 0.7);
  EXPECT_EQ(lunch.split.training.disk_write_bytes_per_s, 0);
  EXPECT_EQ(lunch.when.from, "12:00");
  EXPECT_TRUE(night.window.IsOpen(Berlin(5, 23)));
  EXPECT_FALSE(night.window.IsOpen(Berlin(5, 21)));
  EXPECT_FALSE(lunch.window.IsOpen(Berlin(7, 12)));  // 11:00 UTC
  EXPECT_TRUE(lunch.window.IsOpen(Berlin(7, 13)));
}

TEST(SharingSpec, CanonicalYamlReadsBackAsTheSame) {
  for (std::string_view text :
       {kFull, std::string_view(""), std::string_view("training: {cpu: 33.3%}\nmin_training: 0.123456789"),
        std::string_view("serving: {cpu: 0.07, memory: 12.5%, disk_write: 1234567, disk_iops: 1}"),
        std::string_view("lend: false\nserving: {cpu: 50%}\nwindows: [{name: 1, from: '01:00', to: '02:00', "
                         "serving: {cpu: 10%}, training: {cpu: 20%}, ratio: {training: 0%, every: 100ms}}]")}) {
    SharingSpec sharing = MustParse(text);
    std::string yaml = ToYaml(sharing);
    SharingSpec back = MustParse(yaml);
    EXPECT_EQ(ToYaml(back), yaml);
    EXPECT_TRUE(back.split == sharing.split) << yaml;
    EXPECT_EQ(back.policy, sharing.policy);
    EXPECT_EQ(back.automatic, sharing.automatic);
    EXPECT_EQ(back.gate, sharing.gate);
    EXPECT_EQ(back.training_share, sharing.training_share);
    EXPECT_EQ(back.min_training, sharing.min_training);
    EXPECT_EQ(back.time_zone, sharing.time_zone);
    EXPECT_EQ(back.holidays, sharing.holidays);
    EXPECT_EQ(back.slo_ms, sharing.slo_ms);
    ASSERT_EQ(back.windows.size(), sharing.windows.size());
    for (size_t i = 0; i < back.windows.size(); ++i) {
      EXPECT_EQ(back.windows[i].name, sharing.windows[i].name);
      EXPECT_TRUE(back.windows[i].split == sharing.windows[i].split) << yaml;
      EXPECT_EQ(back.windows[i].when.days, sharing.windows[i].when.days);
      EXPECT_EQ(back.windows[i].when.time_zone, sharing.windows[i].when.time_zone);
      EXPECT_EQ(back.windows[i].over, sharing.windows[i].over);
    }
  }
}

TEST(SharingSpec, CanonicalYamlIsForPeople) {
  std::string yaml = ToYaml(MustParse(kFull));
  EXPECT_THAT(yaml, HasSubstr("serving:\n  cpu: 70%\n  memory: 60%\n  disk_write: 50MB/s\n"));
  EXPECT_THAT(yaml, HasSubstr("windows:\n  - {name: weekend, "));
  EXPECT_THAT(yaml, HasSubstr("\n  - {name: night, days: [daily], from: \"22:00\", to: \"06:00\", "
                              "serving: {cpu: 10%}, training: {cpu: 90%}}\n"));
}

TEST(SharingSpec, RefusesSharesOfMoreThanTheMachineWithBothValues) {
  EXPECT_EQ(ErrorOf("serving: {cpu: 70%}\ntraining:\n  cpu: 40%"),
            "share.yaml:3:8: serving.cpu is 70% and training.cpu is 40%, together 110%; the machine has 100%: lower "
            "one of them");
  EXPECT_THAT(ErrorOf("serving: {memory: 70%}\ntraining: {memory: 40%}"), HasSubstr("training.memory is 40%"));
  EXPECT_THAT(ErrorOf("serving: {memory: 70%}\nwindows:\n- {name: a, training: {memory: 40%}}"),
              HasSubstr("share.yaml:3:32: windows.0.serving.memory is 70% and windows.0.training.memory is 40%"));
  MustParse("serving: {cpu: 70%}\ntraining: {cpu: 30%}");
}

TEST(SharingSpec, NamesWrongValuesWithTheirPlace) {
  EXPECT_EQ(ErrorOf("serving: {cpu: 70}"),
            "share.yaml:1:16: serving.cpu is '70'; it must be a share from 0% to 100%, like 70% or 0.7");
  for (std::string_view bad : {"-1%", "101%", "'%'", "nan", "1.01", "half", "[1]"}) {
    EXPECT_THAT(ErrorOf(StrCat("serving: {cpu: ", bad, "}")), HasSubstr("serving.cpu is ")) << bad;
  }
  EXPECT_THAT(ErrorOf("serving: {disk_write: 50MB/m}"), HasSubstr("like 50MB/s; 0 = no limit"));
  EXPECT_EQ(
      ErrorOf("training: {disk_write: 5}"),
      "share.yaml:1:24: training.disk_write is '5'; it must be bytes a second, 1kB/s or more, like 50MB/s; 0 = no "
      "limit");
  EXPECT_EQ(ErrorOf("servin: {cpu: 1}"), "share.yaml:1:1: unknown key 'servin'; did you mean 'serving'?");
  EXPECT_THAT(ErrorOf("serving: {cpus: 1}"), HasSubstr("did you mean 'cpu'?"));
  EXPECT_THAT(ErrorOf("policy: latency"), HasSubstr("one of latency_first, windows, static_split"));
  EXPECT_THAT(ErrorOf("training_share: 0%"), HasSubstr("a share from 1% to 100%"));
  EXPECT_THAT(ErrorOf("training_share: 4%"), HasSubstr("min_training is 5%, more than training_share of 4%"));
  EXPECT_THAT(ErrorOf("ratio: {training: 130%}"), HasSubstr("ratio.training is '130%'"));
  EXPECT_THAT(ErrorOf("ratio: {every: 10s}"), HasSubstr("share.yaml:1:8: ratio.training is missing"));
  EXPECT_THAT(ErrorOf("ratio: 70:30"), HasSubstr("none, or a map like"));
  EXPECT_THAT(ErrorOf("ratio: {training: 1, every: 1ms}"), HasSubstr("ratio.every is '1ms'"));
  EXPECT_THAT(ErrorOf("time_zone: Berlin"), StartsWith("share.yaml:1:12: time_zone: 'Berlin' is not known"));
  EXPECT_THAT(ErrorOf("holidays: [25.12.2026]"), StartsWith("share.yaml:1:11: holidays: '25.12.2026'"));
  EXPECT_THAT(ErrorOf("- a"), HasSubstr("a map of keys"));
}

TEST(SharingSpec, TakesTargetsOfUnknownModelsButNotOfZero) {
  EXPECT_THAT(MustParse("slo_ms: {not-loaded-yet: 0.5}").slo_ms, ElementsAre(Pair("not-loaded-yet", 0.5)));
  EXPECT_THAT(ErrorOf("slo_ms: {fashion: 0}"), HasSubstr("share.yaml:1:19: slo_ms.fashion is '0'"));
  EXPECT_THAT(ErrorOf("slo_ms: {fashion: -5}"), HasSubstr("slo_ms.fashion is '-5'"));
  EXPECT_THAT(ErrorOf("slo_ms: {a/b: 5}"), StartsWith("share.yaml:1:10: slo_ms: model name 'a/b'"));
  EXPECT_THAT(ErrorOf("slo_ms: 5"), HasSubstr("{fashion: 5}"));
}

TEST(SharingSpec, RefusesASideThatCouldNeverRun) {
  EXPECT_EQ(ErrorOf("serving: {cpu: 100%}\nlend: false"),
            "share.yaml:2:7: training could never run: its share, or its part of the ratio, is 0% and nothing is lent "
            "to it; give it a share, or set lend: true");
  EXPECT_THAT(ErrorOf("training: {cpu: 100%}\nlend: false"), HasSubstr("serving could never run"));
  EXPECT_THAT(ErrorOf("ratio: {training: 0%}"), HasSubstr("training could never run"));
  EXPECT_THAT(ErrorOf("lend: false\nwindows: [{name: a, from: '01:00', to: '02:00'}]"),
              HasSubstr("outside the windows and in each of them"));
  MustParse("lend: false\nwindows: [{name: a, from: '01:00', to: '02:00', training: {cpu: 1%}}]");
  MustParse("ratio: {training: 0%}\nwindows: [{name: a, from: '01:00', to: '02:00', ratio: none}]");
}

TEST(SharingSpec, RefusesAWindowThatNeverOpens) {
  EXPECT_EQ(ErrorOf("windows:\n- name: a\n  days: holidays"),
            "share.yaml:3:9: windows.0.days: the window never opens: it is for holidays, and none is listed; add them "
            "to holidays");
}

TEST(SharingSpec, NamesWhatIsWrongWithAWindow) {
  EXPECT_THAT(ErrorOf("windows:\n- {days: mon}"), StartsWith("share.yaml:2:3: windows.0.name is missing"));
  EXPECT_THAT(ErrorOf("windows:\n- {name: a, days: [mon, tues]}"),
              AllOf(StartsWith("share.yaml:2:19: windows.0.days: 'tues'"), HasSubstr("did you mean 'tue'?")));
  EXPECT_THAT(ErrorOf("windows: [{name: a, to: '24:30'}]"), StartsWith("share.yaml:1:25: windows.0.to: '24:30'"));
  EXPECT_THAT(ErrorOf("windows: [{name: a, time_zone: Nowhere}]"), StartsWith("share.yaml:1:32: time_zone: 'Nowhere'"));
  EXPECT_THAT(ErrorOf("windows: [{name: a, serving: {disk_area: 1GB}}]"), HasSubstr("holds at all times"));
  EXPECT_THAT(ErrorOf("windows: {name: a}"), HasSubstr("a list of up to 64 windows"));
  EXPECT_EQ(ErrorOf("windows:\n- {name: a, days: mon}\n- {name: a, days: tue}"),
            "share.yaml:3:3: the window name 'a' is given twice (first in line 2); rename one");
}

TEST(SharingSpec, RefusesWindowsThatContradictEachOtherWithBothLines) {
  constexpr std::string_view kBoth =
      "time_zone: Europe/Berlin\nwindows:\n"
      "  - {name: evening, days: mon, from: '18:00', to: '23:00', training: {cpu: 10%}}\n"
      "  - {name: night, from: '22:00', to: '06:00', training: {cpu: 90%}}\n";
  EXPECT_EQ(ErrorOf(kBoth),
            "share.yaml:4:5: windows 'evening' (line 3) and 'night' (line 4) are both open on Monday 2026-01-05 from "
            "22:00 and give training.cpu 10% and 90%; change the hours of one, or let 'evening' win there: over: "
            "night");
  MustParse(kBoth, {"windows.night.training.cpu=10%"});
  MustParse(kBoth, {"windows.0.over=night"});
  MustParse(kBoth, {"windows.evening.to=22:00"});
  EXPECT_THAT(ErrorOf(kBoth, {"windows.night.training.cpu=10%", "windows.night.lend=false"}),
              HasSubstr("give lend true and false"));
  EXPECT_THAT(ErrorOf(kBoth, {"windows.night.training.cpu=10%", "windows.night.ratio={training: 1%}"}),
              HasSubstr("give ratio none and 1% every 10s"));
}

TEST(SharingSpec, FindsAContradictionOnOneHolidayFarAway) {
  constexpr std::string_view kHoliday =
      "holidays: [2040-12-25]\nwindows:\n"
      "  - {name: feast, days: holidays, training: {cpu: 10%}}\n"
      "  - {name: night, from: '22:00', to: '06:00', training: {cpu: 90%}, time_zone: UTC}\n";
  EXPECT_THAT(ErrorOf(kHoliday, {"time_zone=UTC"}), HasSubstr("both open on Tuesday 2040-12-25 from 00:00"));
  MustParse(kHoliday, {"time_zone=UTC", "windows.night.days=[wed, thu, fri, sat, sun]"});
  // Monday's night lasts into the holiday.
  EXPECT_THAT(ErrorOf(kHoliday, {"time_zone=UTC", "windows.night.days=mon"}), HasSubstr("2040-12-25 from 00:00"));
}

TEST(SharingSpec, WindowsThatFollowEachOtherDoNotContradictWhenTheClockIsSetBack) {
  MustParse(
      "time_zone: Europe/Berlin\nwindows:\n"
      "  - {name: night, from: '22:00', to: '02:30', training: {cpu: 90%}}\n"
      "  - {name: morning, from: '02:30', to: '08:00', training: {cpu: 10%}}\n");
}

TEST(SharingSpec, AHolidayHidesNoContradictionOfOtherWeeks) {
  EXPECT_THAT(ErrorOf("holidays: [2026-01-06]\ntime_zone: UTC\nwindows:\n"
                      "  - {name: a, days: tue, training: {cpu: 90%}}\n"
                      "  - {name: b, days: weekdays, training: {cpu: 10%}}\n"),
              HasSubstr("both open on Tuesday 2026-01-06 from 00:00"));
}

TEST(SharingSpec, FindsAContradictionOfTwoZonesInSummerOnly) {
  constexpr std::string_view kZones =
      "windows:\n"
      "  - {name: a, from: '12:00', to: '13:00', time_zone: UTC, training: {cpu: 90%}}\n"
      "  - {name: b, from: '14:00', to: '15:00', time_zone: Europe/Berlin, training: {cpu: 10%}}\n";
  EXPECT_THAT(ErrorOf(kZones), HasSubstr("both open on Sunday 2026-03-29 from 12:00"));
  MustParse(kZones, {"windows.b.time_zone=Africa/Lagos"});
}

TEST(SharingSpec, WantsAWindowThatWinsToStandAboveTheOther) {
  EXPECT_EQ(ErrorOf("windows:\n- {name: a, days: mon, training: {cpu: 1%}}\n- {name: b, training: {cpu: 2%}, over: a}"),
            "share.yaml:3:40: window 'b' is to be over 'a' (line 2); write it above that one, since the first open "
            "window counts");
  EXPECT_THAT(ErrorOf("windows:\n- {name: a, over: [c]}"), HasSubstr("over 'c', which is no window"));
  EXPECT_THAT(ErrorOf("windows:\n- {name: a, over: a}"), HasSubstr("write it above"));
}

TEST(SharingSpec, AppliesOverridesAlsoInsideWindows) {
  SharingSpec sharing = MustParse(kFull, {"windows.1.from=23:00", "windows.night.to=05:00",
                                          "windows.lunch=", "slo_ms.fashion=7", "training.cpu=20%", "serving.cpu="});
  ASSERT_EQ(sharing.windows.size(), 2u);
  EXPECT_EQ(sharing.windows[1].when.from, "23:00");
  EXPECT_EQ(sharing.windows[1].when.to, "05:00");
  EXPECT_EQ(sharing.slo_ms["fashion"], 7);
  EXPECT_EQ(sharing.split.serving.cpu, 0.8);
  EXPECT_EQ(MustParse("", {"windows=[{name: a}]"}).windows.size(), 1u);
  EXPECT_EQ(ErrorOf(kFull, {"windows.3.from=23:00"}),
            "--set windows.3.from=23:00: 'windows.3' is no entry of the list: it has 3; give an index from 0, or the "
            "name of an entry");
  EXPECT_THAT(ErrorOf(kFull, {"windows.night.from=99:00"}),
              StartsWith("--set windows.night.from=99:00: windows.1.from"));
  EXPECT_THAT(ErrorOf(kFull, {"lend.x=1"}), HasSubstr("'lend' is not a map"));
}

TEST(SharingSpec, ChecksManyWindowsQuickly) {
  std::string yaml = "time_zone: UTC\nwindows:\n";
  for (int i = 0; i < 64; ++i) {
    auto two = [](int n) { return StrCat(n < 10 ? "0" : "", n); };
    StrAppend(&yaml, "  - {name: w", i, ", from: '", two(i / 3), ":", two(i % 3 * 20), "', to: '", two(i / 3), ":",
              two(i % 3 * 20 + 19), "', training: {cpu: ", i, "%}}\n");
  }
  auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(MustParse(yaml).windows.size(), 64u);
  RecordProperty("ms", static_cast<int>((std::chrono::steady_clock::now() - begin) / std::chrono::milliseconds(1)));
}

TEST(SharingSpec, SaysTheLineOfAPlaceOrThePlaceItself) {
  EXPECT_EQ(LineOf("/a:b/c.yaml:12:3"), "line 12");
  EXPECT_EQ(LineOf("--set a=12:30:10"), "--set a=12:30:10");
  EXPECT_EQ(LineOf("nowhere"), "nowhere");
}

}  // namespace
}  // namespace tandem::spec
