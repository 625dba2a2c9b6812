#pragma once
// Who used what: CPU seconds, memory hours, disk bytes and requests per job, model and side, summed by UTC day.
// The daemon adds what it measured since its last call, about every 10 s; a kill loses at most that.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/store.h"

namespace tandem::accounting {

struct Amount {
  double cpu_seconds = 0;
  double memory_byte_seconds = 0;
  double disk_read_bytes = 0, disk_written_bytes = 0;
  double requests = 0;
};
struct Entry {
  std::string side;  // "serving", "training"
  std::string kind;  // "job", "model", "server"
  std::string name;  // "3 (fashion)", "fashion/2", "tandemd"
  Amount amount;     // since the last call
};
// The account of one model's version.
Entry ModelEntry(std::string_view model, int32_t version, const Amount& amount);
struct Row {
  std::string day;  // "2026-11-21"; "" when days were added up
  std::string side, kind, name;
  Amount amount;
};
struct Query {
  int64_t from_ms = 0, to_ms = 0;  // whole days that touch [from, to); 0 = without this end
  std::string side, kind, name;    // "" = any
  bool by_day = false;
  bool by_name = true;  // false: one row a side (kind and name are "")
};

const std::vector<storage::Migration>& Migrations();  // ids 500..

// Thread-safe.
class Accounting {
 public:
  // Days older than keep_days are removed, at the first Add of a day; but none while all before that day are older, as
  // a clock that is years ahead makes them.
  static absl::StatusOr<std::unique_ptr<Accounting>> Open(storage::Store* store, int keep_days = 400);
  virtual ~Accounting() = default;
  // One transaction, on the UTC day of now_ms. What is no number above 0 adds nothing; entries without any cost
  // nothing. Not to be called inside a transaction of the store.
  virtual absl::Status Add(int64_t now_ms, const std::vector<Entry>& entries) = 0;
  // Added by the next Add that succeeds, beside its entries: for what is known once, when it happens. Waits for no
  // disk.
  virtual void Note(Entry entry) = 0;
  // By day, then side, then the most CPU seconds first. InvalidArgument when the time asked for is empty.
  virtual absl::StatusOr<std::vector<Row>> Read(const Query& query) const = 0;
};

}  // namespace tandem::accounting
