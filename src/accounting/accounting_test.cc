#include "accounting/accounting.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <filesystem>
#include <limits>
#include <thread>

#include "absl/time/civil_time.h"
#include "absl/time/time.h"
#include "base/status.h"

namespace tandem::accounting {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

int64_t Utc(int month, int day, int hour = 0, int minute = 0) {
  return absl::ToUnixMillis(absl::FromCivil(absl::CivilMinute(2026, month, day, hour, minute), absl::UTCTimeZone()));
}

Entry Used(std::string_view side, std::string_view kind, std::string_view name, Amount amount) {
  return {std::string(side), std::string(kind), std::string(name), amount};
}
Entry Job(std::string_view name, double cpu_seconds) {
  return Used("training", "job", name, {.cpu_seconds = cpu_seconds});
}

class AccountingTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / StrCat("tandem_accounting_", getpid());
    fs::remove_all(folder_);
    Reopen();
  }
  void TearDown() override {
    accounting_.reset();
    store_.reset();
    fs::remove_all(folder_);
  }
  void Reopen(int keep_days = 400) {
    accounting_.reset();
    store_.reset();
    store_ = *storage::Store::Open(folder_ / "tandem.db", Migrations());
    accounting_ = *Accounting::Open(store_.get(), keep_days);
  }
  void Add(int64_t now_ms, const std::vector<Entry>& entries) {
    absl::Status added = accounting_->Add(now_ms, entries);
    EXPECT_TRUE(added.ok()) << added;
  }
  std::vector<Row> Read(const Query& query = {}) {
    absl::StatusOr<std::vector<Row>> rows = accounting_->Read(query);
    EXPECT_TRUE(rows.ok()) << rows.status();
    return rows.ok() ? *rows : std::vector<Row>();
  }
  // "day side/kind/name cpu" of each row.
  std::vector<std::string> Told(const Query& query = {}) {
    std::vector<std::string> told;
    for (const Row& row : Read(query)) {
      told.push_back(StrCat(row.day, row.day.empty() ? "" : " ", row.side, "/", row.kind, "/", row.name, " ",
                            row.amount.cpu_seconds));
    }
    return told;
  }

  fs::path folder_;
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<Accounting> accounting_;
};

TEST_F(AccountingTest, AddsUpEveryAmountOverARestart) {
  Amount amount = {
      .cpu_seconds = 1.5, .memory_byte_seconds = 3e15, .disk_read_bytes = 1, .disk_written_bytes = 4e12, .requests = 7};
  for (int i = 0; i < 3; ++i) {
    Add(Utc(11, 21, i), {Used("serving", "model", "größe/2", amount), Job("3 (fashion)", 1)});
    Reopen();
  }
  std::vector<Row> rows = Read();
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].side, "serving");
  EXPECT_EQ(rows[0].kind, "model");
  EXPECT_EQ(rows[0].name, "größe/2");
  EXPECT_EQ(rows[0].day, "");
  EXPECT_EQ(rows[0].amount.cpu_seconds, 4.5);
  EXPECT_EQ(rows[0].amount.memory_byte_seconds, 9e15);
  EXPECT_EQ(rows[0].amount.disk_read_bytes, 3);
  EXPECT_EQ(rows[0].amount.disk_written_bytes, 12e12);
  EXPECT_EQ(rows[0].amount.requests, 21);
  EXPECT_EQ(rows[1].amount.cpu_seconds, 3);
  EXPECT_EQ(rows[1].amount.requests, 0);
}

TEST_F(AccountingTest, ADayEndsAtMidnightUtc) {
  Add(Utc(11, 22) - 1, {Job("1", 1)});
  Add(Utc(11, 22), {Job("1", 2)});
  EXPECT_THAT(Told({.by_day = true}), ElementsAre("2026-11-21 training/job/1 1", "2026-11-22 training/job/1 2"));
  EXPECT_THAT(Told(), ElementsAre("training/job/1 3"));
}

TEST_F(AccountingTest, GivesTheWholeDaysThatTouchTheTimeAskedFor) {
  for (int day = 20; day <= 24; ++day) Add(Utc(11, day, 12), {Job("1", day)});
  EXPECT_THAT(Told({.from_ms = Utc(11, 21, 23), .to_ms = Utc(11, 22, 1)}), ElementsAre("training/job/1 43"));
  EXPECT_THAT(Told({.from_ms = Utc(11, 21), .to_ms = Utc(11, 22)}), ElementsAre("training/job/1 21"));
  EXPECT_THAT(Told({.from_ms = Utc(11, 24, 23)}), ElementsAre("training/job/1 24"));
  EXPECT_THAT(Told({.to_ms = Utc(11, 20) + 1}), ElementsAre("training/job/1 20"));
  EXPECT_THAT(Told({.from_ms = Utc(12, 1), .to_ms = Utc(12, 2)}), IsEmpty());
  absl::StatusOr<std::vector<Row>> empty = accounting_->Read({.from_ms = Utc(12, 2), .to_ms = Utc(12, 1)});
  EXPECT_EQ(empty.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(MessageOf(empty.status()), HasSubstr("ends before it begins"));
}

TEST_F(AccountingTest, ChoosesBySideKindAndNameAndAddsUpByDayOrSide) {
  for (int day : {21, 22}) {
    Add(Utc(11, day), {Job("1", 1), Job("2", 5), Used("serving", "model", "2", {.cpu_seconds = 2}),
                       Used("serving", "server", "tandemd", {.cpu_seconds = 3})});
  }
  EXPECT_THAT(Told(),
              ElementsAre("serving/server/tandemd 6", "serving/model/2 4", "training/job/2 10", "training/job/1 2"));
  EXPECT_THAT(Told({.side = "serving"}), ElementsAre("serving/server/tandemd 6", "serving/model/2 4"));
  EXPECT_THAT(Told({.kind = "model"}), ElementsAre("serving/model/2 4"));
  EXPECT_THAT(Told({.name = "2"}), ElementsAre("serving/model/2 4", "training/job/2 10"));
  EXPECT_THAT(Told({.side = "training", .name = "tandemd"}), IsEmpty());
  EXPECT_THAT(Told({.by_name = false}), ElementsAre("serving// 10", "training// 12"));
  EXPECT_THAT(Told({.side = "training", .by_day = true, .by_name = false}),
              ElementsAre("2026-11-21 training// 6", "2026-11-22 training// 6"));
  EXPECT_THAT(Told({.name = "' OR 1=1 --"}), IsEmpty());
}

TEST_F(AccountingTest, NothingAndWhatIsNoNumberAddNothing) {
  double nan = std::nan(""), infinity = std::numeric_limits<double>::infinity();
  Add(Utc(11, 21), {});
  Add(Utc(11, 21), {Job("1", 0), Job("2", nan), Job("3", -5), Job("4", infinity)});
  EXPECT_THAT(Told(), IsEmpty());
  Add(Utc(11, 21), {Job("1", 1)});
  Add(Utc(11, 21), {Used("training", "job", "1", {.cpu_seconds = -1, .disk_read_bytes = nan, .requests = 2})});
  std::vector<Row> rows = Read();
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].amount.cpu_seconds, 1);
  EXPECT_EQ(rows[0].amount.disk_read_bytes, 0);
  EXPECT_EQ(rows[0].amount.requests, 2);
}

TEST_F(AccountingTest, RemovesOldDaysAtTheFirstCallOfADay) {
  Reopen(10);
  Add(Utc(11, 1), {Job("old", 1)});
  Add(Utc(11, 2), {Job("kept", 1)});
  Add(Utc(11, 11), {Job("now", 1)});
  EXPECT_EQ(Told().size(), 3u);  // ten days old
  Add(Utc(11, 12), {Job("now", 1)});
  EXPECT_THAT(Told(), ElementsAre("training/job/now 2", "training/job/kept 1"));
  EXPECT_FALSE(Accounting::Open(store_.get(), 0).ok());
}

TEST_F(AccountingTest, AClockThatIsYearsAheadForAMomentCostsNoDay) {
  Reopen(10);
  Add(Utc(11, 20), {Job("1", 1)});
  Add(Utc(11, 21), {Job("1", 2)});
  Add(Utc(11, 21) + int64_t{3650} * 24 * 3'600'000, {Job("1", 4)});
  Add(Utc(11, 21, 1), {Job("1", 8)});
  EXPECT_THAT(Told({.to_ms = Utc(11, 22)}), ElementsAre("training/job/1 11"));
}

TEST_F(AccountingTest, AFullDiskLeavesTheFormerStateAndAddsNothingOfTheCall) {
  Add(Utc(11, 21), {Job("1", 1)});
  auto limit = [&](int pages) {
    ASSERT_TRUE(
        store_
            ->Write([&](storage::Store::Transaction& t) { return t.Execute(StrCat("PRAGMA max_page_count=", pages)); })
            .ok());
  };
  limit(1);  // SQLite makes that what there is now
  std::vector<Entry> many = {Job("1", 1)};
  for (int i = 0; i < 1000; ++i) many.push_back(Job(StrCat("a long name of a job, number ", i), 1));
  EXPECT_EQ(accounting_->Add(Utc(11, 21), many).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Told(), ElementsAre("training/job/1 1"));
  limit(100'000);
  Add(Utc(11, 21), many);
  EXPECT_EQ(Told().size(), 1001u);
  EXPECT_THAT(Told({.name = "1"}), ElementsAre("training/job/1 2"));
}

TEST_F(AccountingTest, WhatIsNotedComesWithTheNextCallThatSucceeds) {
  accounting_->Note(ModelEntry("größe", 2, {.disk_read_bytes = 5, .disk_written_bytes = 7}));
  EXPECT_THAT(Told(), IsEmpty());
  ASSERT_TRUE(store_
                  ->Write([](storage::Store::Transaction& t) {
                    return t.Execute(
                        "CREATE TRIGGER full BEFORE INSERT ON usage_days BEGIN SELECT RAISE(FAIL, 'no'); END");
                  })
                  .ok());
  EXPECT_FALSE(accounting_->Add(Utc(11, 21), {}).ok());
  ASSERT_TRUE(store_->Write([](storage::Store::Transaction& t) { return t.Execute("DROP TRIGGER full"); }).ok());
  accounting_->Note(ModelEntry("größe", 2, {.disk_read_bytes = 1}));
  Add(Utc(11, 22), {Used("serving", "model", "größe/2", {.disk_read_bytes = 1})});
  Add(Utc(11, 22), {});
  std::vector<Row> rows = Read({.by_day = true});
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].day, "2026-11-22");
  EXPECT_EQ(rows[0].side, "serving");
  EXPECT_EQ(rows[0].kind, "model");
  EXPECT_EQ(rows[0].name, "größe/2");
  EXPECT_EQ(rows[0].amount.disk_read_bytes, 7);
  EXPECT_EQ(rows[0].amount.disk_written_bytes, 7);
}

// Each call adds the same to two names; a reader must never see one without the other.
TEST_F(AccountingTest, ReadersSeeWholeCallsOnly) {
  constexpr int kWriters = 3, kCalls = 20;
  std::atomic<int> writing = kWriters;
  std::vector<std::thread> threads;
  for (int w = 0; w < kWriters; ++w) {
    threads.emplace_back([&] {
      for (int i = 0; i < kCalls; ++i) Add(Utc(11, 21 + i % 2), {Job("a", 1), Job("b", 1)});
      --writing;
    });
  }
  threads.emplace_back([&] {
    do {
      std::vector<Row> rows = Read();
      EXPECT_EQ(rows.size() % 2, 0u);
      if (rows.size() == 2) {
        EXPECT_EQ(rows[0].amount.cpu_seconds, rows[1].amount.cpu_seconds);
      }
    } while (writing > 0);
  });
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(Told(),
              ElementsAre(StrCat("training/job/a ", kWriters * kCalls), StrCat("training/job/b ", kWriters * kCalls)));
}

}  // namespace
}  // namespace tandem::accounting
