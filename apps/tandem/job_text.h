#pragma once
// Jobs and served models as text for people: rows, one-line progress, full description.
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

Table ServedTable(const wire::Status& status);

}  // namespace tandem::cli
