#include "daemon/policy_book.h"

#include <algorithm>

#include "base/status.h"

namespace tandem::daemon {
namespace {

using storage::Row;
using Transaction = storage::Store::Transaction;

}  // namespace

const std::vector<storage::Migration>& PolicyMigrations() {
  static const auto* const kMigrations = new std::vector<storage::Migration>{
      {600,
       "CREATE TABLE policy_revisions (revision INTEGER PRIMARY KEY AUTOINCREMENT, when_ms INTEGER NOT NULL,"
       " who TEXT NOT NULL, why TEXT NOT NULL, text TEXT NOT NULL, from_settings INTEGER NOT NULL) STRICT;"
       "CREATE TABLE policy_decisions (id INTEGER PRIMARY KEY AUTOINCREMENT, when_ms INTEGER NOT NULL,"
       " what TEXT NOT NULL, before REAL NOT NULL, after REAL NOT NULL, reason TEXT NOT NULL) STRICT;"},
  };
  return *kMigrations;
}

absl::StatusOr<std::unique_ptr<PolicyBook>> PolicyBook::Open(storage::Store* store, Clock* clock,
                                                             const std::string& settings_text) {
  std::unique_ptr<PolicyBook> book(new PolicyBook(store, clock));
  TANDEM_RETURN_IF_ERROR(book->Load());
  std::vector<PolicyRevision> history = book->History();
  auto said = std::find_if(history.begin(), history.end(), [](const auto& entry) { return entry.from_settings; });
  if (said == history.end() || said->text != settings_text) {
    std::string_view why = said == history.end() ? "the first start" : "the settings changed";
    TANDEM_RETURN_IF_ERROR(book->Add(settings_text, "settings", why, true).status());
  }
  return book;
}

absl::Status PolicyBook::Load() {
  return store_->Read([this](Transaction& transaction) -> absl::Status {
    std::lock_guard lock(mutex_);
    TANDEM_RETURN_IF_ERROR(transaction.Query(
        "SELECT revision, when_ms, who, why, text, from_settings FROM policy_revisions ORDER BY revision", {},
        [this](const Row& row) {
          revisions_.push_back({.revision = static_cast<int32_t>(row.Int(0)),
                                .when_ms = row.Int(1),
                                .who = row.Text(2),
                                .why = row.Text(3),
                                .text = row.Text(4),
                                .from_settings = row.Int(5) != 0});
        }));
    return transaction.Query(
        "SELECT when_ms, what, before, after, reason FROM policy_decisions ORDER BY id", {}, [this](const Row& row) {
          decisions_.push_back({row.Int(0), {row.Text(1), row.Double(2), row.Double(3), row.Text(4)}});
        });
  });
}

PolicyRevision PolicyBook::Current() const {
  std::lock_guard lock(mutex_);
  return revisions_.back();
}

std::vector<PolicyRevision> PolicyBook::History() const {
  std::lock_guard lock(mutex_);
  return {revisions_.rbegin(), revisions_.rend()};
}

absl::StatusOr<PolicyRevision> PolicyBook::Get(int32_t revision) const {
  std::lock_guard lock(mutex_);
  if (revision == 0) {
    if (revisions_.size() < 2) return FailedPrecondition("there is no revision before the current one");
    return revisions_[revisions_.size() - 2];
  }
  for (const PolicyRevision& entry : revisions_) {
    if (entry.revision == revision) return entry;
  }
  return NotFound("policy revision ", revision, " does not exist; there are ", revisions_.front().revision, " to ",
                  revisions_.back().revision, " (tandem policy history)");
}

absl::StatusOr<PolicyRevision> PolicyBook::Add(std::string_view text, std::string_view who, std::string_view why,
                                               bool from_settings) {
  PolicyRevision added{.when_ms = clock_->UnixMillis(),
                       .who = std::string(who),
                       .why = std::string(why),
                       .text = std::string(text),
                       .from_settings = from_settings};
  TANDEM_RETURN_IF_ERROR(store_->Write([&](Transaction& transaction) -> absl::Status {
    TANDEM_RETURN_IF_ERROR(transaction.Execute(
        "INSERT INTO policy_revisions (when_ms, who, why, text, from_settings) VALUES (?, ?, ?, ?, ?)",
        {added.when_ms, added.who, added.why, added.text, int64_t{from_settings}}));
    added.revision = static_cast<int32_t>(transaction.LastInsertId());
    return absl::OkStatus();
  }));
  std::lock_guard lock(mutex_);
  revisions_.push_back(added);
  return added;
}

void PolicyBook::Decided(const scheduling::Decision& decision) {
  std::lock_guard lock(mutex_);
  decisions_.push_back({clock_->UnixMillis(), decision});
  unflushed_ = std::min(unflushed_ + 1, kKeptDecisions);
  while (decisions_.size() > kKeptDecisions) decisions_.pop_front();
}

std::vector<KeptDecision> PolicyBook::Decisions() const {
  std::lock_guard lock(mutex_);
  return {decisions_.rbegin(), decisions_.rend()};
}

absl::Status PolicyBook::Flush() {
  std::vector<KeptDecision> fresh;
  {
    std::lock_guard lock(mutex_);
    if (unflushed_ == 0) return absl::OkStatus();
    fresh.assign(decisions_.end() - static_cast<int64_t>(unflushed_), decisions_.end());
  }
  TANDEM_RETURN_IF_ERROR(store_->Write([&](Transaction& transaction) -> absl::Status {
    for (const KeptDecision& kept : fresh) {
      TANDEM_RETURN_IF_ERROR(transaction.Execute(
          "INSERT INTO policy_decisions (when_ms, what, before, after, reason) VALUES (?, ?, ?, ?, ?)",
          {kept.when_ms, kept.decision.what, kept.decision.from, kept.decision.to, kept.decision.reason}));
    }
    return transaction.Execute("DELETE FROM policy_decisions WHERE id <= (SELECT max(id) FROM policy_decisions) - ?",
                               {static_cast<int64_t>(kKeptDecisions)});
  }));
  std::lock_guard lock(mutex_);
  // Decisions made meanwhile stay for the next time.
  unflushed_ -= std::min(unflushed_, fresh.size());
  return absl::OkStatus();
}

}  // namespace tandem::daemon
