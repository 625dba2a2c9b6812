#pragma once
// The machine's sharing and its accounts as text for people.
#include <string>

#include "api.pb.h"
#include "tandem/terminal.h"

namespace tandem::cli {

// What is in force, the newest decisions, the document.
std::string PolicyText(const wire::PolicyState& state, double now_unix_ms, const Style& style);
// "revision 5 is in force", and what this machine cannot hold of it.
std::string PolicyOutcome(const wire::PolicyState& state, const Style& style);
// One revision with its document.
std::string PolicyChangeText(const wire::PolicyChange& change, double now_unix_ms);
std::string PolicyHistoryText(const wire::PolicyHistory& history, double now_unix_ms, const Style& style);
// "training_share 100.0% -> 50.0%: p99 of fashion is 6.1 ms, above its 5 ms".
std::string DecisionText(const wire::PolicyDecision& decision);

// The columns that the rows fill, with a total below.
std::string UsageText(const wire::UsageReport& report, const Style& style);

}  // namespace tandem::cli
