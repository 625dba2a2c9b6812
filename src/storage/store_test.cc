#include "storage/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "base/files.h"
#include "base/status.h"
#include "storage/local_disk.h"

namespace tandem::storage {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const std::vector<Migration>& OneTable() {
  static const std::vector<Migration> migrations = {
      {100, "CREATE TABLE t(id INTEGER PRIMARY KEY, text TEXT UNIQUE, real REAL); CREATE TABLE u(x INTEGER)"}};
  return migrations;
}

class StoreTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / StrCat("tandem_store_", getpid());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::unique_ptr<Store> MustOpen(const std::vector<Migration>& migrations = OneTable()) {
    absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(file(), migrations);
    EXPECT_TRUE(store.ok()) << store.status();
    return store.ok() ? std::move(*store) : nullptr;
  }
  fs::path file() const { return folder_ / "tandem.db"; }

  static absl::Status Insert(Store& store, const std::string& text) {
    return store.Write([&](Store::Transaction& t) { return t.Execute("INSERT INTO t(text) VALUES (?)", {text}); });
  }
  static int64_t Count(Store& store) {
    int64_t count = -1;
    EXPECT_TRUE(store
                    .Read([&](Store::Transaction& t) {
                      return t.Query("SELECT count(*) FROM t", {}, [&](const Row& row) { count = row.Int(0); });
                    })
                    .ok());
    return count;
  }

  fs::path folder_;
};

TEST_F(StoreTest, KeepsRowsOfEveryTypeOverAReopen) {
  std::string odd("a\0'\"\xc3\xa9", 6);
  {
    auto store = MustOpen();
    ASSERT_TRUE(store
                    ->Write([&](Store::Transaction& t) {
                      TANDEM_RETURN_IF_ERROR(t.Execute("INSERT INTO t(text, real) VALUES (?, ?)", {odd, 0.1}));
                      EXPECT_EQ(t.LastInsertId(), 1);
                      EXPECT_EQ(t.Changes(), 1);
                      return t.Execute("INSERT INTO t VALUES (?, ?, ?);\n", {int64_t{1} << 62, nullptr, nullptr});
                    })
                    .ok());
  }
  auto store = MustOpen();
  std::vector<std::string> texts;
  ASSERT_TRUE(store
                  ->Read([&](Store::Transaction& t) {
                    return t.Query("SELECT id, text, real FROM t ORDER BY id", {}, [&](const Row& row) {
                      texts.push_back(row.Text(1));
                      EXPECT_EQ(row.IsNull(2), row.Int(0) != 1);
                      EXPECT_DOUBLE_EQ(row.Double(2), row.Int(0) == 1 ? 0.1 : 0);
                    });
                  })
                  .ok());
  EXPECT_THAT(texts, testing::ElementsAre(odd, ""));
  struct stat status;
  ASSERT_EQ(stat(file().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST_F(StoreTest, RollsBackWhenTheBodyFailsOrThrows) {
  auto store = MustOpen();
  EXPECT_EQ(store
                ->Write([&](Store::Transaction& t) {
                  TANDEM_RETURN_IF_ERROR(t.Execute("INSERT INTO t(text) VALUES ('x')"));
                  return Aborted("no");
                })
                .code(),
            absl::StatusCode::kAborted);
  EXPECT_EQ(store
                ->Write([&](Store::Transaction& t) -> absl::Status {
                  (void)t.Execute("INSERT INTO t(text) VALUES ('x')");
                  throw std::runtime_error("boom");
                })
                .code(),
            absl::StatusCode::kInternal);
  EXPECT_EQ(Count(*store), 0);
  EXPECT_TRUE(Insert(*store, "after").ok());
}

TEST_F(StoreTest, TellsABrokenUniqueRuleFromOtherMistakes) {
  auto store = MustOpen();
  ASSERT_TRUE(Insert(*store, "x").ok());
  EXPECT_EQ(Insert(*store, "x").code(), absl::StatusCode::kAlreadyExists);
  auto run = [&](std::string_view sql, const std::vector<Value>& values) {
    return store->Write([&](Store::Transaction& t) { return t.Execute(sql, values); });
  };
  EXPECT_EQ(run("INSERT INTO nowhere VALUES (1)", {}).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(run("DELETE FROM t; DELETE FROM u", {}).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(run("INSERT INTO t(text) VALUES (?)", {}).code(), absl::StatusCode::kInternal);
  EXPECT_EQ(Count(*store), 1);
}

TEST_F(StoreTest, RefusesAWriteInsideAWriteInsteadOfWaitingForever) {
  auto store = MustOpen();
  EXPECT_EQ(store->Write([&](Store::Transaction&) { return Insert(*store, "x"); }).code(), absl::StatusCode::kInternal);
}

TEST_F(StoreTest, ReadersCannotWrite) {
  auto store = MustOpen();
  EXPECT_FALSE(store->Read([](Store::Transaction& t) { return t.Execute("DELETE FROM t"); }).ok());
}

TEST_F(StoreTest, AFullDiskIsResourceExhaustedAndLeavesTheFormerState) {
  auto store = MustOpen();
  ASSERT_TRUE(Insert(*store, "kept").ok());
  absl::Status full = store->Write([&](Store::Transaction& t) {
    TANDEM_RETURN_IF_ERROR(t.Execute("PRAGMA max_page_count=8"));
    TANDEM_RETURN_IF_ERROR(t.Execute("INSERT INTO t(text) VALUES ('small')"));
    return t.Execute("INSERT INTO t(text) VALUES (?)", {std::string(100'000, 'x')});
  });
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted) << full;
  EXPECT_THAT(MessageOf(full), HasSubstr("free some space"));
  EXPECT_EQ(Count(*store), 1);
  EXPECT_TRUE(Insert(*store, "more").ok());
}

TEST_F(StoreTest, MigratesStepByStepAndOnlyOnce) {
  MustOpen();
  std::vector<Migration> more = OneTable();
  more.push_back({200, "CREATE TABLE r(x)"});
  more.push_back({101, "INSERT INTO t(text) VALUES ('migrated')"});
  EXPECT_EQ(Count(*MustOpen(more)), 1);
  EXPECT_EQ(Count(*MustOpen(more)), 1);
}

TEST_F(StoreTest, AFailedMigrationLeavesNothingBehind) {
  MustOpen();
  std::vector<Migration> bad = OneTable();
  bad.push_back({101, "INSERT INTO t(text) VALUES ('half'); CREATE TABLE t(x)"});
  absl::Status status = Store::Open(file(), bad).status();
  EXPECT_THAT(MessageOf(status), HasSubstr("schema step 101"));
  EXPECT_EQ(Count(*MustOpen()), 0);
  EXPECT_FALSE(Store::Open(file(), {{1, "SELECT 1"}, {1, "SELECT 1"}}).ok());
}

TEST_F(StoreTest, RefusesANewerSchema) {
  std::vector<Migration> newer = OneTable();
  newer.push_back({102, "CREATE TABLE z(x)"});
  MustOpen(newer);
  absl::Status status = Store::Open(file(), OneTable()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(MessageOf(status), HasSubstr("newer version of tandem"));
}

TEST_F(StoreTest, NamesADamagedFile) {
  {
    auto store = MustOpen();
    for (int i = 0; i < 20; ++i) ASSERT_TRUE(Insert(*store, StrCat(i, std::string(2000, 'x'))).ok());
  }
  std::string bytes = *ReadFile(file());
  for (size_t i = 4096; i < bytes.size(); i += 7) bytes[i] = static_cast<char>(i);
  ASSERT_TRUE(WriteFileAtomically(file(), bytes).ok());
  EXPECT_THAT(MessageOf(Store::Open(file(), OneTable()).status()), HasSubstr("damaged"));
  ASSERT_TRUE(WriteFileAtomically(file(), std::string(5000, 'n')).ok());
  EXPECT_THAT(MessageOf(Store::Open(file(), OneTable()).status()), HasSubstr("damaged"));
}

TEST_F(StoreTest, SaysWhyAFileCannotBeOpened) {
  fs::create_directories(file());
  EXPECT_THAT(MessageOf(Store::Open(file(), OneTable()).status()), HasSubstr(file().string()));
  EXPECT_FALSE(Store::Open("/proc/nowhere/tandem.db", OneTable()).ok());
}

TEST_F(StoreTest, ServesReadersBesideWriters) {
  auto store = MustOpen();
  std::vector<std::thread> threads;
  for (int w = 0; w < 3; ++w) {
    threads.emplace_back([&, w] {
      for (int i = 0; i < 15; ++i) {
        EXPECT_TRUE(store
                        ->Write([&](Store::Transaction& t) {
                          TANDEM_RETURN_IF_ERROR(t.Execute("INSERT INTO t(text) VALUES (?)", {StrCat(w, "/", i, "a")}));
                          return t.Execute("INSERT INTO t(text) VALUES (?)", {StrCat(w, "/", i, "b")});
                        })
                        .ok());
      }
    });
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) EXPECT_EQ(Count(*store) % 2, 0);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Count(*store), 90);
}

// The child tells each row that Write acknowledged; what it told must be there after SIGKILL.
TEST_F(StoreTest, EveryAcknowledgedRowSurvivesAKill) {
  MustOpen();
  for (int round = 0; round < 4; ++round) {
    int pipe_fds[2];
    ASSERT_EQ(pipe(pipe_fds), 0);
    pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(file(), OneTable());
      for (int i = 0; store.ok(); ++i) {
        if (!Insert(**store, StrCat(round, "-", i)).ok() || write(pipe_fds[1], "+", 1) != 1) break;
      }
      _exit(1);
    }
    close(pipe_fds[1]);
    char byte;
    int acknowledged = 0;
    while (acknowledged < 5 + round * 3 && read(pipe_fds[0], &byte, 1) == 1) ++acknowledged;
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    while (read(pipe_fds[0], &byte, 1) == 1) ++acknowledged;
    close(pipe_fds[0]);
    auto store = MustOpen();
    int64_t found = -1;
    ASSERT_TRUE(store
                    ->Read([&](Store::Transaction& t) {
                      return t.Query("SELECT count(*) FROM t WHERE text LIKE ?", {StrCat(round, "-%")},
                                     [&](const Row& row) { found = row.Int(0); });
                    })
                    .ok());
    EXPECT_GE(found, acknowledged);
    EXPECT_LE(found, acknowledged + 1);
    EXPECT_GE(acknowledged, 5);
  }
}

TEST(LocalDisk, KnowsNetworkFileSystems) {
  EXPECT_EQ(NetworkFileSystem(0x6969, ""), "NFS");
  EXPECT_EQ(NetworkFileSystem(static_cast<int32_t>(0xff534d42), ""), "CIFS");
  EXPECT_EQ(NetworkFileSystem(0xfe534d42, ""), "SMB2");
  EXPECT_EQ(NetworkFileSystem(0x65735546, "fuse.sshfs"), "fuse.sshfs");
  EXPECT_EQ(NetworkFileSystem(0x65735546, "fuseblk"), "");
  EXPECT_EQ(NetworkFileSystem(0xef53, ""), "");
  EXPECT_TRUE(CheckLocalDisk("/tmp").ok());
  EXPECT_EQ(CheckLocalDisk("/nowhere").code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace tandem::storage
