#pragma once
// The SQLite store: one file, WAL, synchronous=FULL, one owner process; the modules above bring their own tables.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/paced_writer.h"

struct sqlite3;
struct sqlite3_stmt;

namespace tandem::storage {

// One step of the schema. Migrations of all modules run in order of `id` in one transaction each, once; ids are never
// reused (module jobs: 100.., registry: 200.., data sets: 300.., events: 400..).
struct Migration {
  int id;
  std::string_view sql;
};

// A value bound to or read from a statement.
using Value = std::variant<std::nullptr_t, int64_t, double, std::string>;

class Row {
 public:
  explicit Row(sqlite3_stmt* statement) : statement_(statement) {}
  int64_t Int(int column) const;
  double Double(int column) const;
  std::string Text(int column) const;  // "" for NULL
  bool IsNull(int column) const;

 private:
  sqlite3_stmt* statement_;
};

class Store {
 public:
  // Opens or makes the file, applies migrations, checks integrity. Refuses (FailedPrecondition) a file system over the
  // network, saying which and what to do, and a file of a newer schema.
  static absl::StatusOr<std::unique_ptr<Store>> Open(const std::filesystem::path& path,
                                                     const std::vector<Migration>& migrations);
  virtual ~Store() = default;

  // A transaction in progress; statements run inside it.
  class Transaction {
   public:
    virtual ~Transaction() = default;
    virtual absl::Status Execute(std::string_view sql, const std::vector<Value>& values = {}) = 0;
    virtual absl::Status Query(std::string_view sql, const std::vector<Value>& values,
                               const std::function<void(const Row&)>& row) = 0;
    virtual int64_t LastInsertId() = 0;
    virtual int64_t Changes() = 0;
  };

  // Runs `body` in a transaction: committed (and on disk) when it returns OK, rolled back when it does not.
  // Thread-safe; one at a time. A full disk is ResourceExhausted and leaves the former state.
  virtual absl::Status Write(const std::function<absl::Status(Transaction&)>& body) = 0;
  // The same for reading only; may run beside a writer.
  virtual absl::Status Read(const std::function<absl::Status(Transaction&)>& body) = 0;
};

// Files by content hash, under a folder: put once, never changed. Thread-safe.
class ArtifactStore {
 public:
  // Copies keep to the rate of `pace`, which outlives the store; null = as fast as the disk.
  static absl::StatusOr<std::unique_ptr<ArtifactStore>> Open(const std::filesystem::path& folder,
                                                             PacedWriter* pace = nullptr);
  // Which of `hashes` a store in `folder` lacks. Only looks: makes nothing.
  static std::vector<std::string> MissingFrom(const std::filesystem::path& folder,
                                              const std::vector<std::string>& hashes);
  virtual ~ArtifactStore() = default;

  struct Artifact {
    std::string sha256;
    int64_t bytes = 0;
  };
  // Durable when it returns. Putting the same bytes again is free.
  virtual absl::StatusOr<Artifact> PutBytes(std::string_view data) = 0;
  // Brings a file to the store's own file system, so that AdoptFile does not copy: for whoever must not wait in there.
  // Gives where it is then: `path`, if it was there, else a durable copy, and `path` is gone.
  virtual absl::StatusOr<std::filesystem::path> BringNear(const std::filesystem::path& path) = 0;
  // Moves a file in (same file system: rename; else copy). Hashes it on the way.
  virtual absl::StatusOr<Artifact> AdoptFile(const std::filesystem::path& path) = 0;
  virtual absl::StatusOr<std::filesystem::path> PathOf(std::string_view sha256) const = 0;  // NotFound
  // A folder for what is derived from an artifact (prepared blobs); removed with it.
  virtual std::filesystem::path DerivedFolder(std::string_view sha256) const = 0;
  virtual std::vector<Artifact> List() const = 0;
  // Held by whoever puts an artifact until a record names it (shared), and by whoever removes what no record names
  // (exclusive), so that nothing is removed between the two.
  std::shared_mutex& record_mutex() { return record_mutex_; }
  // Removes the artifact and what was derived from it. REQUIRES: nobody uses it any more (the registry knows).
  virtual absl::Status Remove(std::string_view sha256) = 0;

 private:
  std::shared_mutex record_mutex_;
};

}  // namespace tandem::storage
