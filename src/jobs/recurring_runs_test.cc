#include "jobs/recurring_runs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/civil_time.h"
#include "absl/time/time.h"
#include "base/status.h"

namespace tandem::jobs {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

int64_t At(int day, int hour, int minute = 0) {
  return absl::ToUnixMillis(absl::FromCivil(absl::CivilMinute(2026, 3, day, hour, minute), absl::UTCTimeZone()));
}

class RecurringRunsTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / StrCat("tandem_recurring_runs_", getpid());
    fs::remove_all(folder_);
    std::vector<storage::Migration> all = Migrations();
    all.insert(all.end(), RecurringMigrations().begin(), RecurringMigrations().end());
    store_ = *storage::Store::Open(folder_ / "tandem.db", all);
    std::vector<std::string> recovered;
    clock_.SetUnixMillis(At(10, 12));
    jobs_ = *JobStore::Open(store_.get(), &clock_, &recovered);
    recurring_ = *RecurringStore::Open(store_.get(), &clock_);
  }
  void TearDown() override {
    recurring_.reset();
    jobs_.reset();
    store_.reset();
    fs::remove_all(folder_);
  }

  // Due each night at 2:00.
  int32_t Add(std::string_view catch_up, std::string_view overlap) {
    absl::StatusOr<RecurringRecord> added = recurring_->Add({.name = "nightly",
                                                             .spec = "batch: 1\n",
                                                             .submitted_by = "me",
                                                             .cron = "0 2 * * *",
                                                             .time_zone = "UTC",
                                                             .catch_up = std::string(catch_up),
                                                             .overlap = std::string(overlap)});
    EXPECT_TRUE(added.ok()) << added.status();
    return added.ok() ? added->id : 0;
  }
  // The due times of the runs that became jobs at `now_ms`.
  std::vector<int64_t> SubmitAt(int64_t now_ms) {
    clock_.SetUnixMillis(now_ms);
    std::vector<int64_t> times;
    SubmitDueRuns(recurring_.get(), jobs_.get(), [&](const DueRun& due) -> absl::StatusOr<int32_t> {
      JobRecord job;
      job.name = due.record.name;
      job.idempotency_key = due.idempotency_key;
      job.recurring = due.record.id;
      TANDEM_ASSIGN_OR_RETURN(JobRecord submitted, jobs_->Submit(job));
      times.push_back(due.due_ms);
      return submitted.id;
    });
    return times;
  }
  int32_t LastJob(int32_t id) { return recurring_->Get(id)->last_job; }
  std::string Note(int32_t id) { return recurring_->Get(id)->note; }
  void EndLast(int32_t id) { EXPECT_TRUE(jobs_->Move(LastJob(id), State::kFailed, "it is over").ok()); }

  fs::path folder_;
  FakeClock clock_;
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<JobStore> jobs_;
  std::unique_ptr<RecurringStore> recurring_;
};

TEST_F(RecurringRunsTest, WithSkipMissedRunsAreMadeUpForOneAfterTheOther) {
  const int32_t id = Add("all", "skip");
  EXPECT_THAT(SubmitAt(At(13, 9)), ElementsAre(At(11, 2)));
  EXPECT_THAT(SubmitAt(At(13, 10)), IsEmpty()) << "the first has not ended";
  EndLast(id);
  EXPECT_THAT(SubmitAt(At(13, 11)), ElementsAre(At(12, 2)));
  EndLast(id);
  EXPECT_THAT(SubmitAt(At(13, 12)), ElementsAre(At(13, 2)));
  EndLast(id);
  EXPECT_THAT(SubmitAt(At(13, 13)), IsEmpty());
  EXPECT_EQ(jobs_->List().size(), 3u);
  EXPECT_EQ(Note(id), "") << "none was skipped";
  EXPECT_THAT(SubmitAt(At(14, 2)), ElementsAre(At(14, 2)));
}

TEST_F(RecurringRunsTest, WhatComesDueWhileMissedRunsWaitHasItsTurnAfterThem) {
  const int32_t id = Add("all", "skip");
  EXPECT_THAT(SubmitAt(At(12, 9)), ElementsAre(At(11, 2)));
  EXPECT_THAT(SubmitAt(At(13, 2)), IsEmpty()) << "the run of the 12th waits, and that of the 13th behind it";
  EndLast(id);
  EXPECT_THAT(SubmitAt(At(13, 3)), ElementsAre(At(12, 2)));
  EndLast(id);
  EXPECT_THAT(SubmitAt(At(13, 4)), ElementsAre(At(13, 2)));
  EXPECT_EQ(recurring_->Get(id)->next_ms, At(14, 2));
}

TEST_F(RecurringRunsTest, WithSkipARunThatWasNotMissedIsSkippedWhileTheFormerHasNotEnded) {
  const int32_t id = Add("all", "skip");
  EXPECT_THAT(SubmitAt(At(11, 2)), ElementsAre(At(11, 2)));
  const int32_t first = LastJob(id);
  EXPECT_THAT(SubmitAt(At(12, 2, 1)), IsEmpty());
  EXPECT_EQ(Note(id), StrCat("skipped: job ", first, " of the time before is still queued"));
  EndLast(id);
  EXPECT_THAT(SubmitAt(At(12, 3)), IsEmpty()) << "it is not made up for";
  EXPECT_THAT(SubmitAt(At(13, 2)), ElementsAre(At(13, 2)));
}

TEST_F(RecurringRunsTest, WithCatchUpOneAMissedRunIsSkippedLikeAnyOther) {
  const int32_t id = Add("one", "skip");
  EXPECT_THAT(SubmitAt(At(11, 2)), ElementsAre(At(11, 2)));
  EXPECT_THAT(SubmitAt(At(13, 9)), IsEmpty());
  EXPECT_THAT(Note(id), HasSubstr("skipped: job"));
  EndLast(id);
  EXPECT_THAT(SubmitAt(At(13, 10)), IsEmpty());
}

TEST_F(RecurringRunsTest, WithQueueAllMissedRunsStandInTheQueueAtOnce) {
  Add("all", "queue");
  EXPECT_THAT(SubmitAt(At(13, 9)), ElementsAre(At(11, 2), At(12, 2), At(13, 2)));
  EXPECT_THAT(SubmitAt(At(13, 10)), IsEmpty());
  EXPECT_EQ(jobs_->Active().size(), 3u);
}

TEST_F(RecurringRunsTest, WithCancelOnlyTheNewestMissedRunIsSubmittedAndCancelsTheFormer) {
  const int32_t id = Add("all", "cancel");
  EXPECT_THAT(SubmitAt(At(11, 2)), ElementsAre(At(11, 2)));
  const int32_t first = LastJob(id);
  EXPECT_THAT(SubmitAt(At(14, 9)), ElementsAre(At(14, 2)));
  EXPECT_TRUE(jobs_->Get(first)->cancel_requested);
  EXPECT_FALSE(jobs_->Get(LastJob(id))->cancel_requested);
  EXPECT_EQ(Note(id), StrCat("job ", first, " of the time before was cancelled"));
  EXPECT_EQ(jobs_->List().size(), 2u);
}

TEST_F(RecurringRunsTest, ARunThatCannotBeSubmittedSaysSoAndTheNextHasItsTurn) {
  const int32_t id = Add("all", "skip");
  clock_.SetUnixMillis(At(12, 9));
  SubmitDueRuns(recurring_.get(), jobs_.get(),
                [](const DueRun&) { return absl::StatusOr<int32_t>(NotFound("no data")); });
  EXPECT_EQ(Note(id), "could not be submitted: no data");
  EXPECT_EQ(recurring_->Get(id)->last_ms, At(12, 2));
  EXPECT_THAT(SubmitAt(At(13, 2)), ElementsAre(At(13, 2)));
}

}  // namespace
}  // namespace tandem::jobs
