#include "jobs/recurring_runs.h"

#include <set>
#include <string>
#include <utility>

#include "base/status.h"
#include "telemetry/log.h"

namespace tandem::jobs {
namespace {

enum class Turn { kNow, kNever, kLater };

// Whether the run may be submitted; `note` says what the overlap rule did. Cancels the former if the rule says so.
Turn TurnOf(const DueRun& due, JobStore* jobs, std::string* note) {
  const RecurringRecord& record = due.record;
  absl::StatusOr<JobRecord> former = jobs->Get(record.last_job);
  if (record.last_job == 0 || !former.ok() || IsEnd(former->state) || record.overlap == "queue") return Turn::kNow;
  if (record.overlap == "skip") {
    if (due.made_up) return Turn::kLater;
    *note = StrCat("skipped: job ", former->id, " of the time before is still ", StateName(former->state));
    return Turn::kNever;
  }
  absl::Status cancelled = jobs->RequestCancel(former->id);
  if (absl::IsFailedPrecondition(cancelled)) return Turn::kNow;  // it ended meanwhile
  *note = cancelled.ok() ? StrCat("job ", former->id, " of the time before was cancelled")
                         : StrCat("skipped: job ", former->id,
                                  " of the time before could not be cancelled: ", MessageOf(cancelled));
  return cancelled.ok() ? Turn::kNow : Turn::kNever;
}

}  // namespace

void SubmitDueRuns(RecurringStore* recurring, JobStore* jobs, const SubmitRun& submit) {
  std::set<int32_t> waiting;  // recurring jobs whose next run waits
  for (DueRun& due : recurring->Due()) {
    const int32_t id = due.record.id;
    if (waiting.contains(id)) continue;
    // Its last job may be of a run that was due just before.
    absl::StatusOr<RecurringRecord> now = recurring->Get(id);
    if (!now.ok()) continue;  // deleted meanwhile
    due.record = *std::move(now);
    std::string note;
    const Turn turn = TurnOf(due, jobs, &note);
    if (turn == Turn::kLater) {
      waiting.insert(id);
      continue;
    }
    int32_t job = 0;
    if (turn == Turn::kNow) {
      absl::StatusOr<int32_t> submitted = submit(due);
      if (submitted.ok()) {
        job = *submitted;
      } else {
        note = StrCat("could not be submitted: ", MessageOf(submitted.status()));
      }
    }
    if (!note.empty()) Log(LogLevel::kWarning, "recurring job", {{"recurring", id}, {"note", note}});
    absl::Status handled = recurring->Handled(id, due.due_ms, job, note);
    if (!handled.ok()) Log(LogLevel::kError, "recurring job", {{"recurring", id}, {"error", MessageOf(handled)}});
  }
}

}  // namespace tandem::jobs
