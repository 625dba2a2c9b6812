#pragma once
// SQLite's C interface wrapped once: connections, statements, errors as absl::Status.
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/store.h"

struct sqlite3;

namespace tandem::storage {

// One connection. Thread-compatible.
class Connection {
 public:
  enum class Mode { kReadWrite, kReadOnly };
  // The file must exist. Sets WAL, synchronous=FULL, foreign keys and the busy time-out.
  static absl::StatusOr<std::unique_ptr<Connection>> Open(const std::filesystem::path& path, Mode mode);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Runs one statement to its end; rows go to `row` if there is one.
  absl::Status Run(std::string_view sql, const std::vector<Value>& values,
                   const std::function<void(const Row&)>& row = nullptr);
  // Runs several statements without values.
  absl::Status RunScript(std::string_view sql);
  // Runs `body` between `begin` and COMMIT; rolled back when either fails or throws.
  absl::Status InTransaction(std::string_view begin, const std::function<absl::Status(Store::Transaction&)>& body);

  int64_t LastInsertId() const;
  int64_t Changes() const;

 private:
  Connection(std::filesystem::path path, sqlite3* db) : path_(std::move(path)), db_(db) {}
  absl::Status Configure(Mode mode);
  // The status of a result code other than SQLITE_OK, with `what` for the log of a programming error.
  absl::Status Error(int code, std::string_view what) const;

  std::filesystem::path path_;
  sqlite3* db_;
};

}  // namespace tandem::storage
