#pragma once
// Registered models as text for people.
#include <string>

#include "api.pb.h"
#include "tandem/terminal.h"

namespace tandem::cli {

// Versions, signature, configuration, canary and shadow with their figures, approvals, what was measured on each
// engine, and the history.
std::string ModelText(const wire::Model& model, double now_unix_ms, const Style& style);
// What was measured of one version on each engine (ModelVersion.engine_report), as a table; "" if it cannot be read.
std::string EngineReportText(const std::string& report, const Style& style);
// Canary and shadow as they are now; "" if there are none.
std::string SplitText(const wire::TrafficSplit& split, double now_unix_ms, const Style& style);
// "champion, challenger".
std::string AliasesOf(const wire::ModelVersion& version);
// What versions are compared by: "accuracy 0.91, loss 0.3".
std::string MetricsOf(const wire::ModelVersion& version);

}  // namespace tandem::cli
