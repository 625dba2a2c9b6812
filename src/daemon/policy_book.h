#pragma once
// The sharing document, its history, and what the policy decided by itself: durable. What the fast gate changed: in
// memory.
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "daemon/gate_record.h"
#include "scheduling/policy.h"
#include "storage/store.h"

namespace tandem::daemon {

struct PolicyRevision {
  int32_t revision = 0;
  int64_t when_ms = 0;
  std::string who, why, text;  // text: canonical YAML
  bool from_settings = false;
};
struct KeptDecision {
  int64_t when_ms = 0;
  scheduling::Decision decision;
};

const std::vector<storage::Migration>& PolicyMigrations();  // ids 600..

// Thread-safe.
class PolicyBook {
 public:
  static constexpr size_t kKeptDecisions = 1000;

  // `settings_text`: what the settings file says. It becomes a revision when it is not what the settings last said:
  // a change that was made live holds over restarts until the file changes.
  static absl::StatusOr<std::unique_ptr<PolicyBook>> Open(storage::Store* store, Clock* clock,
                                                          const std::string& settings_text);

  PolicyRevision Current() const;
  std::vector<PolicyRevision> History() const;  // newest first
  // NotFound names the revisions that there are. 0 = the one before the current.
  absl::StatusOr<PolicyRevision> Get(int32_t revision) const;
  // Durable when it returns.
  absl::StatusOr<PolicyRevision> Add(std::string_view text, std::string_view who, std::string_view why,
                                     bool from_settings = false);

  // Kept in memory at once, on disk by the next Flush; the newest kKeptDecisions stay.
  void Decided(const scheduling::Decision& decision);
  std::vector<KeptDecision> Decisions() const;  // newest first
  absl::Status Flush();
  GateRecord& gate() { return gate_; }

 private:
  PolicyBook(storage::Store* store, Clock* clock) : store_(store), clock_(clock) {}
  absl::Status Load();

  storage::Store* const store_;
  Clock* const clock_;
  GateRecord gate_;
  mutable std::mutex mutex_;
  std::vector<PolicyRevision> revisions_;  // guarded by mutex_; oldest first, never empty after Open
  std::deque<KeptDecision> decisions_;     // guarded by mutex_; oldest first
  size_t unflushed_ = 0;                   // guarded by mutex_; the newest so many
};

}  // namespace tandem::daemon
