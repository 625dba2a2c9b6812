#include "daemon/gate_record.h"

#include <algorithm>
#include <utility>

namespace tandem::daemon {
namespace {

GateStep StepOf(int from, int to) {
  if (to > from) return GateStep::kOpened;
  return to > 0 ? GateStep::kNarrowed : GateStep::kClosed;
}

}  // namespace

std::string_view GateStepName(GateStep step) {
  switch (step) {
    case GateStep::kClosed:
      return "closed";
    case GateStep::kNarrowed:
      return "narrowed";
    case GateStep::kOpened:
      return "opened";
  }
  return "";
}

void GateRecord::Add(int64_t unix_ms, const scheduling::GateSnapshot& seen, const scheduling::GateDecision& decided) {
  const GateStep step = StepOf(seen.allowed, decided.allowed);
  std::string reason = scheduling::ReasonWithFigures(seen, decided);
  std::lock_guard lock(mutex_);
  ++totals_[static_cast<size_t>(step)];
  auto same = std::find_if(entries_.rbegin(), entries_.rend(), [&](const Entry& entry) {
    return entry.change.step == step && entry.why == decided.reason;
  });
  Entry entry{{.step = step, .first_ms = unix_ms, .from = seen.allowed}, decided.reason};
  // A clock that was set back begins a new entry.
  if (same != entries_.rend() && unix_ms >= same->change.first_ms && unix_ms - same->change.first_ms < kMergedMillis) {
    entry = std::move(*same);
    entries_.erase(std::next(same).base());
  }
  entry.change.last_ms = unix_ms;
  entry.change.times += 1;
  entry.change.to = decided.allowed;
  entry.change.reason = std::move(reason);
  entries_.push_back(std::move(entry));
  if (entries_.size() > kKept) entries_.pop_front();
}

std::vector<GateChange> GateRecord::Changes() const {
  std::lock_guard lock(mutex_);
  std::vector<GateChange> changes;
  changes.reserve(entries_.size());
  for (auto entry = entries_.rbegin(); entry != entries_.rend(); ++entry) changes.push_back(entry->change);
  return changes;
}

uint64_t GateRecord::Total(GateStep step) const {
  std::lock_guard lock(mutex_);
  return totals_[static_cast<size_t>(step)];
}

}  // namespace tandem::daemon
