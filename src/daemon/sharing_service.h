#pragma once
// api::Sharing: the policy's document, live, with its history; the recorded load; the accounts.
#include <mutex>

#include "accounting/accounting.h"
#include "api/service.h"
#include "daemon/governor.h"
#include "daemon/housekeeper.h"
#include "daemon/policy_book.h"

namespace tandem::daemon {

struct SharingParts {  // all outlive it
  Clock* clock;
  isolation::Isolation* isolation;
  serving::Serving* serving;
  Governor* governor;
  PolicyBook* book;
  accounting::Accounting* accounting;
  Housekeeper* housekeeper;
  int64_t memory_bytes = 0;         // of the machine, usable
  std::function<void()> on_change;  // wakes the control loop
};

// Thread-safe.
class SharingService : public api::Sharing {
 public:
  explicit SharingService(SharingParts parts) : parts_(std::move(parts)) {}

  wire::PolicyState Show() override;
  wire::PolicyHistory History() override;
  absl::StatusOr<wire::PolicyState> Set(const api::Caller& caller, const wire::SetPolicyRequest& request) override;
  absl::StatusOr<wire::PolicyState> Revert(const api::Caller& caller,
                                           const wire::RevertPolicyRequest& request) override;
  absl::StatusOr<wire::PolicyState> Undo(const api::Caller& caller) override;
  absl::StatusOr<std::string> RecordedLoad(double seconds) override;
  absl::StatusOr<wire::UsageReport> Usage(int64_t from_ms, int64_t to_ms, std::string_view by, std::string_view side,
                                          std::string_view kind) override;

 private:
  absl::Status Adopt(const spec::SharingSpec& sharing, std::string_view who, std::string_view why);
  absl::Status CheckAgainstLoaded(const spec::SharingSpec& sharing) const;

  const SharingParts parts_;
  std::mutex change_mutex_;  // one change at a time: what is in the book last is what is in force
};

}  // namespace tandem::daemon
