#include "storage/sqlite.h"

#include <errno.h>
#include <sqlite3.h>

#include "base/fd.h"
#include "base/status.h"

namespace tandem::storage {
namespace {

constexpr int kBusyTimeoutMs = 5000;

struct Finalize {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Statement = std::unique_ptr<sqlite3_stmt, Finalize>;

int Bind(sqlite3_stmt* statement, int index, const Value& value) {
  if (const auto* number = std::get_if<int64_t>(&value)) return sqlite3_bind_int64(statement, index, *number);
  if (const auto* real = std::get_if<double>(&value)) return sqlite3_bind_double(statement, index, *real);
  if (const auto* text = std::get_if<std::string>(&value)) {
    return sqlite3_bind_text64(statement, index, text->data(), text->size(), SQLITE_STATIC, SQLITE_UTF8);
  }
  return sqlite3_bind_null(statement, index);
}

class ConnectionTransaction : public Store::Transaction {
 public:
  explicit ConnectionTransaction(Connection* connection) : connection_(connection) {}
  absl::Status Execute(std::string_view sql, const std::vector<Value>& values) override {
    return connection_->Run(sql, values);
  }
  absl::Status Query(std::string_view sql, const std::vector<Value>& values,
                     const std::function<void(const Row&)>& row) override {
    return connection_->Run(sql, values, row);
  }
  int64_t LastInsertId() override { return connection_->LastInsertId(); }
  int64_t Changes() override { return connection_->Changes(); }

 private:
  Connection* connection_;
};

}  // namespace

int64_t Row::Int(int column) const { return sqlite3_column_int64(statement_, column); }
double Row::Double(int column) const { return sqlite3_column_double(statement_, column); }
bool Row::IsNull(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }
std::string Row::Text(int column) const {
  const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
  return text == nullptr ? "" : std::string(text, sqlite3_column_bytes(statement_, column));
}

absl::StatusOr<std::unique_ptr<Connection>> Connection::Open(const std::filesystem::path& path, Mode mode) {
  sqlite3* db = nullptr;
  // Also the readers open for writing: a reader of a WAL file keeps its marks in the shared index.
  int code = sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  std::unique_ptr<Connection> connection(new Connection(path, db));
  if (db == nullptr) return absl::ResourceExhaustedError("no memory for a database connection");
  sqlite3_extended_result_codes(db, 1);
  if (code != SQLITE_OK) return connection->Error(code, "open");
  TANDEM_RETURN_IF_ERROR(connection->Configure(mode));
  return connection;
}

Connection::~Connection() { sqlite3_close_v2(db_); }

absl::Status Connection::Configure(Mode mode) {
  sqlite3_busy_timeout(db_, kBusyTimeoutMs);
  std::string journal;
  TANDEM_RETURN_IF_ERROR(Run("PRAGMA journal_mode=WAL", {}, [&](const Row& row) { journal = row.Text(0); }));
  if (journal != "wal") {
    return FailedPrecondition("'", path_.string(), "': this file system does not carry SQLite's WAL mode (got '",
                              journal, "'); put --data on a local disk");
  }
  TANDEM_RETURN_IF_ERROR(
      RunScript("PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA trusted_schema=OFF; PRAGMA "
                "journal_size_limit=16000000"));
  return mode == Mode::kReadOnly ? RunScript("PRAGMA query_only=ON") : absl::OkStatus();
}

absl::Status Connection::Run(std::string_view sql, const std::vector<Value>& values,
                             const std::function<void(const Row&)>& row) {
  sqlite3_stmt* raw = nullptr;
  const char* tail = nullptr;
  int code = sqlite3_prepare_v2(db_, sql.data(), static_cast<int>(sql.size()), &raw, &tail);
  Statement statement(raw);
  if (code != SQLITE_OK) return Error(code, sql);
  bool more = sql.substr(tail - sql.data()).find_first_not_of(" \n\t;") != std::string_view::npos;
  if (statement == nullptr || more) return Internal("not exactly one statement: ", sql);
  if (sqlite3_bind_parameter_count(raw) != static_cast<int>(values.size())) {
    return Internal("statement wants ", sqlite3_bind_parameter_count(raw), " values, got ", values.size(), ": ", sql);
  }
  for (size_t i = 0; i < values.size(); ++i) {
    code = Bind(raw, static_cast<int>(i) + 1, values[i]);
    if (code != SQLITE_OK) return Error(code, sql);
  }
  Row view(raw);
  while ((code = sqlite3_step(raw)) == SQLITE_ROW) {
    if (row) row(view);
  }
  return code == SQLITE_DONE ? absl::OkStatus() : Error(code, sql);
}

absl::Status Connection::RunScript(std::string_view sql) {
  int code = sqlite3_exec(db_, std::string(sql).c_str(), nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : Error(code, sql);
}

absl::Status Connection::InTransaction(std::string_view begin,
                                       const std::function<absl::Status(Store::Transaction&)>& body) {
  TANDEM_RETURN_IF_ERROR(RunScript(begin));
  ConnectionTransaction transaction(this);
  absl::Status status = CatchToStatus("database transaction", [&] { return body(transaction); });
  if (status.ok()) status = RunScript("COMMIT");
  // SQLite has rolled back by itself after some errors (a full disk); then autocommit is on again.
  if (!status.ok() && sqlite3_get_autocommit(db_) == 0) {
    absl::Status undone = RunScript("ROLLBACK");
    if (!undone.ok()) return Annotate(undone, StrCat("rolling back after: ", MessageOf(status)));
  }
  return status;
}

int64_t Connection::LastInsertId() const { return sqlite3_last_insert_rowid(db_); }
int64_t Connection::Changes() const { return sqlite3_changes64(db_); }

absl::Status Connection::Error(int code, std::string_view what) const {
  std::string message = StrCat("database '", path_.string(), "': ", sqlite3_errmsg(db_));
  int os_error = sqlite3_system_errno(db_);
  switch (code & 0xff) {
    case SQLITE_FULL:
      return ResourceExhausted(message, "; free some space on its disk and try again, nothing was changed");
    case SQLITE_IOERR:
      if (os_error == ENOSPC || os_error == EDQUOT) return ErrnoStatus(os_error, message);
      return Internal(message, " (", what, "); look at the system's log for disk errors");
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return FailedPrecondition(message,
                                "; the file is damaged: restore it from a backup, or move it away to begin anew");
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return Unavailable(message, "; another process holds the file open");
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return PermissionDenied(message, "; the file must be writable for this user");
    case SQLITE_CANTOPEN:
      return os_error != 0 ? ErrnoStatus(os_error, message) : FailedPrecondition(message);
    case SQLITE_CONSTRAINT:
      if (code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY) return AlreadyExists(message);
      return FailedPrecondition(message);
    case SQLITE_NOMEM:
      return absl::ResourceExhaustedError("no memory left for the database");
    default:
      return Internal(message, " (", what, ")");
  }
}

}  // namespace tandem::storage
