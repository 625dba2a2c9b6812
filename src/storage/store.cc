#include "storage/store.h"

#include <errno.h>
#include <fcntl.h>

#include <algorithm>
#include <atomic>
#include <set>
#include <thread>

#include "base/fd.h"
#include "base/files.h"
#include "base/status.h"
#include "storage/local_disk.h"
#include "storage/sqlite.h"

namespace tandem::storage {
namespace {

namespace fs = std::filesystem;

// Larger files are checked by SQLite as it reads them; a whole check would slow the start down.
constexpr uintmax_t kQuickCheckBytes = 64'000'000;

class SqliteStore : public Store {
 public:
  SqliteStore(fs::path path, std::unique_ptr<Connection> writer) : path_(std::move(path)), writer_(std::move(writer)) {}

  absl::Status Write(const std::function<absl::Status(Transaction&)>& body) override {
    if (writing_thread_.load(std::memory_order_relaxed) == std::this_thread::get_id()) {
      return Internal("a database transaction was begun inside another one of the same thread");
    }
    std::lock_guard lock(write_mutex_);
    writing_thread_.store(std::this_thread::get_id(), std::memory_order_relaxed);
    absl::Status status = writer_->InTransaction("BEGIN IMMEDIATE", body);
    writing_thread_.store(std::thread::id(), std::memory_order_relaxed);
    return status;
  }

  absl::Status Read(const std::function<absl::Status(Transaction&)>& body) override {
    TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<Connection> reader, TakeReader());
    absl::Status status = reader->InTransaction("BEGIN", body);
    std::lock_guard lock(readers_mutex_);
    idle_readers_.push_back(std::move(reader));
    return status;
  }

 private:
  // An idle reader, else a new one: there are as many as threads ever read at the same time.
  absl::StatusOr<std::unique_ptr<Connection>> TakeReader() {
    std::lock_guard lock(readers_mutex_);
    if (idle_readers_.empty()) return Connection::Open(path_, Connection::Mode::kReadOnly);
    std::unique_ptr<Connection> reader = std::move(idle_readers_.back());
    idle_readers_.pop_back();
    return reader;
  }

  const fs::path path_;
  std::mutex write_mutex_;
  std::unique_ptr<Connection> writer_;             // guarded by write_mutex_
  std::atomic<std::thread::id> writing_thread_{};  // only to notice nested writes
  std::mutex readers_mutex_;
  std::vector<std::unique_ptr<Connection>> idle_readers_;  // guarded by readers_mutex_
};

// Makes the file, readable for its owner only, so that SQLite's side files are too.
absl::Status MakeFile(const fs::path& path) {
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd.valid()) return ErrnoStatus(errno, StrCat("open the database '", path.string(), "'"));
  return SyncFolder(path.parent_path());
}

absl::Status CheckIntegrity(Connection& connection, const fs::path& path) {
  std::error_code error;
  if (fs::file_size(path, error) > kQuickCheckBytes) return absl::OkStatus();
  std::string report;
  TANDEM_RETURN_IF_ERROR(connection.Run("PRAGMA quick_check(1)", {}, [&](const Row& row) { report = row.Text(0); }));
  if (report == "ok") return absl::OkStatus();
  return FailedPrecondition("database '", path.string(), "' is damaged (", report,
                            "); restore it from a backup, or move it away to begin anew");
}

absl::Status Migrate(Connection& connection, const fs::path& path, std::vector<Migration> migrations) {
  std::ranges::sort(migrations, {}, &Migration::id);
  std::set<int> known, applied;
  for (const Migration& migration : migrations) {
    if (!known.insert(migration.id).second) return Internal("two migrations have the id ", migration.id);
  }
  TANDEM_RETURN_IF_ERROR(connection.RunScript(
      "CREATE TABLE IF NOT EXISTS schema_version(id INTEGER PRIMARY KEY, applied_at TEXT NOT NULL)"));
  TANDEM_RETURN_IF_ERROR(connection.Run("SELECT id FROM schema_version", {},
                                        [&](const Row& row) { applied.insert(static_cast<int>(row.Int(0))); }));
  for (int id : applied) {
    if (known.contains(id)) continue;
    return FailedPrecondition("database '", path.string(),
                              "' was written by a newer version of tandem (it has schema step ", id,
                              "); use that version, or another --data folder");
  }
  for (const Migration& migration : migrations) {
    if (applied.contains(migration.id)) continue;
    absl::Status status = connection.InTransaction("BEGIN IMMEDIATE", [&](Store::Transaction& transaction) {
      TANDEM_RETURN_IF_ERROR(connection.RunScript(migration.sql));
      return transaction.Execute("INSERT INTO schema_version VALUES (?, datetime('now'))", {int64_t{migration.id}});
    });
    TANDEM_RETURN_IF_ERROR(Annotate(status, StrCat("schema step ", migration.id)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Store>> Store::Open(const fs::path& path, const std::vector<Migration>& migrations) {
  std::error_code error;
  fs::path file = fs::absolute(path, error);
  TANDEM_RETURN_IF_ERROR(MakeFolders(file.parent_path()));
  TANDEM_RETURN_IF_ERROR(CheckLocalDisk(file.parent_path()));
  TANDEM_RETURN_IF_ERROR(MakeFile(file));
  TANDEM_ASSIGN_OR_RETURN(auto writer, Connection::Open(file, Connection::Mode::kReadWrite));
  TANDEM_RETURN_IF_ERROR(CheckIntegrity(*writer, file));
  TANDEM_RETURN_IF_ERROR(Migrate(*writer, file, migrations));
  return std::make_unique<SqliteStore>(file, std::move(writer));
}

}  // namespace tandem::storage
