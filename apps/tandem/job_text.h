#pragma once
// Jobs, running and recurring, as text for people: rows, one-line progress, full description.
#include <string>

#include "api.pb.h"
#include "tandem/terminal.h"

namespace tandem::cli {

Table JobTable();
void AddJobRow(const wire::Job& job, double now_unix_ms, const Style& style, Table* table);
// All fields, the spec last.
std::string JobText(const wire::Job& job, double now_unix_ms, const Style& style);

// Share of the work that is done, 0..1; -1 while unknown.
double FractionDone(const wire::Progress& progress);
// "epoch 3/10 ━━━━━─────  45%  loss 0.412  accuracy 91.2%  12,340 images/s  ETA 12.0 s", at most `columns` wide.
std::string ProgressLine(const wire::Job& job, int columns, const Style& style);
// "job 3 succeeded: fashion/2, accuracy 0.913, loss 0.24 (deploy: promoted, ...)".
std::string Outcome(const wire::Job& job, const Style& style);

// Why a job that does not run waits; "" for one that runs or has ended.
std::string WaitReason(const wire::Job& job);
// What the job waits for, what would start it, and what happened to it.
std::string ExplanationText(const wire::JobExplanation& explanation, double now_unix_ms, const Style& style);

std::string RecurringListText(const wire::RecurringList& list, double now_unix_ms, const Style& style);
// All fields, the spec last.
std::string RecurringText(const wire::RecurringJob& recurring, double now_unix_ms, const Style& style);
// "recurring job 2 (nightly) runs next 2026-11-21 22:00 (in 3 h)".
std::string RecurringOutcome(const wire::RecurringJob& recurring, double now_unix_ms);

}  // namespace tandem::cli
