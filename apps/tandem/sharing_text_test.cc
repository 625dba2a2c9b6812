// Policies, accounts, schedules and the server's state as text for people.
#include "tandem/sharing_text.h"

#include <gmock/gmock.h>

#include <cstdlib>

#include "tandem/exit_code.h"
#include "tandem/job_text.h"
#include "tandem/load_recording.h"
#include "tandem/status_text.h"
#include "tandem/top_frame.h"
#include "tandem/usage_query.h"

namespace tandem::cli {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

const Style kPlain(false);
constexpr double kMinute = 60'000, kHour = 60 * kMinute, kDay = 24 * kHour;
constexpr double kNow = 1'795'298'400'000;  // 2026-11-21 22:00 UTC, a Saturday

// Times are shown in UTC while a test runs.
class SharingText : public ::testing::Test {
 protected:
  SharingText() {
    const char* zone = getenv("TZ");
    if (zone) before_ = zone;
    had_zone_ = zone != nullptr;
    setenv("TZ", "UTC", 1);
  }
  ~SharingText() override {
    if (had_zone_) {
      setenv("TZ", before_.c_str(), 1);
    } else {
      unsetenv("TZ");
    }
  }

 private:
  std::string before_;
  bool had_zone_ = false;
};

TEST_F(SharingText, TimesSayHowFarTheyAre) {
  EXPECT_EQ(When(kNow, kNow - 3.5 * kHour), "2026-11-21 22:00 UTC (in 3 h)");
  EXPECT_EQ(When(kNow, kNow + 5 * kMinute), "2026-11-21 22:00 UTC (5 min ago)");
  EXPECT_EQ(When(kNow, kNow - 3 * kDay), "2026-11-21 22:00 UTC (in 3 days)");
  EXPECT_EQ(When(0, kNow), "-");
}

wire::PolicyState NightPolicy() {
  wire::PolicyState state;
  state.mutable_current()->set_revision(4);
  state.mutable_current()->set_when_ms(kNow - 2 * kHour);
  state.mutable_current()->set_who("anna");
  state.mutable_current()->set_why("train at night");
  state.mutable_current()->set_text("policy: windows\n");
  state.set_window("night");
  state.set_next_edge_ms(kNow + 8 * kHour);
  state.set_training_open(true);
  state.set_training_share(0.9);
  state.set_training_threads(2);
  state.set_training_cpus(1.8);
  state.set_automatic(true);
  state.set_gate(true);
  return state;
}

TEST_F(SharingText, PolicySaysWhatIsInForceAndWhy) {
  EXPECT_EQ(PolicyText(NightPolicy(), kNow, kPlain),
            "policy      revision 4, 2 h ago by anna: train at night\n"
            "share       adjusts itself\n"
            "window      night, next change 2026-11-22 06:00 UTC (in 8 h)\n"
            "training    open, share 90.0%, 2 threads, at most 1.8 CPUs\n"
            "\n"
            "policy: windows\n");
}

TEST_F(SharingText, PolicySaysWhatIsNotHeldAndWhatItDecidedItself) {
  wire::PolicyState state = NightPolicy();
  state.clear_window();
  state.set_training_open(false);
  state.set_automatic(false);
  state.set_serving_cpus(1);
  state.add_not_enforced("buffered writes of other programs");
  wire::PolicyDecision& decision = *state.add_decisions();
  decision.set_when_ms(kNow - 5 * kMinute);
  decision.set_what("training_share");
  decision.set_from(1);
  decision.set_to(0.5);
  decision.set_reason("p99 of fashion is 6.1 ms");
  std::string text = PolicyText(state, kNow, kPlain);
  EXPECT_THAT(text, HasSubstr("share       set by hand"));
  EXPECT_THAT(text, HasSubstr("window      none is open, next change"));
  EXPECT_THAT(text, HasSubstr("training    closed now, share"));
  EXPECT_THAT(text, HasSubstr("serving     at most 1 CPU\n"));
  EXPECT_THAT(text, HasSubstr("not held    buffered writes"));
  EXPECT_THAT(text, HasSubstr("5 min ago  training_share  100.0%  50.0%  p99 of fashion is 6.1 ms"));
  EXPECT_EQ(DecisionText(decision), "training_share 100.0% -> 50.0%: p99 of fashion is 6.1 ms");
  EXPECT_EQ(PolicyOutcome(state, kPlain), "revision 4 is in force\nnot held    buffered writes of other programs\n");
}

TEST_F(SharingText, PolicySaysWhatTheGateChangedLastAndHowToTurnItOff) {
  wire::PolicyState state = NightPolicy();
  for (int i = 0; i < 7; ++i) {
    wire::GateChange& change = *state.add_gate_changes();
    change.set_change("closed");
    change.set_first_ms(kNow - (i + 2) * kMinute);
    change.set_last_ms(kNow - (i + 1) * kMinute);
    change.set_times(40 + i);
    change.set_from(2);
    change.set_reason("requests run");
  }
  const std::string rows =
      "GATE       CHANGE  TIMES  FROM  TO  REASON\n"
      "1 min ago  closed     40     2   0  requests run\n"
      "2 min ago  closed     41     2   0  requests run\n"
      "3 min ago  closed     42     2   0  requests run\n"
      "4 min ago  closed     43     2   0  requests run\n"
      "5 min ago  closed     44     2   0  requests run\n";
  EXPECT_THAT(PolicyText(state, kNow, kPlain),
              HasSubstr("\n" + rows +
                        "the gate takes these back by itself; tandem policy set --set gate=false turns it off\n\n"
                        "policy: windows\n"));
  state.set_gate(false);
  EXPECT_THAT(PolicyText(state, kNow, kPlain),
              AllOf(HasSubstr("gate        off (gate: false)\n"), HasSubstr("\n" + rows + "\npolicy: windows\n")));
}

TEST_F(SharingText, HistoryMarksTheRevisionInForce) {
  wire::PolicyHistory history;
  *history.add_changes() = NightPolicy().current();
  wire::PolicyChange& first = *history.add_changes();
  first.set_revision(3);
  first.set_when_ms(kNow - 3 * kDay);
  first.set_who("settings");
  first.set_why("from the settings file");
  EXPECT_EQ(PolicyHistoryText(history, kNow, kPlain),
            "REVISION  WHEN                               WHO       WHY\n"
            "       4  2026-11-21 20:00 UTC (2 h ago)     anna      train at night          in force\n"
            "       3  2026-11-18 22:00 UTC (3 days ago)  settings  from the settings file\n");
}

wire::UsageRow Row(const std::string& side, const std::string& kind, const std::string& name, double cpu_seconds) {
  wire::UsageRow row;
  row.set_side(side);
  row.set_kind(kind);
  row.set_name(name);
  row.set_cpu_seconds(cpu_seconds);
  return row;
}

TEST_F(SharingText, UsageHasATotalAndOnlyColumnsThatAreFilled) {
  wire::UsageReport report;
  *report.add_rows() = Row("serving", "model", "fashion/2", 30);
  report.mutable_rows(0)->set_requests(12345);
  *report.add_rows() = Row("training", "job", "3 (fashion)", 3570);
  report.mutable_rows(1)->set_memory_gb_hours(0.25);
  report.mutable_rows(1)->set_disk_written_bytes(2e9);
  EXPECT_EQ(UsageText(report, kPlain),
            "all days\n"
            "SIDE      KIND   NAME                 CPU  GB HOURS  READ  WRITTEN  REQUESTS\n"
            "serving   model  fashion/2         30.0 s     0.000     -        -    12,345\n"
            "training  job    3 (fashion)  59 min 30 s     0.250     -   2.0 GB         -\n"
            "total                                 1 h     0.250     -   2.0 GB    12,345\n");
}

TEST_F(SharingText, UsageByDayNamesItsPeriod) {
  wire::UsageReport report;
  report.set_from_ms(kNow - 22 * kHour - kDay);
  report.set_to_ms(kNow + 2 * kHour);
  EXPECT_EQ(UsageText(report, kPlain), "from 2026-11-20 to 2026-11-21 (UTC)\nnothing was used\n");
  *report.add_rows() = Row("serving", "", "", 1.5);
  report.mutable_rows(0)->set_day("2026-11-20");
  std::string text = UsageText(report, kPlain);
  EXPECT_THAT(text, HasSubstr("DAY         SIDE       CPU"));
  EXPECT_THAT(text, Not(HasSubstr("NAME")));
  EXPECT_THAT(text, Not(HasSubstr("total")));
}

TEST(UsageQuery, DaysCountFromTodayOfUtc) {
  auto week = MakeUsageQuery({.days = 7}, kNow);
  ASSERT_TRUE(week.ok()) << week.status();
  EXPECT_EQ(week->from_ms, static_cast<int64_t>(kNow - 22 * kHour - 6 * kDay));
  EXPECT_EQ(week->to_ms, static_cast<int64_t>(kNow + 2 * kHour));
  EXPECT_EQ(MakeUsageQuery({}, kNow)->to_ms, 0);
  EXPECT_EQ(MakeUsageQuery({.days = 100'000}, kNow)->from_ms, 0) << "there is no time before 1970";
}

TEST(UsageQuery, TakesBothDatesWhole) {
  auto days = MakeUsageQuery({.from = "2026-11-20", .to = "2026-11-20", .by = "day", .side = "training"}, kNow);
  ASSERT_TRUE(days.ok()) << days.status();
  EXPECT_EQ(days->to_ms - days->from_ms, static_cast<int64_t>(kDay));
  EXPECT_EQ(days->to_ms, static_cast<int64_t>(kNow - 22 * kHour));
  EXPECT_EQ(days->side, "training");
  EXPECT_EQ(MakeUsageQuery({.from = "2026-11-20"}, kNow)->to_ms, static_cast<int64_t>(kNow + 2 * kHour));
  EXPECT_EQ(MakeUsageQuery({.to = "2026-11-20"}, kNow)->from_ms, 0);
}

TEST(UsageQuery, RefusesWhatContradictsItself) {
  for (const UsageOptions& bad :
       {UsageOptions{.days = 1, .from = "2026-11-20"}, UsageOptions{.days = 1.5}, UsageOptions{.from = "20.11.2026"},
        UsageOptions{.from = "2026-13-01"}, UsageOptions{.from = "2026-11-21", .to = "2026-11-20"},
        UsageOptions{.from = "2027-11-21"}, UsageOptions{.from = "1950-01-01"}, UsageOptions{.by = "hour"},
        UsageOptions{.side = "x"}, UsageOptions{.kind = "x"}}) {
    EXPECT_EQ(ExitOf(MakeUsageQuery(bad, kNow).status()), Exit::kUsage) << bad.from << bad.by << bad.days;
  }
}

TEST(LoadRecording, JoinsPollsThatOverlap) {
  LoadRecording recording;
  recording.SkipTo("unix_ms,model,requests_per_s,service_ms\n1000,a,1,1\n2000,a,2,1\n");
  EXPECT_EQ(recording.Add("unix_ms,model,requests_per_s,service_ms\n2000,a,2,1\n3000,a,3,1\n3000,b,9,1\n"),
            "unix_ms,model,requests_per_s,service_ms\n3000,a,3,1\n3000,b,9,1\n");
  EXPECT_EQ(recording.Add("unix_ms,model,requests_per_s,service_ms\n# note\n3000,a,3,1\n4500,a,4,1\n"), "4500,a,4,1\n");
  EXPECT_EQ(recording.Add(""), "");
  EXPECT_EQ(recording.lines(), 3);
  EXPECT_EQ(recording.seconds(), 1.5);
}

TEST(LoadRecording, ASilentServerGivesAHeaderOnly) {
  LoadRecording recording;
  recording.SkipTo("unix_ms,model\n");
  EXPECT_EQ(recording.Add("unix_ms,model\n"), "unix_ms,model\n");
  EXPECT_EQ(recording.Add("unix_ms,model\n"), "");
  EXPECT_EQ(recording.seconds(), 0);
}

TEST_F(SharingText, ExplanationSaysWhatWouldStartTheJob) {
  wire::JobExplanation explanation;
  explanation.mutable_job()->set_job(4);
  explanation.mutable_job()->set_name("fashion");
  explanation.mutable_job()->set_state("queued");
  explanation.set_waits_for("the window 'night'");
  explanation.set_would_start("the window opens");
  explanation.set_earliest_ms(kNow);
  explanation.add_facts("1 job stands before it.");
  wire::JobEvent& event = *explanation.add_events();
  event.set_when_ms(kNow - 2 * kHour);
  event.set_state("queued");
  event.set_reason("submitted");
  EXPECT_EQ(ExplanationText(explanation, kNow - kHour, kPlain),
            "job 4 fashion: queued\n"
            "waits for   the window 'night'\n"
            "to start    the window opens\n"
            "earliest    2026-11-21 22:00 UTC (in 1 h)\n"
            "- 1 job stands before it.\n"
            "\n"
            "WHEN                            STATE   REASON\n"
            "2026-11-21 20:00 UTC (1 h ago)  queued  submitted\n");
  explanation.set_waits_for("waits for a running job to end");
  EXPECT_THAT(ExplanationText(explanation, kNow, kPlain), HasSubstr("\nwaits for   a running job to end\n"));
  wire::JobExplanation running;
  running.mutable_job()->set_state("running");
  EXPECT_THAT(ExplanationText(running, kNow, kPlain), HasSubstr("waits for   nothing\n"));
}

TEST_F(SharingText, RecurringJobsShowTheirNextRun) {
  wire::RecurringList list;
  EXPECT_THAT(RecurringListText(list, kNow, kPlain), HasSubstr("no recurring jobs"));
  wire::RecurringJob& nightly = *list.add_recurring();
  nightly.set_id(2);
  nightly.set_name("nightly");
  nightly.set_cron("0 22 * * *");
  nightly.set_time_zone("UTC");
  nightly.set_catch_up("one");
  nightly.set_next_ms(kNow);
  nightly.set_last_ms(kNow - kDay);
  nightly.set_last_job(7);
  nightly.set_note("job 7 was submitted");
  nightly.set_spec("name: nightly");
  EXPECT_EQ(RecurringListText(list, kNow - kHour, kPlain),
            "ID  NAME     CRON        ZONE  NEXT                           LAST JOB  NOTE\n"
            " 2  nightly  0 22 * * *  UTC   2026-11-21 22:00 UTC (in 1 h)         7  job 7 was submitted\n");
  EXPECT_EQ(RecurringOutcome(nightly, kNow - kHour),
            "recurring job 2 (nightly) runs next 2026-11-21 22:00 UTC (in 1 h)");
  EXPECT_THAT(RecurringText(nightly, kNow - kHour, kPlain),
              HasSubstr("last        2026-11-20 22:00 UTC (23 h ago), job 7\n"));
  EXPECT_THAT(RecurringText(nightly, kNow - kHour, kPlain),
              AllOf(HasSubstr("note        job 7 was submitted\ncatch-up    one\n"), EndsWith("\nname: nightly\n")));
}

wire::Status WaitingServer() {
  wire::Status status;
  status.set_isolation("real-time serving, idle training");
  status.set_rung("realtime");
  status.set_policy("windows, window night");
  wire::Job& waiting = *status.add_active_jobs();
  waiting.set_job(4);
  waiting.set_name("fashion");
  waiting.set_state("queued");
  waiting.set_reason("waits for the window 'weekend'");
  wire::Job& running = *status.add_active_jobs();
  running.set_job(3);
  running.set_state("running");
  running.set_reason("fills gaps");
  return status;
}

TEST_F(SharingText, StatusShowsRungPolicyAndWhyJobsWait) {
  std::string text = StatusText(WaitingServer(), kNow, kPlain);
  EXPECT_THAT(text, HasSubstr("isolation  realtime: real-time serving, idle training\n"));
  EXPECT_THAT(text, HasSubstr("policy     windows, window night\n"));
  EXPECT_THAT(text, HasSubstr("job 4 queued: waits for the window 'weekend'\n"));
  EXPECT_THAT(text, Not(HasSubstr("fills gaps")));
}

TEST_F(SharingText, StatusShowsTheDiskAreasAndTheLimitsThatAreSet) {
  wire::Status status = WaitingServer();
  wire::DiskArea& serving = *status.add_disk_areas();
  serving.set_side("serving");
  serving.set_root("/mnt/models");
  serving.set_used_bytes(1.2e9);
  serving.set_limit_bytes(20e9);
  wire::DiskArea& training = *status.add_disk_areas();
  training.set_side("training");
  training.set_root("/data");
  training.set_used_bytes(340e6);
  EXPECT_THAT(StatusText(status, kNow, kPlain), HasSubstr("disk       serving 1.2 GB of 20 GB in /mnt/models\n"
                                                          "disk       training 340 MB in /data\n"));
}

TEST_F(SharingText, TopShowsRungPolicyAndWhyJobsWait) {
  std::string frame = TopFrame(WaitingServer(), 100, 1000, kPlain);
  EXPECT_THAT(frame, HasSubstr("isolation: realtime  policy: windows, window night\n"));
  EXPECT_THAT(frame, HasSubstr("job 4 fashion queued  waits for the window 'weekend'\n"));
  EXPECT_THAT(frame, Not(HasSubstr("fills gaps")));
}

}  // namespace
}  // namespace tandem::cli
