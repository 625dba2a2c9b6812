#include "jobs/recurring.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <thread>

#include "absl/time/civil_time.h"
#include "absl/time/time.h"
#include "base/calendar.h"
#include "base/status.h"
#include "jobs/job_store.h"

namespace tandem::jobs {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Code = absl::StatusCode;

constexpr int64_t kMinute = 60'000, kHour = 60 * kMinute;

int64_t In(std::string_view zone, int year, int month, int day, int hour, int minute) {
  return absl::ToUnixMillis(absl::FromCivil(absl::CivilMinute(year, month, day, hour, minute), *LoadZone(zone)));
}
int64_t Utc(int month, int day, int hour, int minute = 0) { return In("UTC", 2026, month, day, hour, minute); }

class RecurringTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / StrCat("tandem_recurring_", getpid());
    fs::remove_all(folder_);
    clock_.SetUnixMillis(Utc(3, 10, 12));
    Reopen();
  }
  void TearDown() override {
    Close();
    fs::remove_all(folder_);
  }
  void Close() {
    recurring_.reset();
    jobs_.reset();
    store_.reset();
  }
  void Reopen() {
    Close();
    std::vector<storage::Migration> all = Migrations();
    all.insert(all.end(), RecurringMigrations().begin(), RecurringMigrations().end());
    store_ = *storage::Store::Open(folder_ / "tandem.db", all);
    std::vector<std::string> recovered;
    jobs_ = *JobStore::Open(store_.get(), &clock_, &recovered);
    recurring_ = *RecurringStore::Open(store_.get(), &clock_);
  }

  static RecurringRecord Record(std::string_view cron, std::string_view catch_up = "one",
                                std::string_view zone = "UTC") {
    RecurringRecord record;
    record.name = "nightly";
    record.spec = "batch: 1\n";
    record.submitted_by = "me";
    record.cron = cron;
    record.time_zone = zone;
    record.catch_up = catch_up;
    return record;
  }
  int32_t Add(std::string_view cron, std::string_view catch_up = "one", std::string_view zone = "UTC") {
    absl::StatusOr<RecurringRecord> added = recurring_->Add(Record(cron, catch_up, zone));
    EXPECT_TRUE(added.ok()) << added.status();
    return added.ok() ? added->id : 0;
  }
  std::vector<int64_t> DueTimes() const {
    std::vector<int64_t> times;
    for (const DueRun& run : recurring_->Due()) times.push_back(run.due_ms);
    return times;
  }
  // What a daemon does: submits and tells so.
  std::vector<int32_t> RunDue() {
    std::vector<int32_t> submitted;
    for (const DueRun& run : recurring_->Due()) {
      JobRecord job;
      job.name = run.record.name;
      job.spec = run.record.spec;
      job.idempotency_key = run.idempotency_key;
      job.recurring = run.record.id;
      submitted.push_back(jobs_->Submit(job)->id);
      EXPECT_TRUE(recurring_->Handled(run.record.id, run.due_ms, submitted.back(), "submitted").ok());
    }
    return submitted;
  }
  // The times at which runs are due when the clock goes from `from_ms` to `to_ms` in steps.
  std::vector<int64_t> Walk(int64_t from_ms, int64_t to_ms, int64_t step_ms) {
    std::vector<int64_t> times;
    for (int64_t now = from_ms; now <= to_ms; now += step_ms) {
      clock_.SetUnixMillis(now);
      for (int64_t due : DueTimes()) times.push_back(due);
      RunDue();
    }
    return times;
  }
  RecurringRecord Get(int32_t id) { return recurring_->Get(id).value(); }

  fs::path folder_;
  FakeClock clock_;
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<JobStore> jobs_;
  std::unique_ptr<RecurringStore> recurring_;
};

TEST_F(RecurringTest, IsDueAtEachTimeOfItsCronOnce) {
  int32_t id = Add("30 2 * * *");
  EXPECT_EQ(Get(id).next_ms, Utc(3, 11, 2, 30));
  EXPECT_THAT(Walk(Utc(3, 10, 12), Utc(3, 13, 12), 10 * kMinute),
              ElementsAre(Utc(3, 11, 2, 30), Utc(3, 12, 2, 30), Utc(3, 13, 2, 30)));
  RecurringRecord record = Get(id);
  EXPECT_EQ(record.last_ms, Utc(3, 13, 2, 30));
  EXPECT_EQ(record.next_ms, Utc(3, 14, 2, 30));
  EXPECT_EQ(record.note, "submitted");
  EXPECT_EQ(jobs_->Get(record.last_job)->recurring, id);
  EXPECT_EQ(jobs_->List().size(), 3u);
}

TEST_F(RecurringTest, KeepsEveryFieldOverARestart) {
  RecurringRecord record = Record("@daily", "all", "Europe/Berlin");
  record.overlap = "cancel";
  record.spec = "näme: 1";
  int32_t id = recurring_->Add(record)->id;
  clock_.SetUnixMillis(Utc(3, 11, 0));
  RunDue();
  ASSERT_TRUE(recurring_->SetPaused(id, true).ok());
  RecurringRecord before = Get(id);
  Reopen();
  RecurringRecord after = Get(id);
  EXPECT_EQ(after.name, "nightly");
  EXPECT_EQ(after.spec, "näme: 1");
  EXPECT_EQ(after.submitted_by, "me");
  EXPECT_EQ(after.cron, "@daily");
  EXPECT_EQ(after.time_zone, "Europe/Berlin");
  EXPECT_EQ(after.catch_up, "all");
  EXPECT_EQ(after.overlap, "cancel");
  EXPECT_TRUE(after.paused);
  EXPECT_EQ(after.created_ms, Utc(3, 10, 12));
  EXPECT_EQ(after.next_ms, before.next_ms);
  EXPECT_EQ(after.last_ms, Utc(3, 10, 23));  // midnight in Berlin
  EXPECT_EQ(after.last_job, before.last_job);
  EXPECT_EQ(after.note, "submitted");
  EXPECT_EQ(recurring_->List().size(), 1u);
}

TEST_F(RecurringTest, RunsOnceOnTheDayThatSkipsItsHour) {
  int32_t id = Add("30 2 * * *", "one", "Europe/Berlin");
  // 2026-03-29: 02:00 becomes 03:00.
  EXPECT_THAT(Walk(Utc(3, 28, 12), Utc(3, 30, 12), 5 * kMinute),
              ElementsAre(In("Europe/Berlin", 2026, 3, 28, 2, 30), In("Europe/Berlin", 2026, 3, 29, 3, 0),
                          In("Europe/Berlin", 2026, 3, 30, 2, 30)));
  EXPECT_EQ(Get(id).next_ms, In("Europe/Berlin", 2026, 3, 31, 2, 30));
  EXPECT_EQ(jobs_->List().size(), 3u);
}

TEST_F(RecurringTest, RunsOnceOnTheDayThatRepeatsItsHour) {
  clock_.SetUnixMillis(Utc(10, 24, 12));
  Add("30 2 * * *", "all", "Europe/Berlin");
  // 2026-10-25: 03:00 becomes 02:00; the first 02:30 is in summer time.
  EXPECT_THAT(Walk(Utc(10, 24, 12), Utc(10, 26, 12), 5 * kMinute), ElementsAre(Utc(10, 25, 0, 30), Utc(10, 26, 1, 30)));
}

TEST_F(RecurringTest, MakesUpForMissedRunsAsAsked) {
  int32_t none = Add("0 2 * * *", "none");
  RecurringRecord record = Record("0 2 * * *", "one");
  record.name = "one";
  int32_t one = recurring_->Add(record)->id;
  record.name = "all";
  record.catch_up = "all";
  int32_t all = recurring_->Add(record)->id;
  Close();
  clock_.SetUnixMillis(Utc(3, 13, 9));  // down over three edges
  Reopen();
  std::map<int32_t, std::vector<int64_t>> due;
  for (const DueRun& run : recurring_->Due()) due[run.record.id].push_back(run.due_ms);
  EXPECT_THAT(due[none], IsEmpty());
  EXPECT_THAT(due[one], ElementsAre(Utc(3, 13, 2)));
  EXPECT_THAT(due[all], ElementsAre(Utc(3, 11, 2), Utc(3, 12, 2), Utc(3, 13, 2)));
  EXPECT_EQ(RunDue().size(), 4u);
  EXPECT_THAT(DueTimes(), IsEmpty());
  for (int32_t id : {none, one, all}) EXPECT_EQ(Get(id).next_ms, Utc(3, 14, 2)) << id;
  clock_.SetUnixMillis(Utc(3, 14, 2));
  EXPECT_EQ(RunDue().size(), 3u);
}

TEST_F(RecurringTest, ARunThatIsAMinuteLateWasNotMissed) {
  Add("0 2 * * *", "none");
  clock_.SetUnixMillis(Utc(3, 13, 2, 1));  // late, and down over two edges before
  EXPECT_THAT(DueTimes(), ElementsAre(Utc(3, 13, 2)));
  clock_.AdvanceMillis(1);
  EXPECT_THAT(DueTimes(), IsEmpty());
}

TEST_F(RecurringTest, MakesUpForTwentyFourRunsAtMostAndTheNewest) {
  Add("*/10 * * * *", "all");
  clock_.SetUnixMillis(Utc(9, 10, 12, 5));
  std::vector<int64_t> due = DueTimes();
  ASSERT_EQ(due.size(), 24u);
  EXPECT_EQ(due.back(), Utc(9, 10, 12));
  EXPECT_EQ(due.front(), Utc(9, 10, 8, 10));
  EXPECT_EQ(RunDue().size(), 24u);
  EXPECT_THAT(RunDue(), IsEmpty());
}

TEST_F(RecurringTest, FindsWhatIsDueAfterYearsQuickly) {
  Add("* * * * *", "all");
  RecurringRecord rare = Record("0 0 29 2 *", "all");
  rare.name = "rare";
  ASSERT_TRUE(recurring_->Add(rare).ok());
  clock_.SetUnixMillis(In("UTC", 2036, 3, 1, 0, 0));
  auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(DueTimes().size(), 24u + 3);  // 2028, 2032, 2036
  RecordProperty("us", static_cast<int>((std::chrono::steady_clock::now() - begin) / std::chrono::microseconds(1)));
}

TEST_F(RecurringTest, AClockThatJumpsBackMakesNothingDueTwice) {
  int32_t id = Add("0 * * * *", "all");
  clock_.SetUnixMillis(Utc(3, 10, 13));
  EXPECT_EQ(RunDue().size(), 1u);
  EXPECT_THAT(Walk(Utc(3, 10, 12, 30), Utc(3, 10, 13, 59), kMinute), IsEmpty());
  clock_.SetUnixMillis(Utc(3, 10, 14));
  EXPECT_THAT(DueTimes(), ElementsAre(Utc(3, 10, 14)));
  EXPECT_EQ(Get(id).last_ms, Utc(3, 10, 13));
}

TEST_F(RecurringTest, AClockThatJumpsForwardIsAGapThatIsFilledByTheRule) {
  Add("0 * * * *", "one");
  clock_.SetUnixMillis(Utc(3, 11, 12, 30));
  EXPECT_THAT(DueTimes(), ElementsAre(Utc(3, 11, 12)));
  RunDue();
  EXPECT_THAT(Walk(Utc(3, 11, 12, 30), Utc(3, 11, 14), kMinute), ElementsAre(Utc(3, 11, 13), Utc(3, 11, 14)));
}

TEST_F(RecurringTest, GoesOnAfterAClockThatWasAYearAhead) {
  int32_t id = Add("0 * * * *", "one");
  clock_.SetUnixMillis(Utc(3, 10, 13));
  std::vector<int32_t> first = RunDue();
  clock_.SetUnixMillis(In("UTC", 2027, 3, 10, 13, 0));
  EXPECT_EQ(RunDue().size(), 1u);
  // Set right, it is again 13:00 of the day: the run of then is not submitted again.
  clock_.SetUnixMillis(Utc(3, 10, 13));
  EXPECT_EQ(RunDue(), first);
  EXPECT_EQ(Get(id).next_ms, Utc(3, 10, 14));
  EXPECT_THAT(Walk(Utc(3, 10, 13, 1), Utc(3, 10, 15), kMinute), ElementsAre(Utc(3, 10, 14), Utc(3, 10, 15)));
  EXPECT_EQ(jobs_->List().size(), 4u);
}

TEST_F(RecurringTest, ACrashBetweenSubmittingAndTellingSubmitsOnce) {
  int32_t id = Add("0 2 * * *");
  clock_.SetUnixMillis(Utc(3, 11, 2));
  DueRun run = recurring_->Due().at(0);
  JobRecord job;
  job.name = "x";
  job.idempotency_key = run.idempotency_key;
  int32_t submitted = jobs_->Submit(job)->id;
  Reopen();  // died here
  EXPECT_EQ(recurring_->Due().at(0).idempotency_key, run.idempotency_key);
  EXPECT_THAT(RunDue(), ElementsAre(submitted));
  EXPECT_EQ(Get(id).last_job, submitted);
  EXPECT_EQ(jobs_->List().size(), 1u);
  Reopen();
  EXPECT_THAT(DueTimes(), IsEmpty());
}

TEST_F(RecurringTest, TellsWhyARunWasNotSubmittedAndKeepsTheLastJob) {
  int32_t id = Add("0 2 * * *");
  clock_.SetUnixMillis(Utc(3, 12, 3));
  ASSERT_TRUE(recurring_->Handled(id, Utc(3, 11, 2), 7, "submitted").ok());
  ASSERT_TRUE(recurring_->Handled(id, Utc(3, 12, 2), 0, "skipped: job 7 still runs").ok());
  ASSERT_TRUE(recurring_->Handled(id, Utc(3, 11, 2), 9, "late").ok());  // handled before: nothing happens
  EXPECT_EQ(Get(id).last_job, 7);
  EXPECT_EQ(Get(id).last_ms, Utc(3, 12, 2));
  EXPECT_EQ(Get(id).next_ms, Utc(3, 13, 2));
  EXPECT_EQ(Get(id).note, "skipped: job 7 still runs");
}

TEST_F(RecurringTest, IsNotDueWhilePausedAndThenCatchesUp) {
  int32_t id = Add("0 2 * * *", "one");
  ASSERT_TRUE(recurring_->SetPaused(id, true).ok());
  EXPECT_THAT(Walk(Utc(3, 10, 12), Utc(3, 12, 12), kHour), IsEmpty());
  EXPECT_EQ(Get(id).next_ms, Utc(3, 13, 2));
  ASSERT_TRUE(recurring_->SetPaused(id, false).ok());
  EXPECT_THAT(DueTimes(), ElementsAre(Utc(3, 12, 2)));
}

TEST_F(RecurringTest, AddingTheSameNameAgainReplacesTheRecord) {
  int32_t id = Add("0 2 * * *");
  clock_.SetUnixMillis(Utc(3, 11, 2));
  std::vector<int32_t> ran = RunDue();
  clock_.SetUnixMillis(Utc(3, 13, 12));
  RecurringRecord record = Record("0 4 * * *");
  record.spec = "batch: 2\n";
  record.id = 99;
  RecurringRecord replaced = *recurring_->Add(record);
  EXPECT_EQ(replaced.id, id);
  EXPECT_EQ(replaced.created_ms, Utc(3, 10, 12));
  EXPECT_EQ(replaced.next_ms, Utc(3, 14, 4));
  EXPECT_EQ(replaced.last_job, ran[0]);
  EXPECT_THAT(DueTimes(), IsEmpty());
  record.submitted_by = "you";
  EXPECT_NE(recurring_->Add(record)->id, id);
  Reopen();
  EXPECT_EQ(Get(id).spec, "batch: 2\n");
  EXPECT_EQ(recurring_->List().size(), 2u);
}

TEST_F(RecurringTest, RefusesWhatItCouldNotRun) {
  auto error = [&](const RecurringRecord& record) { return std::string(MessageOf(recurring_->Add(record).status())); };
  EXPECT_THAT(error(Record("0 25 * * *")), HasSubstr("25"));
  EXPECT_THAT(error(Record("0 0 31 2 *")), HasSubstr("never comes"));
  EXPECT_THAT(error(Record("@daily", "one", "Mars/Olympus")), HasSubstr("'Mars/Olympus'"));
  EXPECT_THAT(error(Record("@daily", "some")), HasSubstr("catch_up is 'some'; it must be one of none, one, all"));
  RecurringRecord record = Record("@daily");
  record.overlap = "quue";
  EXPECT_THAT(error(record), HasSubstr("did you mean 'queue'?"));
  record = Record("@daily");
  record.name = "a/b";
  EXPECT_THAT(error(record), HasSubstr("name of the recurring job 'a/b'"));
  EXPECT_THAT(recurring_->List(), IsEmpty());
}

TEST_F(RecurringTest, DeletedOnesAreGoneAndTheirIdsNotUsedAgain) {
  int32_t id = Add("0 2 * * *");
  ASSERT_TRUE(recurring_->Delete(id).ok());
  EXPECT_EQ(recurring_->Delete(id).code(), Code::kNotFound);
  EXPECT_EQ(recurring_->Get(id).status().code(), Code::kNotFound);
  EXPECT_THAT(MessageOf(recurring_->Get(id).status()), HasSubstr("'tandem recurring list' shows all"));
  EXPECT_EQ(recurring_->SetPaused(id, true).code(), Code::kNotFound);
  EXPECT_EQ(recurring_->Handled(id, 1, 1, "").code(), Code::kNotFound);
  Reopen();
  EXPECT_GT(Add("0 2 * * *"), id);
}

TEST_F(RecurringTest, AZoneThatThisMachineDoesNotKnowStopsNobodyElse) {
  int32_t id = Add("0 * * * *");
  RecurringRecord other = Record("0 * * * *");
  other.name = "other";
  int32_t good = recurring_->Add(other)->id;
  ASSERT_TRUE(store_
                  ->Write([&](storage::Store::Transaction& t) {
                    return t.Execute("UPDATE recurring_jobs SET time_zone = 'Gone/Zone' WHERE id = ?", {int64_t{id}});
                  })
                  .ok());
  Reopen();
  clock_.SetUnixMillis(Utc(3, 10, 13));
  std::vector<DueRun> due = recurring_->Due();
  ASSERT_EQ(due.size(), 1u);
  EXPECT_EQ(due[0].record.id, good);
  EXPECT_THAT(Get(id).note, HasSubstr("never due: time_zone: 'Gone/Zone' is not known"));
}

TEST_F(RecurringTest, AFullDiskLeavesTheFormerState) {
  int32_t id = Add("0 2 * * *");
  auto limit = [&](int pages) {
    ASSERT_TRUE(
        store_
            ->Write([&](storage::Store::Transaction& t) { return t.Execute(StrCat("PRAGMA max_page_count=", pages)); })
            .ok());
  };
  limit(1);  // SQLite makes that what there is now
  clock_.SetUnixMillis(Utc(3, 11, 2));
  EXPECT_EQ(recurring_->Handled(id, Utc(3, 11, 2), 1, std::string(100'000, 'x')).code(), Code::kResourceExhausted);
  EXPECT_THAT(DueTimes(), ElementsAre(Utc(3, 11, 2)));
  EXPECT_EQ(Get(id).last_ms, 0);
  limit(100'000);
  EXPECT_EQ(RunDue().size(), 1u);
}

TEST_F(RecurringTest, IsSafeForManyThreads) {
  int32_t id = Add("0 2 * * *");
  clock_.SetUnixMillis(Utc(3, 15, 3));
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5; ++i) {
        EXPECT_TRUE(recurring_->Handled(id, Utc(3, 11 + i, 2), 1 + t, "x").ok());
        EXPECT_TRUE(recurring_->SetPaused(id, i % 2 == 0).ok());
        (void)recurring_->Due();
        EXPECT_EQ(recurring_->List().size(), 1u);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Get(id).last_ms, Utc(3, 15, 2));
  EXPECT_EQ(Get(id).next_ms, Utc(3, 16, 2));
}

}  // namespace
}  // namespace tandem::jobs
